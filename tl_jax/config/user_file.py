"""Load a Python file that a setting names: a user's reward, importer or evaluation suite."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import types
from typing import Any

from tl_jax.errors import ConfigError, TlJaxError


def load_file(path: str, setting: str) -> types.ModuleType:
    """Run a Python file once and return it as a module.

    The file is the user's own code, named in a setting by the user, and runs with the user's
    rights. Modules beside it can be imported by it.

    Args:
      path: The file.
      setting: The setting that names it, such as ``"config.reward.path"``, for messages.

    Raises:
      ConfigError: No such file, or it raises while it is loaded.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"{setting}: no file {path}; give a Python file")
    try:
        return _loaded(os.path.abspath(path), digest(path))
    except TlJaxError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{setting}: {path} cannot be loaded ({type(error).__name__}: {error})"
        ) from error


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def defined(module: types.ModuleType, name: str, path: str, setting: str) -> Any:
    """Return a function that a loaded file defines.

    Raises:
      ConfigError: It defines no function of that name; the message lists those it has.
    """
    found = getattr(module, name, None)
    if callable(found):
        return found
    public = [other for other, value in vars(module).items() if callable(value) and other[0] != "_"]
    known = f"; it has {', '.join(public)}" if public else ""
    raise ConfigError(f"{setting}: {path} defines no function {name}{known}")


@functools.cache
def _loaded(path: str, content: str) -> types.ModuleType:
    """Load a file with this content, once for all settings that name it."""
    folder = os.path.dirname(path)
    if folder not in sys.path:
        # At the end: a module of the user's cannot take the place of another library.
        sys.path.append(folder)
    name = f"tl_jax_user_{hashlib.sha256(path.encode()).hexdigest()[:12]}_{content[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
