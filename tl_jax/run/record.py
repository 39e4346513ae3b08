"""What a run is: its settings and the software and devices it ran on, as JSON files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from tl_jax.config import RunConfig
from tl_jax.config.fields import present_names
from tl_jax.errors import ConfigError
from tl_jax.parallel import processes

_PACKAGES = (
    "tl_jax",
    "jax",
    "jaxlib",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
)


def changed_settings(run_dir: str | os.PathLike[str], config: Mapping[str, Any]) -> list[str]:
    """Return the dotted names in which ``config`` differs from the run's ``config.json``.

    A directory without one gives an empty list. Where the run lies is no setting of it,
    and a setting that had an old name then is no change.

    Raises:
      ConfigError: The file is damaged.
    """
    path = Path(run_dir) / "config.json"
    if not path.exists():
        return []
    try:
        old = flatten(present_names(RunConfig, json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}); put back the settings of the run, or move the file away "
            "and give them with --config"
        ) from error
    # Compared as JSON: a tuple comes back as a list.
    new = flatten(json.loads(json.dumps(config)))
    missing = object()
    return [
        name
        for name in sorted(old.keys() | new.keys())
        if name != "run_dir" and old.get(name, missing) != new.get(name, missing)
    ]


def write_config(run_dir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Write ``config.json``; the run directory is made if absent."""
    _write_json(Path(run_dir) / "config.json", config)


def write_versions(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Write ``versions.json``: software, git revision (None outside a checkout), devices."""
    devices = jax.devices()
    versions = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS", ""),
    }
    _write_json(Path(run_dir) / "versions.json", versions)
    return versions


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    # A package installed below somebody else's checkout has no revision of its own.
    commands = [
        [*git, "ls-files", "--error-unmatch", str(file)],
        [*git, "describe", "--always", "--dirty", "--abbrev=40"],
    ]
    revision = ""
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            if done.returncode != 0:
                return None
            revision = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return revision or None


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    if processes.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    processes.wait_for_all(path.name)


def read_own(path: Path, mend: str) -> Any:
    """Return what a JSON file holds that the run itself has written; None if there is none.

    Args:
      path: The file.
      mend: What to do if it is damaged, as the end of the message.

    Raises:
      ConfigError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}); {mend}") from error


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
