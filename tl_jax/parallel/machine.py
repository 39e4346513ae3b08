"""The machine that a process runs on, and whether another process of it still runs."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def name() -> str:
    """Name what process numbers count in: a boot of a machine, or a container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def runs(process: int) -> bool:
    """Return whether a process of this machine runs."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def began(process: int) -> str:
    """Return when a process began, in ticks of its machine; empty if there is none, or no way."""
    try:
        # The name before the last bracket may hold anything.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
