"""The command line: ``tl-jax <stage> --config=configs/NAME.py [--config.section.field=value]``."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import os
import sys
import traceback
from typing import Any

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from tl_jax.config import RunConfig
from tl_jax.config.fields import check_path, from_dict, to_dict
from tl_jax.errors import ConfigError, Stopped, TlJaxError
from tl_jax.parallel import host_memory

STAGES = ("prepare", "inspect", "train", "evaluate", "generate", "convert", "report", "run")
OVERVIEW = """\
tl-jax teaches language models to call tools (TL-Training in JAX).

usage: tl-jax <stage> --config=configs/NAME.py [--config.section.field=value ...] [--dry_run]

stages:
"""
# Stages that begin or continue a run; the others read one that is there.
_WRITERS = ("prepare", "inspect", "train", "run")
# Flags beside --config and --dry_run, by the stage that reads them.
_FLAGS = {
    "inspect": ("example", "html"),
    "evaluate": ("phase",),
    "generate": ("tools", "prompt"),
    "convert": ("source", "target", "dtype", "orbax", "adapter", "force"),
    "report": ("topic", "data", "runs"),
}
# Settings that may change between two commands on one run directory.
_FREE = ("evaluate.", "checkpoint.", "train.log_every", "train.eval_", "data.prefetch", "mesh.")
# But not where data are prepared: they are kept apart from this set.
_OF_DATA = "evaluate.rotbench_path"

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file (Python).")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the resolved plan and stop.")
_EXAMPLE = flags.DEFINE_integer("example", 1, "inspect: which training example, from 1.")
_HTML = flags.DEFINE_string("html", "", "inspect: write the example as a page to this file, too.")
_PHASE = flags.DEFINE_string("phase", "", "evaluate: before, supervised or reward.")
_TOOLS = flags.DEFINE_string("tools", "", "generate: JSON file with a list of tools.")
_PROMPT = flags.DEFINE_string("prompt", "", "generate: the request.")
_SOURCE = flags.DEFINE_string("source", "", "convert: model to read.")
_TARGET = flags.DEFINE_string("target", "", "convert: directory to write.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "convert: tensor type.")
_ORBAX = flags.DEFINE_bool("orbax", False, "convert: write an Orbax checkpoint.")
_ADAPTER = flags.DEFINE_bool("adapter", False, "convert: write only the adapters, for PEFT.")
_TOPIC = flags.DEFINE_enum(
    "topic", "", ["", "mae", "gain"], "report: `report mae` is short for --topic=mae."
)
_DATA = flags.DEFINE_string("data", "", "report: with mae, the FILE[:FORMAT] to judge.")
_RUNS = flags.DEFINE_list("runs", [], "report: with gain, the directories of runs, by commas.")
_FORCE = flags.DEFINE_bool("force", False, "convert: replace the target if it exists.")


def run() -> None:
    """Entry point of the ``tl-jax`` script."""
    # transformers is used for tokenizers only; its note that PyTorch is absent would mislead.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    host_memory.keep_freed()
    console = Console(soft_wrap=True, highlight=False)
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        console.print(overview(), markup=False)
        sys.exit(0 if arguments else 2)
    stage, rest = arguments[0], arguments[1:]
    if stage not in STAGES:
        console.print(f"unknown stage {stage}\n\n{overview()}", markup=False)
        sys.exit(2)
    if any(argument in ("-h", "--help") for argument in rest):
        console.print(stage_help(stage), markup=False)
        sys.exit(0)
    if stage == "report" and rest and not rest[0].startswith("-"):
        rest = [f"--topic={rest[0]}", *rest[1:]]
    try:
        for argument in rest:
            if argument.startswith("--config."):
                check_path(RunConfig, argument.removeprefix("--config.").partition("=")[0])
    except ConfigError as error:
        _fail(error, console)
    # By default absl lets Orbax write a line for every file; a --verbosity given later wins.
    quiet = "--verbosity=-1"
    app.run(lambda _: _attempt(stage, console), argv=[f"tl-jax {stage}", quiet, *rest])


def _attempt(stage: str, console: Console) -> None:
    """Run ``main``; a failure ends this process at once, also when it is one of several."""
    try:
        main(stage, console)
    except SystemExit as error:
        # 3: stopped in good order, on all processes.
        if error.code in (None, 0, 3):
            raise
        _leave(error.code if isinstance(error.code, int) else 1)
    except Exception as error:
        traceback.print_exception(error)
        _leave(1)


def _leave(status: int) -> None:
    from tl_jax.parallel import processes

    processes.leave(status)


def main(stage: str, console: Console) -> None:
    """Run one stage with the parsed flags; user errors end with their message and status 2."""
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    try:
        _check_flags(stage)
        run = open_run(stage, console)
        module = importlib.import_module(f"tl_jax.cli.{stage}")
        options = _options(stage, module)
        if not _DRY_RUN.value:
            module.main(run, console, **options)
        elif stage == "convert" or options.get("data") or options.get("runs"):
            module.show_plan(run, console, **options)
        else:
            importlib.import_module("tl_jax.aot.plan").show(run, stage, console)
    except Stopped as stopped:
        console.print(str(stopped), markup=False)
        sys.exit(3)
    except (TlJaxError, FileNotFoundError) as error:
        _fail(error, console)


def _check_flags(stage: str) -> None:
    """Refuse a flag of other stages, which would have no effect."""
    for name in dict.fromkeys(name for names in _FLAGS.values() for name in names):
        if flags.FLAGS[name].present and name not in _FLAGS.get(stage, ()):
            owners = " and ".join(f"`tl-jax {s}`" for s, names in _FLAGS.items() if name in names)
            raise ConfigError(f"--{name} is a flag of {owners}; `tl-jax {stage}` does not take it")


def open_run(stage: str, console: Console) -> Any:
    """Return the Run of ``--config``, its directory checked.

    Stages that begin or continue a run leave the settings and versions in it.

    Raises:
      ConfigError: No configuration, texts longer than the model's context, a reward that cannot
        read the template's calls, or the directory holds a run with other settings, or none where
        one is to be read.
    """
    judges_a_file = stage == "report" and bool(_DATA.value)
    if stage == "report" and _TOPIC.value == "gain":
        return None
    if _CONFIG.value is None:
        if stage == "convert" or judges_a_file:
            return None
        raise ConfigError("give --config=configs/NAME.py; see `tl-jax --help`")
    from tl_jax.models import lora, registry
    from tl_jax.parallel.mesh import start_distributed
    from tl_jax.run import record
    from tl_jax.run.directory import Run, check_reward

    try:
        values = _CONFIG.value.to_dict()
    except OSError as error:
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        raise ConfigError(f"--config: cannot read {name}; give the path of a .py file") from error
    config = from_dict(RunConfig, values)
    lora.check(config)
    start_distributed()
    run = Run(config)
    if judges_a_file:
        return run
    if stage in _WRITERS:
        check_reward(config)
    if stage not in ("convert", "report") and (run.model_dir / "config.json").exists():
        registry.check_lengths(config, run.model)
    if not _DRY_RUN.value:
        if stage not in _WRITERS and not (run.run_dir / "config.json").exists():
            raise ConfigError(
                f"{config.run_dir} holds no run; give the --config.run_dir of one, or begin it "
                "with `tl-jax run` or `tl-jax prepare`"
            )
        fixed = [
            name
            for name in record.changed_settings(config.run_dir, to_dict(config))
            if not name.startswith(_FREE) or (name == _OF_DATA and stage in _WRITERS)
        ]
        if fixed:
            hint = "; `tl-jax evaluate` may score another set" if fixed == [_OF_DATA] else ""
            raise ConfigError(
                f"{config.run_dir} holds a run with other settings ({', '.join(fixed[:5])}); "
                f"give another --config.run_dir, or delete that directory{hint}"
            )
        if stage in _WRITERS:
            record.write_config(config.run_dir, to_dict(config))
            record.write_versions(config.run_dir)
    return run


def overview() -> str:
    """Return the text of ``tl-jax --help``."""
    lines = []
    for stage in STAGES:
        head = _docstring(stage).splitlines()[0].removeprefix(f"{stage}: ")
        lines.append(f"  {stage:9} {head}")
    return (
        OVERVIEW
        + "\n".join(lines)
        + "\n\n`tl-jax <stage> --help` explains a stage and its settings."
    )


def stage_help(stage: str) -> str:
    """Return the text of ``tl-jax <stage> --help``: what it does, its flags, every setting."""
    lines = [_docstring(stage).strip(), "", "flags:"]
    for name in ("config", "dry_run", *_FLAGS.get(stage, ())):
        flag = flags.FLAGS[name]
        default = f" (default {flag.default})" if flag.default else ""
        lines.append(f"  --{name}: {flag.help.replace(f'{stage}: ', '')}{default}")
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
            choices = field.metadata.get("choices", ())
            many = "some" if isinstance(value, tuple) else "one"
            words = f"  {many} of {', '.join(choices)}" if choices else ""
            lines.append(f"    {prefix}{field.name}={value}{words}")
    return lines + sections


def _docstring(stage: str) -> str:
    """Read a stage's docstring without importing it (and JAX with it)."""
    import ast
    import importlib.util

    spec = importlib.util.find_spec(f"tl_jax.cli.{stage}")
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return ast.get_docstring(ast.parse(file.read())) or ""


def _options(stage: str, module: Any) -> dict[str, Any]:
    if stage == "inspect":
        return {"number": _EXAMPLE.value, "html_path": _HTML.value}
    if stage == "evaluate":
        return {"phase": _PHASE.value}
    if stage == "generate":
        return {"tools_path": _TOOLS.value, "prompt": _PROMPT.value}
    if stage == "report":
        if _DATA.value and _TOPIC.value != "mae":
            raise ConfigError("--data is for `tl-jax report mae`")
        if bool(_RUNS.value) != (_TOPIC.value == "gain"):
            raise ConfigError("--runs=DIR,DIR,... is for `tl-jax report gain`, which needs it")
        return {"topic": _TOPIC.value, "data": _DATA.value, "runs": _RUNS.value}
    if stage == "convert":
        return {
            "request": module.Request(
                _SOURCE.value,
                _TARGET.value,
                _DTYPE.value,
                _ORBAX.value,
                _ADAPTER.value,
                _FORCE.value,
            )
        }
    return {}


def _fail(error: Exception, console: Console) -> None:
    console.print(f"tl-jax: {error}", markup=False)
    sys.exit(2)
