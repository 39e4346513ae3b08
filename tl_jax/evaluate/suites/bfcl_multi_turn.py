"""BFCL, several turns, scored by lists of calls: no tool runs.

BFCL runs the calls on simulated services and compares their states. Here every turn of a dialogue
is an item of its own, after the gold calls of the turns before it ("teacher-forced"); the reply is
held against the gold calls of the turn. So another way to the same state counts as wrong, calls
that need the results of others are due at once, results are not shown, and the long-context part
differs from the base part in its gold calls only. The figures are no leaderboard figures, and those
of two versions of the data are not comparable: between October 2025 and March 2026 about 404 of 800
questions and 234 gold answers changed, so the version stands in every result.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.data.importers.opened import opened_text
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.scores import score_call
from tl_jax.evaluate.suites.bfcl import messages_of, read_reply, tools_of
from tl_jax.evaluate.suites.bfcl_files import BfclRow, data_version, read_rows
from tl_jax.evaluate.suites.gold_calls import read_gold_call
from tl_jax.evaluate.suites.json_lines import json_objects
from tl_jax.evaluate.suites.suite import Item, Reader, Suite, Verdict, judge_calls, shares

CATEGORIES = (
    "multi_turn_base",
    "multi_turn_miss_func",
    "multi_turn_miss_param",
    "multi_turn_long_context",
)
DOCUMENTS = "multi_turn_func_doc"
"""The file or folder with the functions of the services, beside the questions."""

SERVICES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}
"""Where the functions of a service are declared."""

RESULT = "(done; results are not shown)"
DONE = "That is done."
NOT_YET = "I cannot do that with what I have been given."
MORE_TOOLS = "There are more tools now. Please go on."


def read_items(path: str) -> list[Item]:
    """Read all turns of all dialogues.

    Args:
      path: As for ``bfcl_files.read_rows``; ``DOCUMENTS`` must lie beside the questions.

    Raises:
      DataError: No file, no such dialogue in it, or no functions beside it.
      RowError: A row that is no dialogue; the message names file and line.
    """
    rows = read_rows(path, CATEGORIES)
    services = {name: tools_of(functions) for name, functions in _documents(path).items()}
    return [item for entry in rows for item in _turns(entry, services)]


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge the calls of a turn: TS, PI and CF in any order, and whether their order is right."""
    read = functools.partial(read_reply, read=read)
    verdict = judge_calls(item, reply, read)
    (gold,) = item.gold
    if not gold:
        return verdict
    calls = read(reply).calls
    in_order = len(calls) == len(gold) and all(
        score_call(call, (due,), tools=item.tools).cf for call, due in zip(calls, gold, strict=True)
    )
    return Verdict({**verdict.scores, "in_order": in_order}, verdict.category, verdict.detail)


def summary(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the shares of turns, and those of dialogues all of whose turns are right.

    Returns:
      Those of ``suite.shares``; ``CATEGORY/dialogues``; and ``dialogues``, the mean over
      categories, as BFCL averages them. A turn is right with its calls in order, or with words
      where none is due.
    """
    right: dict[tuple[str, str], bool] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        key = item.tags["group"], item.tags["dialogue"]
        scores = verdict.scores
        right[key] = right.get(key, True) and scores.get("in_order", scores.get("no_call", False))
    hits, counts = Counter(name for (name, _), good in right.items() if good), Counter()
    counts.update(name for name, _ in right)
    dialogues = {f"{name}/dialogues": Share(hits[name], counts[name]) for name in counts}
    mean = sum(share.percent for share in dialogues.values()) / max(len(dialogues), 1)
    return {**shares(items, verdicts), **dialogues, "dialogues": mean}


def version(path: str) -> str:
    """Return the version of the dialogues, and a digest of the functions beside them."""
    text = json.dumps(_documents(path), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{data_version(path, CATEGORIES)}, functions sha256 {digest}"


def _documents(path: str) -> dict[str, list[dict[str, Any]]]:
    """Return the functions of all services by the name of the service's file."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    for base in (folder, os.path.join(folder, "data"), os.path.join(folder, "bfcl_eval", "data")):
        beside = os.path.join(base, DOCUMENTS)
        if os.path.isfile(f"{beside}.json"):
            return _all_documents(f"{beside}.json")
        files = {name: os.path.join(beside, f"{name}.json") for name in SERVICES.values()}
        if os.path.isdir(beside):
            return {name: [r for _, r in json_objects(file)] for name, file in files.items()}
    raise DataError(
        f"{path}: no {DOCUMENTS}.json and no folder {DOCUMENTS} beside it; they hold the functions "
        "of the services, take them from bfcl-eval"
    )


def _all_documents(path: str) -> dict[str, list[dict[str, Any]]]:
    """Return those of one file that holds all; see ``_documents``."""
    try:
        with opened_text(path) as file:
            found = json.load(file)
        return {name: list(found[name]) for name in SERVICES.values()}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: no functions of the services ({error!r}); expected an object with a list of "
            f"functions for each of {', '.join(SERVICES.values())}"
        ) from error


def _turns(entry: BfclRow, services: Mapping[str, tuple[ToolSpec, ...]]) -> Iterator[Item]:
    row = entry.row
    try:
        tools = [t for name in row["involved_classes"] for t in services[SERVICES[name]]]
        left_out = set(row.get("excluded_function") or ())
        later = {
            int(turn): set(names) for turn, names in (row.get("missed_function") or {}).items()
        }
        golds = row["ground_truth"]
        history: tuple[Message, ...] = ()
        for turn, (question, texts) in enumerate(zip(row["question"], golds, strict=True)):
            hidden = left_out.union(*(names for first, names in later.items() if first > turn))
            offered = tuple(tool for tool in tools if tool.name not in hidden)
            calls = tuple(read_gold_call(text, offered) for text in texts)
            history += messages_of(question) or (Message("user", MORE_TOOLS),)
            yield Item(
                id=f"{row['id']}/{turn}",
                tools=offered,
                messages=history,
                gold=(calls,),
                tags={"group": entry.category, "dialogue": row["id"]},
            )
            history += _answered(calls)
    except CallSyntaxError as error:
        raise RowError(f"{entry.place}: a gold call cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RowError(
            f"{entry.place}: no BFCL dialogue ({error!r}); expected a question and a list of gold "
            f"calls per turn, and involved_classes of {', '.join(SERVICES)}"
        ) from error


def _answered(calls: tuple[ToolCall, ...]) -> tuple[Message, ...]:
    """Return what follows a question in the history of later turns."""
    if not calls:
        return (Message("assistant", NOT_YET),)
    results = (Message("tool", RESULT, status="ok") for _ in calls)
    return Message("assistant", "", calls), *results, Message("assistant", DONE)


SUITE = Suite(
    name="bfcl/multi_turn",
    read=read_items,
    judge=judge,
    summary=summary,
    version=version,
    note=(
        "Lists of calls, each turn after the gold calls of the turns before it; nothing is "
        "executed and no results are shown, so these are no figures of the leaderboard. Figures of "
        "two versions of the data are not comparable."
    ),
)
