"""Words and runs of words of a text as numbers, for comparing texts."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.names import writable_name
from tl_jax.data.trajectory import Message

_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and compatibility forms."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


def digest(items: Iterable[str]) -> bytes:
    """Return 16 bytes that stand for a sequence of texts."""
    data = "\x00".join(items).encode(errors="surrogatepass")  # evaluation sets are not checked
    return hashlib.blake2b(data, digest_size=16).digest()


def ngrams(tokens: Sequence[str], size: int) -> np.ndarray:
    """Return a ``uint64`` number for every run of ``size`` words; ``[len(tokens) - size + 1]``."""
    count = len(tokens) - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    numbers = np.fromiter(map(_number, tokens), np.uint64, len(tokens))
    found = np.zeros(count, np.uint64)
    for place in range(size):  # arithmetic modulo 2**64
        found = found * _BASE + numbers[place : place + count]
        found ^= found >> np.uint64(29)
    return found


def tool_set(tools: Sequence[ToolSpec]) -> bytes:
    """Return what stands for a set of tools: their names with those of their parameters.

    Formats that rename what Python cannot write are compared with those that do not.
    """
    return digest(
        sorted(
            f"{writable_name(tool.name)}"
            f"({','.join(sorted(writable_name(p.name) for p in tool.parameters))})".lower()
            for tool in tools
        )
    )


def dialogue(messages: Sequence[Message]) -> str:
    """Return what is said and called in a dialogue as one text, the system turn apart."""
    parts = []
    for message in messages:
        if message.role != "system":
            parts += [message.role, message.content]
            for call in message.calls:
                arguments = json.dumps(dict(call.arguments), ensure_ascii=False, sort_keys=True)
                parts += [call.name, arguments]
    return "\n".join(parts)


@functools.lru_cache(maxsize=1 << 16)
def _number(word: str) -> int:
    # Python's own hash of a text differs from run to run.
    data = word.encode(errors="surrogatepass")
    return zlib.crc32(data) << 32 | zlib.adler32(data)
