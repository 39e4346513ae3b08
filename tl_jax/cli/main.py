"""The command line: ``tl-jax COMMAND --config=NAME_OR_FILE [--config.section.field=value]``."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import logging
import os
import sys
import traceback
from typing import Any

import absl.logging
from absl import flags
from rich.console import Console

import tl_jax
from tl_jax.cli import help as help_lib
from tl_jax.cli.options import COMMANDS, Arguments, nearest, parse
from tl_jax.config.places import check_place
from tl_jax.errors import ConfigError, Stopped, TlJaxError
from tl_jax.parallel import host_memory
from tl_jax.screen import ShownLog, screen, visible

# Commands that begin or continue a run; the others read one that is there.
_WRITERS = ("prepare", "inspect", "train", "run")
# Those of them that read the sources of the data; inspect does if none are prepared.
_PREPARE = ("prepare", "run")
_COMPUTE = ("train", "run", "evaluate", "generate")
# What the system refuses, and what to do then.
_AGAIN = "then run the same command again, it goes on from what is saved"
_REFUSALS = {
    errno.ENOSPC: f"free some space, {_AGAIN}",
    errno.EDQUOT: f"free some space or raise the quota, {_AGAIN}",
    errno.EROFS: "give a place that can be written, with --config.run_dir or --target",
    errno.EACCES: "give yourself the right to it, or another place",
    errno.ENOTDIR: "a part of this path is a file; give another place",
    errno.EISDIR: "give the path of a file",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: f"look at the disk and its connection, {_AGAIN}",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {_AGAIN}",
}
# Flags whose texts are never paths.
_NO_PLACES = ("prompt",)
# Flag of those that write which is about the run, not about the command.
_FORCE = "force"


def run() -> None:
    """Entry point of the ``tl-jax`` script: 0 done, 1 a fault, 2 to be mended, 3 stopped."""
    # transformers is used for tokenizers only; its note that PyTorch is absent would mislead.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    host_memory.keep_freed()
    console = screen()
    try:
        main(sys.argv[1:], console)
    except Stopped as stopped:
        _tell(console, str(stopped))
        sys.exit(3)
    except TlJaxError as error:
        _tell(console, f"tl-jax: {error}")
        _leave(2)
    except KeyboardInterrupt:
        _tell(console, "tl-jax: interrupted; the same command goes on")
        _leave(130)
    except Exception as error:
        if refused := system_refusal(error):
            _tell(console, f"tl-jax: {refused}")
            _leave(2)
        sys.stderr.write(visible("".join(traceback.format_exception(error))))
        _tell(
            console,
            f"tl-jax {tl_jax.__version__}: this is a fault of tl_jax, not of your settings; "
            "please report it with the lines above and the run's config.json and versions.json",
        )
        _leave(1)


def _tell(console: Console, text: str) -> None:
    """Print how a command ended, also where the standard output takes no more."""
    try:
        console.print(text, markup=False)
    except OSError:
        sys.stderr.write(visible(f"{text}\n"))


def main(words: list[str], console: Console) -> None:
    """Run the command that ``words`` spell.

    Raises:
      TlJaxError: Something the user can mend.
      SystemExit: Help or the version was asked for.
    """
    if not words or words[0] in ("-h", "--help", "help"):
        console.print(help_lib.overview(), markup=False)
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        console.print(f"tl-jax {tl_jax.__version__}", markup=False)
        sys.exit(0)
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        raise ConfigError(f"unknown command {command}{hint}")
    if any(word in ("-h", "--help") for word in rest):
        console.print(help_lib.page(command), markup=False)
        sys.exit(0)
    if command == "report" and rest and not rest[0].startswith("-"):
        rest = [f"--topic={rest[0]}", *rest[1:]]
    arguments = parse(command, rest)
    _quiet()
    with contextlib.ExitStack() as writing:
        opened = open_run(command, arguments, writing)
        module = importlib.import_module(f"tl_jax.cli.{command}")
        options = dict(arguments.options)
        if command in _WRITERS:
            options.pop(_FORCE, None)
        if not arguments.dry_run:
            module.main(opened, console, **options)
        elif arguments.without_run or command == "convert":
            module.show_plan(opened, console, **options)
        else:
            importlib.import_module("tl_jax.aot.plan").show(opened, command, console)


def open_run(command: str, arguments: Arguments, writing: contextlib.ExitStack) -> Any:
    """Return the run that a command is about, everything checked that needs no data.

    Commands that begin or continue a run then leave its settings and versions in its directory, and
    nobody else writes there until ``writing`` is left. A command that is about a file and not about
    a run gets None, or a run of which only the settings are there.

    Raises:
      ConfigError: No configuration, settings that do not fit, the directory holds no run where one
        is to be read, or one that was trained with other settings.
    """
    from tl_jax.cli.settings import read_config

    for name, place in arguments.options.items():
        if name not in _NO_PLACES:
            check_place(f"--{name}", place)
    run_dir = arguments.run_dir
    model = arguments.options.get("model", "")
    if arguments.without_run and not arguments.config and not arguments.run_dir and not model:
        return None
    from tl_jax.run.bucket import is_bucket

    if is_bucket(run_dir):
        run_dir = _brought_here(command, run_dir, arguments.dry_run, writing)
    check_place("--run", run_dir)
    config = read_config(arguments.config, run_dir, arguments.settings, model)
    if is_bucket(config.run_dir) and not arguments.without_run:
        here = _brought_here(command, config.run_dir, arguments.dry_run, writing)
        config = dataclasses.replace(config, run_dir=here)
    from tl_jax.data.prepare.files import EXAMPLES
    from tl_jax.models import registry
    from tl_jax.parallel.mesh import start_distributed
    from tl_jax.run.directory import Run
    from tl_jax.train.validate import check_model_source, checked

    if config.ablation.seeds and command != "run":
        raise ConfigError(
            "config.ablation is for `tl-jax run`; the other commands take --run=DIR of one of its "
            f"parts in {config.run_dir}/parts"
        )
    forced = command in _WRITERS and bool(arguments.options.get(_FORCE))
    opened = Run(config, force=forced)
    if arguments.without_run:
        if model and model != "embedded":
            if not os.path.isdir(model):
                raise ConfigError(
                    f"--model: no directory {model}; give one in Hugging Face's form (`tl-jax "
                    "convert --source=FILE.gguf --target=DIR` makes one of a GGUF file, `hf "
                    "download NAME --local-dir DIR` fetches one of the Hub)"
                )
            check_model_source(config)
            registry.read_config(model)  # what is no model is told before its tokenizer is read
        return opened
    start_distributed()
    begun = (opened.run_dir / "config.json").exists()
    if command not in _WRITERS and not begun and not arguments.dry_run:
        raise ConfigError(
            f"{config.run_dir} holds no run; give --run=DIR of one, or begin it with `tl-jax run` "
            "or `tl-jax prepare`"
        )
    prepares = command in _PREPARE or (
        command == "inspect" and not (opened.data_dir / EXAMPLES).exists()
    )
    checks = checked(
        opened,
        prepares=prepares,
        computes=command in _COMPUTE,
        writes=(prepares or command == "train") and not arguments.dry_run,
    )
    writing.enter_context(checks)
    return opened


def _brought_here(command: str, place: str, dry_run: bool, writing: contextlib.ExitStack) -> str:
    """Return the folder in which a run on a bucket is worked on until ``writing`` is left."""
    import jax

    from tl_jax.parallel.mesh import start_distributed
    from tl_jax.run.mirror import mirrored

    start_distributed()
    if jax.process_count() > 1:
        raise ConfigError(
            f"{place}: several processes need one directory that all of them see; mount the bucket "
            "(gcsfuse, mount-s3) and give the path below the mount; launch/README.md does it"
        )
    begins = command in _WRITERS and command != "inspect" and not dry_run
    folder = writing.enter_context(mirrored(place, writes=begins, sends=not dry_run))
    if command not in _WRITERS and not (folder / "config.json").exists():
        raise ConfigError(f"{place} holds no run; begin it with `tl-jax run` or `tl-jax prepare`")
    screen().print(f"{place} is worked on in {folder}", markup=False)
    return str(folder)


def system_refusal(error: BaseException) -> str:
    """Return what the system refused, with the mend, if that is what went wrong; else nothing.

    Libraries wrap such errors in ones of their own, or leave the words of the system only.
    """
    causes: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in causes:
        causes.append(one)
        one = one.__cause__ or one.__context__
    for cause in causes:
        for number, mend in _REFUSALS.items():
            words = os.strerror(number)
            if isinstance(cause, OSError) and cause.errno == number:
                file = f"{cause.filename}: " if cause.filename else ""
                return f"{file}{words}; {mend}"
            if not isinstance(cause, OSError) and words in str(cause):
                return f"{words} ({type(cause).__name__}); {mend}"
    return ""


def _quiet() -> None:
    # Names of files, and what a library says of them, come from anywhere.
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[ShownLog()])
    # Grain and Orbax read absl's flags, which nobody parses here, and log a line for every file.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    absl.logging.set_verbosity(absl.logging.WARNING)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)


def _leave(status: int) -> None:
    """End this process, at once if it is one of several, which would wait for it."""
    if "jax" in sys.modules:
        from tl_jax.parallel import processes

        processes.leave(status)
    sys.exit(status)
