"""Open the files of a data set, which may be compressed and may have been cut off."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from tl_jax.errors import DataError


@contextlib.contextmanager
def opened(path: str, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open ``path`` for reading, through gzip if its name ends in ``.gz``.

    Args:
      path: The file.
      mode: ``"rb"`` or ``"rt"``.
      encoding: For text.

    Raises:
      DataError: While opening or reading: a ``.gz`` file that is damaged or cut off.
    """
    opener: Callable[..., Any] = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, mode, encoding=encoding) as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged gzip file ({error}); fetch it again, or unpack it and drop the .gz"
        ) from error
