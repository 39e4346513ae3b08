"""Places on a network: a run may lie on a bucket, all else below a mounted directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.errors import ConfigError
from tl_jax.run.bucket import SCHEMES
from tl_jax.run.record import flatten

# Also behind a label, as in NAME=PLACE.
_SCHEME = re.compile(r"(?:.*=)?([A-Za-z][A-Za-z0-9+.-]*)://")
_NO_PLACES = ("evaluate.stop_strings",)


def is_bucket(place: str) -> bool:
    """Whether a place is one on which a run can lie, such as ``gs://bucket/run``."""
    return place.partition("://")[0] in SCHEMES and "://" in place


def check_local(name: str, value: Any) -> None:
    """Refuse a place with a scheme, such as ``gs://bucket/run``, which would be made a folder here.

    Args:
      name: Of the setting or flag.
      value: Its value; only texts, and texts in lists, are looked at.

    Raises:
      ConfigError: The message says what to do instead.
    """
    texts: Iterable[Any] = value if isinstance(value, list | tuple) else (value,)
    for text in texts:
        if isinstance(text, str) and (found := _SCHEME.match(text)):
            raise ConfigError(
                f"{name}: {text} is a place of {found[1]}://, and only paths of the file system "
                "are read and written; only a run may lie on a bucket (--config.run_dir, or --run "
                "of a command). Mount the bucket (gcsfuse, mount-s3, rclone mount; "
                "launch/README.md does it on TPUs) and give the path below the mount, or copy it "
                "here first"
            )


def check_all_local(settings: Mapping[str, Any]) -> None:
    """Refuse such a place in any of nested settings.

    Raises:
      ConfigError: As ``check_local``.
    """
    for name, value in flatten(settings).items():
        if name not in _NO_PLACES:
            check_local(f"config.{name}", value)
