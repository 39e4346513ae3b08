"""BFCL, single turn: calls of Python functions by its checker, irrelevance and relevance.

The overall score of version 4 weighs what is not live, what is live and irrelevance with 10 % each,
several turns with 30 % and agents (web search, memory) with 40 %. The last needs tools that run;
Java and JavaScript (150 items, a third of "simple" there) have rules of their own. Neither is
scored here, so that there is no overall score but one of the single turn.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.importers.schemas import normalised_tool
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.suites.bfcl_checker import Answer, fault_of_calls
from tl_jax.evaluate.suites.bfcl_files import BfclRow, data_version, read_rows
from tl_jax.evaluate.suites.suite import Item, Read, Reader, Suite, Verdict, Writer
from tl_jax.rewards.taxonomy import ALL_RIGHT, EXTRA_CALL, FORMAT_ERROR, MISSING_CALL

NON_LIVE = ("simple_python", "multiple", "parallel", "parallel_multiple")
LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
IRRELEVANCE = ("irrelevance", "live_irrelevance")
RELEVANCE = "live_relevance"
CATEGORIES = (*NON_LIVE, *LIVE, *IRRELEVANCE, RELEVANCE)

READABLE = "readable"
"""The score of a reply that holds calls where some are due."""


@dataclasses.dataclass(frozen=True)
class Gold:
    """What is right for one item.

    Attributes:
      answers: The calls that are due, in order; none where no call is right, or any is.
      functions: The offered functions as BFCL declares them, whose types its rules know.
    """

    answers: tuple[Answer, ...]
    functions: tuple[Mapping[str, Any], ...]


def read_items(path: str) -> list[Item]:
    """Read the items of all categories that are scored; see ``bfcl_files.read_rows``.

    Raises:
      DataError: No file, or none of its items is scored.
      RowError: A row that is no item; the message names file and line.
    """
    return [_item(entry) for entry in read_rows(path, CATEGORIES)]


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge a reply by the rules of its category.

    Irrelevance counts as BFCL counts it, where whatever is no call is right, broken calls and an
    empty reply included; ``..._strict`` asks for words without any call.
    """
    category = item.tags["category"]
    found = read_reply(reply, read)
    if category in IRRELEVANCE:
        right = not found.calls
        scores = {category: right, f"{category}_strict": right and found.words}
        return Verdict(scores, ALL_RIGHT if right else EXTRA_CALL)
    if category == RELEVANCE:
        right = bool(found.calls)
        return Verdict({category: right}, ALL_RIGHT if right else MISSING_CALL)
    if not found.calls:
        return Verdict({category: False, READABLE: False}, FORMAT_ERROR, found.problem)
    gold: Gold = item.gold
    fault = fault_of_calls(
        found.calls, gold.answers, gold.functions, parallel="parallel" in category
    )
    return Verdict({category: not fault, READABLE: True}, fault or ALL_RIGHT)


def read_reply(reply: str, read: Reader) -> Read:
    """Read a reply as BFCL does: backticks round calls and missing brackets are no fault.

    What the style of the reply reads is taken as read.
    """
    found = read(reply)
    if found.calls:
        return found
    bare = reply.strip("`\n ")
    listed = f"{'' if bare.startswith('[') else '['}{bare}{'' if bare.endswith(']') else ']'}"
    again = read_list(listed, read)
    return again if again.calls else found


def read_list(text: str, read: Reader) -> Read:
    """Read calls in brackets, which these suites ask for: one call, too, whatever style it has."""
    found = read(text)
    if found.calls or not (text.startswith("[") and text.endswith("]")):
        return found
    inside = text[1:-1].rstrip(" \n,")
    if inside.lstrip().startswith("["):
        return found
    again = read(inside)
    return again if again.calls else found


def write_gold(item: Item, write: Writer) -> str:
    """Return a reply that BFCL accepts; for four items of 2,351 there is none."""
    category = item.tags["category"]
    if category in IRRELEVANCE:
        return "None of the tools is of use for that."
    if category == RELEVANCE:
        return write([ToolCall(item.tools[0].name)])
    gold: Gold = item.gold
    tools = {tool.name: tool for tool in item.tools}
    return write([_gold_call(answer, tools) for answer in gold.answers])


