"""BFCL's executable items, the 240 that fit the paper's count, scored as TS, PI and CF.

They were released until version 3 (100 simple, 50 multiple, 50 parallel, 40 parallel and multiple)
and lie in the folder ``unused_datasets`` of bfcl-eval since. Each has one gold answer, which was
executed there; here its calls are compared, numbers by their declared types, several calls in any
order. Nothing is executed.
"""

from __future__ import annotations

import functools

from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.errors import RowError
from tl_jax.evaluate.suites.bfcl import messages_of, read_reply, tools_of
from tl_jax.evaluate.suites.bfcl_files import BfclRow, data_version, read_rows
from tl_jax.evaluate.suites.gold_calls import read_gold_call
from tl_jax.evaluate.suites.suite import Item, Reader, Suite, Verdict, judge_calls

CATEGORIES = ("exec_simple", "exec_multiple", "exec_parallel", "exec_parallel_multiple")


def read_items(path: str) -> list[Item]:
    """Read the items; see ``bfcl_files.read_rows``.

    Raises:
      DataError: No file, or no such item in it.
      RowError: A row that is no item; the message names file and line.
    """
    return [_item(entry) for entry in read_rows(path, CATEGORIES)]


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge the calls of a reply, read as in the other parts of BFCL."""
    return judge_calls(item, reply, functools.partial(read_reply, read=read))


def _item(entry: BfclRow) -> Item:
    row = entry.row
    try:
        tools = tools_of(row["function"])
        (turn,) = row["question"]
        calls = tuple(read_gold_call(text, tools) for text in row["ground_truth"])
        if not calls:
            raise ValueError("no gold call")
    except CallSyntaxError as error:
        raise RowError(f"{entry.place}: a gold call cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RowError(
            f"{entry.place}: no executable item of BFCL ({error!r}); expected a question of one "
            "turn, functions, and ground_truth of calls as texts"
        ) from error
    return Item(row["id"], tools, messages_of(turn), (calls,), {"group": entry.category})


SUITE = Suite(
    name="bfcl/executable",
    read=read_items,
    judge=judge,
    version=functools.partial(data_version, categories=CATEGORIES),
    note=("Calls are compared with the gold calls, several in any order; nothing is executed."),
)
