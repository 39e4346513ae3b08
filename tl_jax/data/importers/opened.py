"""Open the files of a data set, which may be compressed and may have been cut off."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from tl_jax.errors import DataError

_GZIP = b"\x1f\x8b"
_LFS = b"version https://git-lfs"
_OTHER_KINDS = {
    b"PAR1": "a Parquet file; give it the ending .parquet",
    b"ARROW1": "an Arrow file; give it the ending .arrow",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or compress it with gzip",
}
"""What a file is that begins so, and no text."""


@contextlib.contextmanager
def opened(path: str, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open ``path`` for reading, through gzip if its name or its first bytes say so.

    Args:
      path: The file.
      mode: ``"rb"`` or ``"rt"``.
      encoding: For text.

    Raises:
      DataError: While opening or reading: a ``.gz`` file that is damaged or cut off.
    """
    with open(path, "rb") as stream:
        compressed = stream.read(len(_GZIP)) == _GZIP or path.lower().endswith(".gz")
    opener: Callable[..., Any] = gzip.open if compressed else open
    try:
        with opener(path, mode, encoding=encoding) as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged gzip file ({error}); fetch it again, or unpack it and drop the .gz"
        ) from error


@contextlib.contextmanager
def opened_text(path: str, newline: str = "\n") -> Iterator[io.TextIOWrapper]:
    """Open a file as text in UTF-8, or in UTF-16 or UTF-32 as its first bytes say.

    Bytes that are no UTF-8 are kept as lone surrogates, so that they are the fault of their row.

    Args:
      path: The file.
      newline: As for ``open``.

    Raises:
      DataError: As for ``opened``; the file is a pointer of Git LFS, zeros, of another kind, or no
        such text.
    """
    with opened(path, "rb") as stream:
        head = stream.read(len(_LFS))
    if head == _LFS:
        raise DataError(f"{path}: a pointer of Git LFS, not the file itself; run `git lfs pull`")
    for beginning, what in _OTHER_KINDS.items():
        if head.startswith(beginning):
            raise DataError(f"{path}: it is no text but {what}")
    if head and not head.strip(b"\0"):
        raise DataError(f"{path}: it begins with zero bytes; the file is damaged")
    encoding = json.detect_encoding(head)
    kept = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    with opened(path, "rb") as stream:
        try:
            yield io.TextIOWrapper(stream, encoding, errors=kept, newline=newline)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not {encoding.upper()} text: {error.reason}") from error
