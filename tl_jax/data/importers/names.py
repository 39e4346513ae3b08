"""The names of tools and parameters, as they can be written in a call."""

from __future__ import annotations

import re

_NOT_IN_NAMES = re.compile(r"[^\w.\-$@/:]+")


def writable_name(name: str) -> str:
    """Return ``name`` with an underscore for what cannot stand in a call, such as a blank.

    Tool and parameter names are renamed by this rule, so calls must be renamed by it too.
    """
    return _NOT_IN_NAMES.sub("_", name.strip())
