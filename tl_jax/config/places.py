"""Paths that would not lead where they say: to a network, or to a home no shell has filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tl_jax.errors import ConfigError

# Also behind a label, as in NAME=PLACE.
_SCHEME = re.compile(r"(?:.*=)?([A-Za-z][A-Za-z0-9+.-]*)://")
_HOME = re.compile(r"(?:[^=]*=)?~(?:/|\Z)")


def check_place(name: str, value: Any) -> None:
    """Refuse a place that would become a folder of an odd name here.

    Places with a scheme, such as ``gs://bucket/rows.jsonl``, are reached through a mounted
    directory; the run alone may lie on a bucket (``run.mirror``), and is here then. A ``~`` is
    filled in by the shell at the start of a word only.

    Args:
      name: Of the setting or flag.
      value: Its value; only texts, and texts in lists, are looked at.

    Raises:
      ConfigError: The message says what to do instead.
    """
    texts: Iterable[Any] = value if isinstance(value, list | tuple) else (value,)
    for text in texts:
        if not isinstance(text, str):
            continue
        if found := _SCHEME.match(text):
            raise ConfigError(
                f"{name}: {text} is a place of {found[1]}://, and only paths of the file system "
                "are read and written; only a run may lie on a bucket (--config.run_dir, or --run "
                "of a command). Mount the bucket (gcsfuse, mount-s3, rclone mount; "
                "launch/README.md does it on TPUs) and give the path below the mount, or copy it "
                "here first"
            )
        if _HOME.match(text):
            raise ConfigError(
                f"{name}: {text} would be a folder called ~; a shell fills the home directory in "
                "at the start of a word only, so write $HOME (in a file, the whole path)"
            )
