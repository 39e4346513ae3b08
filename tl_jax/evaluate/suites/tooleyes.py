"""ToolEyes, what can be scored offline: the first reply's form, and its calls against the schema.

There are no gold answers. The paper's DE is the share of calls that contradict the documentation of
the tools; here it is that of first replies, as later calls answer results of live tools. CE (calls
that fail when run) and VA (runs that end in a valid answer) need those tools and are not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall
from tl_jax.data.importers.rotllama import trajectory
from tl_jax.data.mae.schema_checks import check_call
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.suites.json_lines import json_objects
from tl_jax.evaluate.suites.suite import Item, Reader, Suite, Verdict, Writer, shares
from tl_jax.rewards.taxonomy import (
    ALL_RIGHT,
    CONTENT_FILLING,
    FORMAT_ERROR,
    PARAMETER_HALLUCINATION,
    PARAMETER_MISSING,
    TOOL_HALLUCINATION,
)

DOCUMENTED = (TOOL_HALLUCINATION, PARAMETER_HALLUCINATION, PARAMETER_MISSING)
"""Faults that the paper counts as documentation errors."""
_EXAMPLES = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}


def read_items(path: str) -> list[Item]:
    """Read the queries of ``queries.jsonl``.

    Args:
      path: JSON lines ``{index, query, path, scenario, zero_shot: {id, conversations}}``, plain or
        gzip; the system turn of a conversation holds the tools, the user turn the query.

    Raises:
      DataError: No such file, or no query in it.
      RowError: A row that is no query; the message names file and line.
    """
    items = list(_items(path))
    if not items:
        raise DataError(f"{path}: no ToolEyes queries in it")
    return items


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge the calls of a first reply.

    Returns:
      ``format``: there are calls. Where there are: ``documented``: each names an offered tool, only
      parameters of it, and all that it requires; ``schema``: their values are of the declared
      types, too. The category is that of the gravest fault.
    """
    found = read(reply)
    if not found.calls:
        return Verdict({"format": False}, FORMAT_ERROR, found.problem)
    faults = [fault for call in found.calls if (fault := check_call(call, item.tools))]
    gravest_first = (*DOCUMENTED, CONTENT_FILLING)
    worst = min(faults, key=lambda fault: gravest_first.index(fault.category), default=None)
    scores = {
        "format": True,
        "documented": all(fault.category not in DOCUMENTED for fault in faults),
        "schema": not faults,
    }
    if worst is None:
        return Verdict(scores, ALL_RIGHT)
    return Verdict(scores, worst.category, worst.about)


def write_call(item: Item, write: Writer) -> str:
    """Return a call that its schema allows; there are no gold answers."""
    tool = item.tools[0]
    arguments = {p.name: _example(p) for p in tool.parameters if p.required}
    return write([ToolCall(tool.name, arguments)])


def summary(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the shares, and that of replies with a documentation error among those with calls."""
    found = shares(items, verdicts)
    documented = found.get("documented")
    if isinstance(documented, Share):
        errors = Share(documented.count - documented.hits, documented.count)
        found = {**found, "documentation_errors": errors}
    return found


def _items(path: str) -> Iterator[Item]:
    for number, (place, row) in enumerate(json_objects(path)):
        try:
            dialogue = trajectory(row["zero_shot"], source=path, line=number)
            if not dialogue.tools or not dialogue.messages:
                raise ValueError("no tools or no query")
            yield Item(
                id=f"tooleyes-{row['index']:03d}",
                tools=dialogue.tools,
                messages=dialogue.messages,
                gold=None,
                tags={"group": row["scenario"]},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RowError(
                f"{place}: no ToolEyes query ({error!r}); expected index, scenario and zero_shot "
                "with conversations of system and user"
            ) from error


def _example(parameter: Parameter) -> Any:
    listed = parameter.schema.get("enum")
    if isinstance(listed, list) and listed:
        return listed[0]
    return _EXAMPLES.get(parameter.type, "text")


SUITE = Suite(
    name="tooleyes",
    read=read_items,
    judge=judge,
    oracle=write_call,
    summary=summary,
    note=(
        "First replies only, held against the documentation of the tools; there are no gold "
        "answers. CE and VA need live tools and are not scored."
    ),
)
