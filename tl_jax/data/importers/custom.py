"""An importer of the user's own: a Python file with the contract of the modules here."""

from __future__ import annotations

import types

from tl_jax.config.user_file import defined, load_file
from tl_jax.errors import ConfigError

_SETTING = "config.data.importer"


def open_importer(path: str) -> types.ModuleType:
    """Load a file that defines ``NAME``, ``recognise(row)`` and ``trajectory(row, source, line)``.

    ``recognise`` returns why a row looks like the format, or an empty text; ``trajectory`` returns
    a ``Trajectory``, or raises ``RowError`` or ``ValueError`` for a row that cannot be read. The
    file may also define ``split(row)``, which cuts a row of several dialogues, and
    ``load_tools(path)`` with ``TOOLS_FILES``, as modules here do whose tools are outside their
    rows.

    Raises:
      ConfigError: No such file, it cannot be loaded, or lacks one of the three; the message says
        which.
    """
    module = load_file(path, _SETTING)
    name = getattr(module, "NAME", None)
    if not isinstance(name, str) or not name or name == "auto" or set(name) & set(":@/"):
        raise ConfigError(
            f"{_SETTING}: {path} must define NAME, the name of its format as text without "
            f"':', '@' and '/', got {name!r}"
        )
    for function in ("recognise", "trajectory"):
        defined(module, function, path, _SETTING)
    return module
