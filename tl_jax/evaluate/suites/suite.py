"""What an evaluation suite is: a name, what reads its items, and the rule that judges a reply.

A suite knows nothing of models: its items are dialogues and tools as data, which the renderer of
any model writes, and a reply is a text, which the call style of any system reads.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import RunConfig
from tl_jax.data.prepare.files import source_hash
from tl_jax.data.trajectory import Message
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.scores import FREE_TEXT_TOOLS, Policy, score_calls
from tl_jax.rewards import rules, taxonomy

Answers = tuple[tuple[ToolCall, ...], ...]
"""Accepted answers: each the calls of one turn, in any order; an answer of no calls is words."""
Scores = Mapping[str, "Share | float"]
"""Shares by name; a number in percent where a score is made of several shares."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of a suite.

    Attributes:
      id: Its own within the suite, and the same in every version of it.
      tools: Those that are offered, in prompt order.
      messages: The dialogue up to the reply; a system turn stands first if the suite has one.
      gold: What is right, in the suite's own structure; ``Answers`` for those that are judged by
        ``judge_calls``.
      tags: Labels such as ``scenario``; items of one ``group`` are also summarised apart.
      ids: The prompt as token ids, where it was prepared in the text form of a run; else empty.
      prompt: The same as text, or its end.
    """

    id: str
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    gold: Any
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ids: tuple[int, ...] = ()
    prompt: str = ""


@dataclasses.dataclass(frozen=True)
class Read:
    """A reply as its call style reads it.

    Attributes:
      calls: The calls in order; none where it is anything but calls (and a thought before them).
      problem: Why no calls could be read; empty if there are some.
      words: It is words without any call, whole or begun.
    """

    calls: tuple[ToolCall, ...] = ()
    problem: str = ""
    words: bool = False


Reader = Callable[[str], Read]
"""Reads a reply to an item: bound to its tools and to the call style of who wrote it."""
Writer = Callable[[Sequence[ToolCall]], str]
"""Writes the calls of one turn in that style; raises ValueError where they have no text."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a suite says of one reply.

    Attributes:
      scores: What is right, by the name of the score; a score that does not ask for this item is
        not there.
      category: Kind of error, of ``rewards.taxonomy`` where the suite has none of its own.
      detail: What the error is about, for people.
    """

    scores: Mapping[str, bool]
    category: str = ""
    detail: str = ""


def answers(*calls: ToolCall) -> Answers:
    """Return the answers of one call each, of which any is right."""
    return tuple((call,) for call in calls)


def file_version(path: str) -> str:
    """Return the first 16 digits of the sha256 of a file; nothing where there is none."""
    return source_hash(path)[:16] if os.path.isfile(path) else ""


def judge_calls(
    item: Item,
    reply: str,
    read: Reader,
    *,
    policy: Policy | None = None,
    free_text_tools: Sequence[str] = FREE_TEXT_TOOLS,
) -> Verdict:
    """Judge a reply against ``Answers``: TS, PI and CF, and the error category of the reward.

    Where an answer without calls is accepted, words without a call are right. An item for which
    that is the only answer has the score ``no_call`` in place of the other three.

    Args:
      item: The item.
      reply: Text of the reply.
      read: Reads it.
      policy: How calls are compared; ``Policy(free_text_tools)`` if None.
      free_text_tools: Tools whose texts need not be equal, for the category.
    """
    found = read(reply)
    golds: Answers = item.gold
    policy = policy or Policy(tuple(free_text_tools))
    score = score_calls(found.calls, golds, tools=item.tools, policy=policy)
    silent = () in golds and found.words
    if not any(golds):
        scores = {"no_call": silent}
    else:
        right = dataclasses.asdict(score)
        scores = {name: value or silent for name, value in right.items()}
    if silent:
        return Verdict(scores, taxonomy.ALL_RIGHT)
    if not found.calls:
        return Verdict(scores, taxonomy.FORMAT_ERROR, found.problem)
    category, detail = category_of(found.calls, golds, item.tools, free_text_tools)
    if score.cf:  # the texts of free-text tools are not compared
        category, detail = taxonomy.ALL_RIGHT, ""
    return Verdict(scores, category, detail)


def category_of(
    calls: Sequence[ToolCall],
    golds: Answers,
    tools: Sequence[ToolSpec],
    free_text_tools: Sequence[str] = FREE_TEXT_TOOLS,
) -> tuple[str, str]:
    """Return the error category of calls against accepted answers, and what it is about.

    It is right where CF is: an argument that is left out or written too much is an error also where
    it has the default of the schema, which the reward lets pass.
    """
    reward = rules.score(
        rules.Parallel(tuple(calls)),
        [rules.Parallel(answer) for answer in golds],
        [_without_defaults(tool) for tool in tools],
        free_text_tools=free_text_tools,
    )
    return reward.category, "; ".join(reward.details)


def _without_defaults(tool: ToolSpec) -> ToolSpec:
    parameters = tuple(
        dataclasses.replace(p, schema={k: v for k, v in p.schema.items() if k != "default"})
        for p in tool.parameters
    )
    return dataclasses.replace(tool, parameters=parameters)


def write_answer(item: Item, write: Writer) -> str:
    """Return the first accepted answer as a text."""
    answer = item.gold[0]
    return write(answer) if answer else "None of the tools is needed for that."


def shares(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the share of right ones of each score, over the items that have it.

    They are called as the scores are; those of the items with a tag ``group`` also ``GROUP/score``.
    """
    found: dict[str, list[bool]] = {}
    groups: dict[str, list[bool]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        for name, right in verdict.scores.items():
            found.setdefault(name, []).append(right)
            if "group" in item.tags:
                groups.setdefault(f"{item.tags['group']}/{name}", []).append(right)
    return {name: Share(sum(right), len(right)) for name, right in {**found, **groups}.items()}


def no_source(config: RunConfig) -> str:
    """Return that the settings of a run name no data."""
    return ""


@dataclasses.dataclass(frozen=True)
class Suite:
    """Items, and the rule that judges replies to them.

    Attributes:
      name: As in tables, such as ``"rotbench"``: words of letters, digits, ``.``, ``_`` and ``-``,
        joined by ``/``.
      read: Makes the items of a data file, or, where a suite has no file, of an empty path.
      judge: The rule, ``(item, text of the reply, reader) -> Verdict``.
      oracle: Writes the gold answer of an item, ``(item, writer) -> text``: judged, it is right,
        or the suite says why not.
      summary: Makes scores of the verdicts, ``(items, verdicts) -> {name: Share or number}``; each
        share gets an interval.
      version: Identifies the data of a path.
      style: The call style that the suite's own prompt asks for; empty: that of who is asked.
      source: What a run's settings say its data are; empty: they name none.
      setting: Field of ``config.evaluate`` that ``source`` reads; empty: none.
      note: What is not scored, or otherwise than elsewhere; it stands in every result.
    """

    name: str
    read: Callable[[str], Iterable[Item]]
    judge: Callable[[Item, str, Reader], Verdict] = judge_calls
    oracle: Callable[[Item, Writer], str] = write_answer
    summary: Callable[[Sequence[Item], Sequence[Verdict]], Scores] = shares
    version: Callable[[str], str] = file_version
    style: str = ""
    source: Callable[[RunConfig], str] = no_source
    setting: str = ""
    note: str = ""
