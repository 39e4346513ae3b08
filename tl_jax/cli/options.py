"""What a command takes: its docstring and flags stand in its file and are read without running it.

``FLAGS`` of a command's file is a literal: name -> (default, help). The default tells the type: a
text, a whole number, True or False, a list (words by commas), or a tuple of choices, the first of
which is the default. ``WITHOUT_RUN`` names the flags (or flag=value) by which a command is about
files and needs no run.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from tl_jax.config import RunConfig
from tl_jax.errors import ConfigError

COMMANDS = ("prepare", "inspect", "train", "evaluate", "generate", "convert", "report", "run")
COMMON = {
    "config": ("", "a shipped configuration by name, or a .py, .yaml or .json file"),
    "run": ("", "directory of a run that is there, in place of --config"),
    "dry_run": (False, "print the resolved plan and stop"),
}


class Command(NamedTuple):
    """What the file of a command says about it."""

    description: str
    flags: Mapping[str, tuple[Any, str]]
    without_run: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What the user typed after the command.

    Attributes:
      config: Value of ``--config``, or empty.
      run_dir: Value of ``--run``, or empty.
      dry_run: Whether only the plan is wanted.
      settings: The words ``--config.NAME=VALUE``, as typed.
      options: The command's own flags by name, defaults filled in.
      without_run: Whether a flag makes the command one about a file.
    """

    config: str
    run_dir: str
    dry_run: bool
    settings: Sequence[str]
    options: Mapping[str, Any]
    without_run: bool


@functools.cache
def describe(command: str) -> Command:
    """Return what a command's file says about it, without importing it (and JAX with it)."""
    spec = importlib.util.find_spec(f"tl_jax.cli.{command}")
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    found = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    known = ast.literal_eval(found["FLAGS"]) if "FLAGS" in found else {}
    without_run = ast.literal_eval(found["WITHOUT_RUN"]) if "WITHOUT_RUN" in found else ()
    return Command(ast.get_docstring(tree) or "", known, without_run)


def parse(command: str, words: Sequence[str]) -> Arguments:
    """Read the words after a command.

    Raises:
      ConfigError: An unknown flag (with the nearest one, or the commands that take it), a value of
        the wrong type, or a word that is no flag.
    """
    known = {**COMMON, **describe(command).flags}
    settings, rest = _settings(words)
    values = flags.FlagValues()
    for name, (default, text) in known.items():
        _define(values, name, default, text)
    try:
        left = values(["tl-jax", *rest], known_only=True)[1:]
    except flags.Error as error:
        raise ConfigError(str(error)) from error
    if left:
        raise ConfigError(_unknown(command, left[0], list(known)))
    options = {name: values[name].value for name in describe(command).flags}
    without_run = any(_holds(options, flag) for flag in describe(command).without_run)
    return Arguments(values.config, values.run, values.dry_run, settings, options, without_run)


def _holds(options: Mapping[str, Any], flag: str) -> bool:
    name, equals, value = flag.partition("=")
    return options[name] == value if equals else bool(options[name])


def nearest(name: str, names: Sequence[str]) -> str:
    """Return ``"; did you mean X?"``, or nothing if no name is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the words into settings of the configuration and all others."""
    settings, rest = [], []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        bare = word.lstrip("-").partition("=")[0]
        if not (word.startswith("-") and bare.startswith(("config.", "noconfig."))):
            rest.append(word)
            continue
        valued = "=" in word or bare.startswith("noconfig.")
        if not valued and remaining and not remaining[0].startswith("--"):
            # absl's other way to write it: the value as a word of its own.
            word = f"{word}={remaining.pop(0)}"
        settings.append(word)
    return settings, rest


def _define(values: flags.FlagValues, name: str, default: Any, text: str) -> None:
    if isinstance(default, tuple):
        flags.DEFINE_enum(name, default[0], list(default), text, flag_values=values)
    elif isinstance(default, bool):
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, default, text, flag_values=values)
    elif isinstance(default, list):
        flags.DEFINE_list(name, default, text, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def _unknown(command: str, word: str, known: list[str]) -> str:
    name = word.lstrip("-").partition("=")[0]
    if not word.startswith("-"):
        return f"`tl-jax {command}` does not take {word!r}; flags are written --name=value"
    name = name.removeprefix("no") if name not in known and name[2:] in _all_flags() else name
    owners = [f"`tl-jax {other}`" for other in COMMANDS if name in describe(other).flags]
    if owners:
        return f"--{name} is a flag of {' and '.join(owners)}; `tl-jax {command}` does not take it"
    if meant := [path for path in _paths(RunConfig()) if f".{path}".endswith(f".{name}")]:
        ways = " or ".join(f"--config.{path}=VALUE" for path in meant)
        return f"unknown flag --{name}; settings are written {ways}"
    return f"unknown flag --{name}{nearest(f'--{name}', [f'--{flag}' for flag in known])}"


def _paths(config: Any, before: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}"


def _all_flags() -> set[str]:
    return {name for command in COMMANDS for name in describe(command).flags}
