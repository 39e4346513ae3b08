"""What the C library does with memory that a computation on the CPU gives back."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1

_KEPT = 0.25
"""The share of the machine's memory that a process may keep without using it."""


class _Held(ctypes.Structure):
    """What glibc's mallinfo2 says of all heaps, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def keep_freed() -> bool:
    """Let this process keep the memory it frees, if it has nothing but CPUs to compute on.

    XLA asks for the scratch memory of a program each time it runs and gives it back after. By
    default it goes to the kernel and comes back zeroed, page by page, in every step. Kept memory
    must come from one heap, so that a later run finds it, as a rule after a few. Threads choose
    theirs when they first ask for memory, so this must come before the first use of jax's devices.
    What is freed is also split by smaller requests, and then the next large one takes more; call
    ``give_back`` now and then.

    Returns:
      Whether it is so now: on Linux with glibc, and without a plugin of jax for other devices,
      unless ``JAX_PLATFORMS=cpu`` says that it is not to be used.
    """
    if sys.platform != "linux" or _may_use_accelerator():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _ARENA_MAX: 1}
    return all(library.mallopt(name, value) == 1 for name, value in settings.items())


def give_back(share: float = _KEPT) -> int:
    """Give freed memory to the kernel if this process keeps too much of it.

    Args:
      share: Of the machine's memory, how much may be kept without being used.

    Returns:
      Bytes that were kept and are given back; 0 while they are few, or without glibc 2.33.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallinfo2"):
        return 0
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    most = share * page * pages
    # Counting what is kept takes a second where there are a million pieces of it.
    with open("/proc/self/statm", encoding="ascii") as file:
        if int(file.read().split()[1]) * page <= most:
            return 0
    held = library.mallinfo2
    held.restype = _Held
    kept = int(held().fordblks)
    if kept <= most:
        return 0
    return kept if library.malloc_trim(ctypes.c_size_t(0)) else 0


def _may_use_accelerator() -> bool:
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    found = any(importlib.util.find_spec(name) for name in ("libtpu", "jax_plugins"))
    return found or bool(importlib.metadata.entry_points(group="jax_plugins"))
