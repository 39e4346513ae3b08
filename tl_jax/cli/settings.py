"""From ``--config``, ``--run`` and ``--config.NAME=VALUE`` to the configuration of a run."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import operator
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from tl_jax.cli import plain_values, text_list
from tl_jax.cli.options import nearest
from tl_jax.config import RunConfig
from tl_jax.config.fields import check_path, from_dict, renamed, to_dict
from tl_jax.errors import ConfigError, TlJaxError

CONFIG_FILE = "config.json"
_LISTS_OF_NUMBERS = ("ablation.seeds",)


def read_config(source: str, run_dir: str, settings: Sequence[str], model: str = "") -> RunConfig:
    """Return the configuration that the words of a command ask for.

    Args:
      source: Value of ``--config``: the name of a shipped configuration, or a ``.py``, ``.yaml``,
        ``.yml`` or ``.json`` file; behind a colon, what ``get_config`` of a Python file takes.
      run_dir: Value of ``--run``: the directory of a run, whose ``config.json`` is read.
      settings: Words ``--config.NAME=VALUE``.
      model: Value of ``--model``: a model directory, which needs neither of the first two.

    Raises:
      ConfigError: Both or neither are given, a file that is absent or broken, or a setting that is
        unknown or of the wrong type.
    """
    if source and run_dir:
        raise ConfigError("--run takes the configuration of the run; leave --config out")
    if model and (run_dir or source):
        raise ConfigError("--model is scored by itself; leave --run and --config out")
    if model:
        values = {"model": {"path": model}, "run_dir": model}
    elif run_dir:
        path = Path(run_dir) / CONFIG_FILE
        if not path.is_file():
            raise ConfigError(
                f"--run: {run_dir} holds no run (no {CONFIG_FILE}); give its directory"
            )
        # Where a run lies is no setting of it: it may have been moved or copied.
        values = {**_plain(path), "run_dir": run_dir}
    elif source:
        values = load(source)
    else:
        raise ConfigError(
            "give --config=NAME_OR_FILE, or --run=DIR for a run that is there; see `tl-jax --help`"
        )
    return from_dict(RunConfig, _overridden(to_dict(from_dict(RunConfig, values)), settings))


def load(source: str) -> Mapping[str, Any]:
    """Return the settings of a configuration file or of a shipped configuration.

    Raises:
      ConfigError: It is absent or broken.
    """
    name, _, argument = source.partition(":")
    if name.endswith((".yaml", ".yml", ".json")):
        return _plain(Path(name))
    path = Path(name)
    if not name.endswith(".py"):
        found = shipped()
        if name not in found:
            if (path / CONFIG_FILE).is_file():
                raise ConfigError(f"--config: {name} is the directory of a run; give --run={name}")
            known = nearest(name, list(found)) or f"; shipped: {', '.join(sorted(found))}"
            raise ConfigError(f"--config: no shipped configuration {name!r}, and no file{known}")
        path = found[name]
    if not path.is_file():
        raise ConfigError(
            f"--config: cannot read {name}; give the path of a .py, .yaml or .json file"
        )
    return _from_python(path, argument)


def shipped() -> dict[str, Path]:
    """Return the configurations that come with the package, by name."""
    checkout = Path(__file__).resolve().parents[2] / "configs"
    files = list(checkout.glob("*.py"))
    if not files:
        try:
            listed = importlib.metadata.files("tl_jax") or []
        except importlib.metadata.PackageNotFoundError:
            listed = []
        files = [
            Path(str(file.locate()))
            for file in listed
            if file.parent.as_posix().endswith("share/tl_jax/configs")
        ]
    return {file.stem: file for file in files if file.suffix == ".py"}


def _from_python(path: Path, argument: str) -> Mapping[str, Any]:
    spec = importlib.util.spec_from_file_location(f"tl_jax_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = module.get_config(argument) if argument else module.get_config()
    except TlJaxError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f" ({Path(last.filename).name}, line {last.lineno})"
        if isinstance(error, SyntaxError):  # which says its own
            place = ""
        raise ConfigError(
            f"--config: {path} is broken: {type(error).__name__}: {error}{place}; it must define "
            "get_config()"
        ) from error
    return made.to_dict() if isinstance(made, ml_collections.ConfigDict) else _mapping(made, path)


def _plain(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = plain_values.read(text, is_json=path.suffix == ".json")
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config: {path} is broken: {error}") from error
    return _mapping(values, path)


def _mapping(values: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"--config: {path} must hold sections with settings, got {type(values).__name__}"
        )
    return values


def _overridden(values: dict[str, Any], settings: Sequence[str]) -> Mapping[str, Any]:
    """Return the values with ``--config.NAME=VALUE`` put in, each of the type it has there."""
    words = ["tl-jax"]
    for word in settings:
        name, equals, value = word.lstrip("-").partition("=")
        path = name.partition("config.")[2]
        if path in RunConfig.RENAMED:
            path, value = renamed(RunConfig, path, value)
            word = f"--config.{path}={value}"
        check_path(RunConfig, path)
        *sections, field = path.split(".")
        section = functools.reduce(operator.getitem, sections, values)
        if not equals and not isinstance(section[field], bool):
            raise ConfigError(f"config.{path} needs a value: --config.{path}=VALUE")
        if isinstance(section[field], tuple) and path not in _LISTS_OF_NUMBERS:
            section[field] = text_list.read(f"config.{path}", value)
        else:
            words.append(word)
    holder = flags.FlagValues()
    config_flags.DEFINE_config_dict(
        "config", ml_collections.ConfigDict(values), flag_values=holder, sys_argv=words
    )
    try:
        holder(words)
    except (flags.Error, ValueError, TypeError) as error:
        raise ConfigError(str(error).replace("flag --", "")) from error
    changed = holder["config"].value
    assert isinstance(changed, ml_collections.ConfigDict)
    return changed.to_dict()
