"""The texts of ``tl-jax --help`` and ``tl-jax COMMAND --help``."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from tl_jax.cli.options import COMMANDS, COMMON, describe
from tl_jax.config import RunConfig
from tl_jax.data.importers import FORMATS

_OVERVIEW = """\
tl-jax teaches language models to call tools (TL-Training in JAX).

usage: tl-jax <command> --config=NAME_OR_FILE [--config.section.field=value ...] [--dry_run]
       tl-jax <command> --run=DIR             to read a run that is there, or to go on with it
       tl-jax --version

commands:
"""


# Settings whose values have names that the configuration does not know itself.
_NAMES = {"data.format": ("auto", *FORMATS)}


def overview() -> str:
    """Return the text of ``tl-jax --help``."""
    lines = []
    for command in COMMANDS:
        head = describe(command).description.splitlines()[0].removeprefix(f"{command}: ")
        lines.append(f"  {command:9} {head}")
    end = "`tl-jax <command> --help` explains a command and its settings."
    return _OVERVIEW + "\n".join(lines) + f"\n\n{end}"


def page(command: str) -> str:
    """Return the text of ``tl-jax COMMAND --help``: what it does, its flags, every setting."""
    lines = [describe(command).description.strip(), "", "flags:"]
    for name, (default, text) in {**COMMON, **describe(command).flags}.items():
        value = default[0] if isinstance(default, tuple) else default
        shown = f" (default {value})" if value else ""
        choices = [repr(choice) for choice in default] if isinstance(default, tuple) else []
        words = f", one of {', '.join(choices)}" if choices else ""
        lines.append(f"  --{name}: {text}{words}{shown}")
    lines += ["", "settings (--config.NAME=VALUE), with defaults:"]
    lines += _section(RunConfig(), "")
    return "\n".join(lines)


def _section(config: Any, prefix: str) -> list[str]:
    """Return what a section is for, its settings, and the sections in it."""
    meaning = (inspect.getdoc(type(config)) or "").replace("``", "").splitlines()
    lines, sections = ["", *(f"  {line}".rstrip() for line in meaning)], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            sections += _section(value, f"{prefix}{field.name}.")
        else:
            choices = field.metadata.get("choices", ()) or _NAMES.get(prefix + field.name, ())
            many = "some" if isinstance(value, tuple) else "one"
            words = f"  {many} of {', '.join(choices)}" if choices else ""
            lines.append(f"    {prefix}{field.name}={value}{words}")
    return lines + sections
