"""Runs of several processes: what the first one does alone, and what waits for it."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from tl_jax.settings import ConfigError

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
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def require_one(what: str) -> None:
    """Refuse to do ``what`` with several processes.

    Raises:
      ConfigError: There are several.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"{what} needs one process for now; supervised training runs on several")


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
