"""Replies that are there already: those of any system in a file, and the gold answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.importers.opened import opened
from tl_jax.errors import DataError
from tl_jax.evaluate.results import MISSING, Reply
from tl_jax.evaluate.suites.suite import Item, Suite, Writer


def read_predictions(path: str) -> dict[str, Reply]:
    """Return the replies of a file by the id of their item.

    Args:
      path: JSON lines, plain or gzip, each an object with the texts ``id`` and ``reply``, such as
        the lines that are written beside a result; one that has a ``problem`` there is no reply
        here, either.

    Raises:
      DataError: No such file, no reply in it, a line that is no such object, or two replies to one
        item; the message names file and line.
    """
    if not Path(path).is_file():
        raise DataError(f"--predictions: no file {path}; give JSON lines of id and reply")
    found: dict[str, Reply] = {}
    with opened(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            name, reply = _row(f"{path}:{number}", line)
            if name in found:
                raise DataError(f"{path}:{number}: a second reply to {name!r}; keep one of them")
            found[name] = reply
    if not found:
        raise DataError(f"{path}: it holds no reply; give JSON lines of id and reply")
    return found


def _row(place: str, line: bytes) -> tuple[str, Reply]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); write an object a line") from error
    name, text = (row.get("id"), row.get("reply")) if isinstance(row, Mapping) else (None, None)
    if isinstance(name, bool) or not isinstance(name, str | int) or not isinstance(text, str):
        raise DataError(
            f'{place}: expected {{"id": ..., "reply": ...}} with texts, got {str(row)[:80]}'
        )
    return str(name), Reply(text, str(row.get("problem") or ""))


def predicted(items: Sequence[Item], found: Mapping[str, Reply], path: str) -> list[Reply]:
    """Return the reply to each item; an item without one has none, and counts as wrong.

    Raises:
      DataError: A reply is to no item; the message shows ids of both.
    """
    known = {item.id for item in items}
    if other := [name for name in found if name not in known]:
        raise DataError(
            f"{path}: {len(other)} of {len(found)} replies are to no item of this data, such as "
            f"{other[0]!r}; its ids are like {items[0].id!r}"
        )
    return [found.get(item.id, Reply("", MISSING)) for item in items]


def oracle_replies(suite: Suite, items: Iterable[Item], write: Writer) -> list[Reply]:
    """Return the gold answers as replies; one that has no text in the style is no reply."""

    def gold(item: Item) -> Reply:
        try:
            return Reply(suite.oracle(item, write))
        except ValueError as error:
            return Reply("", f"no text in this style: {error}")

    return [gold(item) for item in items]


def reply_line(item: Item, reply: Reply) -> dict[str, Any]:
    """Return what ``read_predictions`` reads, JSON-ready."""
    return {
        "id": item.id,
        "reply": reply.text,
        **({"problem": reply.problem} if reply.problem else {}),
    }
