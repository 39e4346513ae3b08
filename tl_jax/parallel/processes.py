"""Runs of several processes: what the first one does alone, and what waits for it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from tl_jax.errors import ConfigError

_LAST_WORDS_S = 5.0


def is_first() -> bool:
    """Whether this process writes the files that a run has once."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Wait until every process has come to the point called ``name``."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(good: bool) -> bool:
    """Return the first process's verdict on every process."""
    if jax.process_count() == 1:
        return good
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(good)))


def gather(array: Any) -> np.ndarray:
    """Return the whole of an array in the memory of every process; all of them must call it."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def place(array: np.ndarray, where: jax.sharding.Sharding) -> jax.Array:
    """Return an array that every process holds whole as one global array."""
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


def own_part(count: int) -> slice:
    """Return which of ``count`` things this process looks after; the parts follow each other."""
    index, processes = jax.process_index(), jax.process_count()
    return slice(index * count // processes, (index + 1) * count // processes)


def join_parts(part: Sequence[Any]) -> list[Any]:
    """Return the things of all processes, in order; all of them must call it.

    Args:
      part: Those of this process, as JSON has them.
    """
    if jax.process_count() == 1:
        return list(part)
    text = np.frombuffer(json.dumps(list(part)).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(text.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: text.size] = text
    texts = multihost_utils.process_allgather(padded)
    parts = [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes, strict=True)]
    return [thing for found in parts for thing in found]


def require_one(what: str) -> None:
    """Refuse to do ``what`` with several processes.

    Raises:
      ConfigError: There are several.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"{what} needs one process; training and evaluation run on several")


def leave(status: int) -> NoReturn:
    """End this process after a failure, without waiting for the others.

    The orderly end of several processes waits minutes for all of them, in vain if one failed
    alone, and then aborts with another status. The first process serves the rest and goes last, so
    that others with the same failure end with its status too.
    """
    if not jax.distributed.is_initialized():
        sys.exit(status)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(_LAST_WORDS_S)
    os._exit(status)
