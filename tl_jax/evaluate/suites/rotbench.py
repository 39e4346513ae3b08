"""RoTBench: five noise levels, first and third turn, by our rule and by the released evaluator's.

An item's scores are ``ts``, ``pi`` and ``cf`` by our rule; ``empty_wrong/ts`` and so on by the same
with a flaw of the released evaluator, for which a call without arguments is no answer; and
``released/ts`` and so on by all of the released evaluator's rules (``rotbench_rules``). With the
flaw the gold answers themselves reach 92.38 % (95.24 % of the heavy ones).
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import RunConfig
from tl_jax.data.importers.opened import opened
from tl_jax.data.importers.schemas import normalised_tool
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.scores import TurnScore
from tl_jax.evaluate.suites.rotbench_rules import own_score, parse_react, released_score
from tl_jax.evaluate.suites.suite import (
    Item,
    Reader,
    Suite,
    Verdict,
    answers,
    file_version,
    judge_calls,
)
from tl_jax.rewards.taxonomy import ALL_RIGHT

NOISES = ("clean", "slight", "medium", "heavy", "union")

_END_OF_QUERY = "Begin!"
_KEYS = ("noise", "index", "scenario", "conversations")
_EXPECTED = (
    "noise, index, scenario and a conversation that begins with system and user and ends with the"
    " list of accepted answers"
)


def read_items(path: str | os.PathLike[str], *, noise: str = "clean") -> list[Item]:
    """Read the items of one noise level from a file of first or third turns; see ``read``.

    Raises:
      ValueError: ``noise`` is unknown.
    """
    if noise not in NOISES:
        raise ValueError(f"unknown RoTBench noise {noise!r}; known: {', '.join(NOISES)}")
    items, found = _read(str(path), noise)
    if not items:
        held = ", ".join(f"{count} of {name!r}" for name, count in found.items())
        raise DataError(
            f"{path}: no RoTBench items of noise {noise!r} (it holds {held or 'no items'}); take"
            f" {noise}.json from RoTBench's Data/First_Turn"
        )
    return items


def read(path: str) -> list[Item]:
    """Read all items of a file; the noise and the turn of an item are its group.

    Args:
      path: A file, or a folder with such files, as RoTBench's ``Data`` or ``Data/First_Turn``.
        Either of two forms, plain or gzip. A ``.json`` file is one list as RoTBench releases
        it, each item ``{id, conversations, scenario}``: its noise is the name of the file, such as
        ``clean.json``, its index the position. Any other file is JSON lines, each item also with
        ``noise`` and ``index``. The system message of an item holds the tools, the last message
        the list of accepted answers. A third turn has earlier calls and their results.

    Raises:
      RowError: A row that is no item, or an item that occurs again; the message names file and row.
      DataError: No items, or a ``.gz`` file that is damaged or cut off.
    """
    items = [item for file in _files(path) for item in _read(file, "")[0]]
    if not items:
        raise DataError(f"{path}: no RoTBench items in it")
    return items


def version(path: str) -> str:
    """Return the digests of the files of a path."""
    return " ".join(map(file_version, _files(path)))


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    folders = (path, *(os.path.join(path, turn) for turn in ("First_Turn", "Third_Turn")))
    found = [os.path.join(folder, f"{noise}.json") for folder in folders for noise in NOISES]
    return [file for file in found if os.path.isfile(file)]


def _read(path: str, noise: str) -> tuple[list[Item], Counter[str]]:
    """Return the items, of one noise level if any is named, and how many of each there are."""
    items: dict[str, Item] = {}
    noises: Counter[str] = Counter()
    for place, row in _rows(path):
        other = isinstance(row, dict) and noise and row.get("noise") not in (noise, None)
        missing = [k for k in _KEYS if not isinstance(row, dict) or k not in row]
        if missing and not other:
            raise RowError(
                f"{place}: no RoTBench item, it has no {', '.join(missing)}; expected {_EXPECTED}"
            )
        try:
            noises[row["noise"]] += 1
            item = _item(row) if noise in ("", row["noise"]) else None
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise RowError(
                f"{place}: no RoTBench item ({error!r}); expected {_EXPECTED}"
            ) from error
        if item is None:
            continue
        if item.id in items:
            raise RowError(
                f"{place}: noise {row['noise']!r} has an item of index {row['index']} already; drop"
                " this one or give it another index"
            )
        items[item.id] = item
    return list(items.values()), noises


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge a reply by the three rules; see the top of this file."""
    calls = read(reply).calls
    call = calls[0] if len(calls) == 1 else None
    golds, names = [call for (call,) in item.gold], [tool.name for tool in item.tools]
    free = tuple(names[-2:])
    verdict = judge_calls(item, reply, read, free_text_tools=free)
    own = score_item(call, item)
    rules = {
        "": own,
        "empty_wrong/": score_item(call, item, count_empty_arguments=False),
        "released/": released_score(call, golds, names),
    }
    scores = {
        f"{rule}{name}": right
        for rule, score in rules.items()
        for name, right in dataclasses.asdict(score).items()
    }
    if own.cf:
        return Verdict(scores, ALL_RIGHT)
    return Verdict(scores, verdict.category, verdict.detail)