def summary(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the shares of the categories and the means that BFCL makes of them.

    Returns:
      By category the share of right replies; ``non_live`` the mean of its categories; ``live`` the
      share of all its items; ``irrelevance_mean`` that of the two; ``single_turn`` the mean of
      these three, each as far as their categories are there; ``format_errors`` the share of
      replies that hold no readable call where calls are due.
    """
    found = share_of(verdicts)
    readable = found.pop(READABLE, None)
    shares = {name: share for name, share in found.items() if isinstance(share, Share)}
    means: dict[str, Share | float] = {}
    if all(name in shares for name in NON_LIVE):
        means["non_live"] = _mean([shares[name].percent for name in NON_LIVE])
    if all(name in shares for name in LIVE):
        parts = [shares[name] for name in LIVE]
        means["live"] = Share(sum(p.hits for p in parts), sum(p.count for p in parts))
    for ending in ("", "_strict"):
        if all(name + ending in shares for name in IRRELEVANCE):
            percents = [shares[name + ending].percent for name in IRRELEVANCE]
            means[f"irrelevance_mean{ending}"] = _mean(percents)
    thirds = [means.get(name) for name in ("non_live", "live", "irrelevance_mean")]
    if None not in thirds:
        numbers = [third.percent if isinstance(third, Share) else third for third in thirds]
        means["single_turn"] = _mean([number for number in numbers if number is not None])
    if isinstance(readable, Share):
        means["format_errors"] = Share(readable.count - readable.hits, readable.count)
    return {**found, **means}


def share_of(verdicts: Iterable[Verdict]) -> dict[str, Share | float]:
    """Return the share of right ones of each score, over the verdicts that have it."""
    found: dict[str, list[bool]] = {}
    for verdict in verdicts:
        for name, right in verdict.scores.items():
            found.setdefault(name, []).append(right)
    return {name: Share(sum(right), len(right)) for name, right in found.items()}


def messages_of(turn: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Return the messages of one turn of a question."""
    return tuple(Message(message["role"], message["content"]) for message in turn)


def tools_of(functions: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    """Return functions as tools, their types in the words of JSON schema."""
    return tuple(normalised_tool(function, Counter(), keep_names=True) for function in functions)


def _item(entry: BfclRow) -> Item:
    row = entry.row
    try:
        answers = () if entry.category in (*IRRELEVANCE, RELEVANCE) else row["ground_truth"]
        (turn,) = row["question"]
        for answer in answers:
            ((_, accepted),) = answer.items()
            if not all(isinstance(values, list) for values in accepted.values()):
                raise ValueError("the accepted values of an argument are no list")
        return Item(
            id=row["id"],
            tools=tools_of(row["function"]),
            messages=messages_of(turn),
            gold=Gold(tuple(answers), tuple(row["function"])),
            tags={"category": entry.category},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RowError(
            f"{entry.place}: no BFCL item of {entry.category} ({error!r}); expected a question of "
            "one turn, functions and, where a call is due, ground_truth of accepted values"
        ) from error


def _gold_call(answer: Answer, tools: Mapping[str, ToolSpec]) -> ToolCall:
    ((name, accepted),) = answer.items()
    required = {p.name for p in tools[name].parameters if p.required}
    arguments: dict[str, Any] = {}
    for key, values in accepted.items():
        # Left out where nothing at all is accepted, too.
        if values and ("" not in values or key in required):
            arguments[key] = _literal(next((v for v in values if v != ""), ""))
    return ToolCall(name, arguments)


def _literal(value: Any) -> Any:
    """Return a value that meets an accepted one, whose dictionaries list what they accept."""
    if isinstance(value, dict):
        needed = {key: options for key, options in value.items() if "" not in options}
        return {key: options[0] for key, options in needed.items()}
    if isinstance(value, list):
        return [_literal(entry) if isinstance(entry, dict) else entry for entry in value]
    return value


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


SUITE = Suite(
    name="bfcl",
    read=read_items,
    judge=judge,
    oracle=write_gold,
    summary=summary,
    version=functools.partial(data_version, categories=CATEGORIES),
    note=(
        "Python only, single turn: Java and JavaScript (150 items), several turns (30 % of the "
        "overall score of version 4), web search and memory (40 %) are not in it, so that there is "
        "no overall score. No call meets the answers of 4 of the 2,351 items that want calls. "
        "Replies are read as their call style is, which takes true and null for True and None."
    ),
)
