"""The one console that everything is printed on."""

from __future__ import annotations

import functools

from rich.console import Console


@functools.cache
def screen() -> Console:
    """Return the console of this process: whole lines, numbers without colours."""
    return Console(soft_wrap=True, highlight=False)