def score_item(
    prediction: ToolCall | None, item: Item, *, count_empty_arguments: bool = True
) -> TurnScore:
    """Score a predicted call on ``item``; see ``rotbench_rules.own_score``."""
    golds = [call for (call,) in item.gold]
    return own_score(prediction, golds, [t.name for t in item.tools], count_empty_arguments)


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Yield every row with its place in the file, as messages name it."""
    stem, ending = os.path.splitext(os.path.basename(path).removesuffix(".gz"))
    with opened(path, "rb") as stream:
        if ending != ".json":
            for number, line in enumerate(stream, start=1):
                if line.removeprefix(codecs.BOM_UTF8).strip():
                    yield f"{path}:{number}", _parsed(path, number, line)
            return
        rows = _parsed(path, 1, stream.read())
    if not isinstance(rows, list):
        raise RowError(f"{path}: no list of items; a file of one item a line must end in .jsonl")
    for index, row in enumerate(rows):
        place = f"{path}: item {index}, counted from 0"
        if isinstance(row, dict) and "conversations" in row:
            row = {"noise": stem, "index": index} | row
            if row["noise"] not in NOISES:
                names = ", ".join(f"{name}.json" for name in NOISES)
                raise RowError(
                    f"{place}: unknown noise {row['noise']!r}; items that do not say their noise"
                    f" have that of the file's name, so call it as RoTBench does: {names}"
                )
        yield place, row


def _parsed(path: str, first: int, raw: bytes) -> Any:
    """Return the JSON value of a file's text from its line ``first`` on."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = first + raw.count(b"\n", 0, error.start)
        raise RowError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        line = first + getattr(error, "lineno", 1) - 1
        raise RowError(
            f"{path}:{line}: not JSON ({getattr(error, 'msg', error)}); a .json file holds one"
            " list, a .jsonl file one item a line"
        ) from error


def _item(row: Mapping[str, Any]) -> Item:
    (_, system), *asked, (_, answer) = [(t["from"], t["value"]) for t in row["conversations"]]
    if not asked or asked[0][0] != "user":
        raise RowError("the dialogue does not begin with the user's query")
    golds = [parse_react(text) for text in _texts(answer)]
    if not golds or None in golds:
        raise RowError(f"an accepted answer is no ReAct call: {answer!r}")
    third = len(asked) > 1
    return Item(
        id=f"rotbench-{'third-' if third else ''}{row['noise']}-{row['index']:03d}",
        tools=_tools(system),
        messages=tuple(_message(speaker, text) for speaker, text in asked),
        gold=answers(*(call for call in golds if call is not None)),
        tags={
            "noise": row["noise"],
            "scenario": row["scenario"],
            "group": f"third turn {row['noise']}" if third else row["noise"],
        },
    )


def _texts(answer: Any) -> list[str]:
    # A list of accepted answers; a file made of it may have one of them.
    return [answer] if isinstance(answer, str) else list(answer)


def _message(speaker: str, text: str) -> Message:
    """Return an earlier turn of a dialogue."""
    if speaker == "user":
        return Message("user", text.strip().removesuffix(_END_OF_QUERY).rstrip())
    if speaker == "function":
        return Message("tool", text)
    call = parse_react(text)
    if speaker != "assistant" or call is None:
        raise RowError(f"an earlier turn of {speaker!r} is no ReAct call: {text[:80]!r}")
    return Message("assistant", "", (call,))


def _tools(system: str) -> tuple[ToolSpec, ...]:
    """Return the tools of the JSON list that stands on its own line in the system text."""
    start = system.find("\n[{")
    if start < 0:
        raise RowError("the system message holds no JSON list of tools")
    functions, _ = json.JSONDecoder().raw_decode(system, start + 1)
    return tuple(normalised_tool(function, Counter(), keep_names=True) for function in functions)


def _clean(path: str) -> list[Item]:
    return read_items(path, noise="clean")


def source(config: RunConfig) -> str:
    """Return the file that a run is scored on."""
    return config.evaluate.rotbench_path


SUITES = (
    Suite("rotbench/clean", _clean, judge, source=source, setting="rotbench_path"),
    Suite("rotbench", read, judge, version=version),
)
"""The clean set, which the paper's table has, and whatever a file holds."""
