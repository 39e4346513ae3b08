"""A finished part of a data set on its way: one file, whole or not there.

What becomes of a chunk of rows is kept until the data set is put together, so that a run that was
killed goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.errors import DataError

_MAGIC = b"tl_jax part 1\n"
_SIZE = struct.Struct("<I")


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that is whole.

    Attributes:
      path: Its file.
      counts: Items of each section, by its name.
      sizes: Bytes of each section, by its name.
      facts: What else is known of it, as JSON.
    """

    path: Path
    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    facts: Any
    _places: Mapping[str, tuple[int, int]] = dataclasses.field(repr=False)
    _checks: Mapping[str, int] = dataclasses.field(repr=False)

    def read(self, name: str) -> bytes:
        """Return a section.

        Raises:
          DataError: It is not what was written.
        """
        start, size = self._places[name]
        with open(self.path, "rb") as stream:
            stream.seek(start)
            data = stream.read(size)
        if len(data) != size or zlib.crc32(data) != self._checks[name]:
            raise DataError(f"{self.path} is damaged; delete it and run `tl-jax prepare` again")
        return data

    def is_whole(self) -> bool:
        """Return whether every section is what was written."""
        try:
            for name in self.sizes:
                self.read(name)
        except DataError:
            return False
        return True

    def items(self, name: str) -> Iterator[bytes]:
        """Yield the items of a section that was given as a list."""
        data, at = self.read(name), 0
        for _ in range(self.counts[name]):
            (size,) = _SIZE.unpack_from(data, at)
            at += _SIZE.size
            yield data[at : at + size]
            at += size


def write_part(path: Path, sections: Mapping[str, bytes | Sequence[bytes]], facts: Any) -> None:
    """Write a part; it appears when it is whole.

    Args:
      path: Its file.
      sections: By name, the bytes of lines (counted by their ends) or a list of items.
      facts: What else is known, JSON-ready.
    """
    entries, bodies = [], []
    for name, content in sections.items():
        if isinstance(content, bytes):
            count, body = content.count(b"\n"), content
        else:
            count = len(content)
            body = b"".join(part for item in content for part in (_SIZE.pack(len(item)), item))
        entries.append([name, count, len(body), zlib.crc32(body)])
        bodies.append(body)
    head = json.dumps({"sections": entries, "facts": facts}, separators=(",", ":")).encode()
    # Processes on two hosts may have the same number.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with open(draft, "wb") as stream:
        stream.write(_MAGIC + _SIZE.pack(len(head)) + _SIZE.pack(zlib.crc32(head)) + head)
        stream.writelines(bodies)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def open_part(path: Path) -> Part | None:
    """Return the part in a file, or None if there is none or it is not whole."""
    try:
        with open(path, "rb") as stream:
            magic = stream.read(len(_MAGIC))
            size, check = (_SIZE.unpack(stream.read(_SIZE.size))[0] for _ in range(2))
            head = stream.read(size)
            if magic != _MAGIC or zlib.crc32(head) != check:
                return None
            found = json.loads(head)
            end = stream.tell() + sum(length for _, _, length, _ in found["sections"])
            if os.fstat(stream.fileno()).st_size != end:
                return None
            at, places = stream.tell(), {}
            for name, _, length, _ in found["sections"]:
                places[name] = at, length
                at += length
    except (OSError, struct.error):
        return None
    sections = found["sections"]
    return Part(
        path,
        {name: count for name, count, _, _ in sections},
        {name: length for name, _, length, _ in sections},
        found["facts"],
        places,
        {name: check for name, _, _, check in sections},
    )
