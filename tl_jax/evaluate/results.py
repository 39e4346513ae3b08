"""What is written of a suite: a line for each reply, and the scores with their intervals."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_jax.evaluate.intervals import Share, wilson
from tl_jax.evaluate.reading import reader, unread
from tl_jax.evaluate.scores import METRICS
from tl_jax.evaluate.suites.suite import Item, Suite, Verdict, Writer
from tl_jax.rewards.taxonomy import FORMAT_ERROR

_REQUEST_KEPT = 1200

NOT_ENDED = "not ended"
TOO_LONG = "the prompt is too long"
MISSING = "no reply to it"


class Reply(NamedTuple):
    """What was replied to an item.

    Attributes:
      text: The reply; empty if there is none.
      problem: Why it is no reply, one of the constants above; else empty.
    """

    text: str
    problem: str = ""


def judge(suite: Suite, item: Item, reply: Reply, style: str) -> Verdict:
    """Return the verdict of a suite on a reply.

    Args:
      suite: The suite.
      item: Its item.
      reply: The reply; one with a problem is wrong, whatever it says.
      style: How who replied writes calls, one of ``reading.STYLES``; a suite that asks for a style
        of its own is read in that.
    """
    if not reply.problem:
        return suite.judge(item, reply.text, reader(suite.style or style, item.tools))
    verdict = suite.judge(item, reply.text, unread(reply.problem))
    # Some suites take whatever is no call for right.
    return Verdict(dict.fromkeys(verdict.scores, False), FORMAT_ERROR, reply.problem)


def record(
    suite: Suite, item: Item, reply: Reply, verdict: Verdict, style: str, write: Writer
) -> dict[str, Any]:
    """Return the line of a reply, JSON-ready."""
    found = reader(suite.style or style, item.tools)(reply.text)
    return {
        "set": suite.name,
        **({"group": item.tags["group"]} if "group" in item.tags else {}),
        "id": item.id,
        "request": request(item),
        "reply": reply.text,
        "gold": gold_texts(suite, item, write),
        "parsed": bool(found.calls) and not reply.problem,
        "category": verdict.category,
        "detail": verdict.detail,
        **verdict.scores,
    }


def is_levelled(line: Mapping[str, Any]) -> bool:
    """Whether the line of a reply has TS, PI and CF: suites with scores of their own have not."""
    return all(metric in line for metric in METRICS)


def request(item: Item) -> str:
    """Return what an item asks, for people: the dialogue without its system turn.

    Of a prepared prompt it is the end of its text. What is long lacks its middle.
    """
    text = "\n".join(
        message.content if message.role == "user" else f"{message.role}: {message.content}"
        for message in item.messages
        if message.content and message.role != "system"
    )
    text = text or item.prompt[-_REQUEST_KEPT:].strip()
    half = _REQUEST_KEPT // 2
    return text if len(text) <= _REQUEST_KEPT else f"{text[:half]} … {text[-half:]}"


def gold_texts(suite: Suite, item: Item, write: Writer) -> list[str]:
    """Return the accepted answers as texts; of a gold of the suite's own structure, its oracle's.

    What has no text in the style is JSON.
    """

    def written(calls: Sequence[Any]) -> str:
        try:
            return write(calls)
        except ValueError:
            return json.dumps(
                [{"name": c.name, "arguments": dict(c.arguments)} for c in calls],
                ensure_ascii=False,
            )

    if _are_answers(item.gold):
        return [written(answer) if answer else "" for answer in item.gold]
    return [suite.oracle(item, written)]


def _are_answers(gold: Any) -> bool:
    return isinstance(gold, tuple) and all(
        isinstance(answer, tuple) and all(hasattr(call, "arguments") for call in answer)
        for answer in gold
    )


def scored(
    suite: Suite, items: Sequence[Item], replies: Sequence[Reply], verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """Return the scores of a suite, JSON-ready.

    Returns:
      ``items``; ``scores`` in percent, ``intervals`` (95 %, Wilson) and ``counts`` ``[hits, of]``
      by name, where a score that is no share has neither; ``categories``, how often each error
      category was met; how many replies had which ``problems``; the scores of the items by the
      ``tools`` that are right for them; and the ``note`` of the suite.
    """
    found = suite.summary(items, verdicts)
    percents = {n: s.percent if isinstance(s, Share) else float(s) for n, s in found.items()}
    # A share of nothing is no number, and JSON has no word for it.
    percents = {name: percent for name, percent in percents.items() if math.isfinite(percent)}
    shares = {n: s for n, s in found.items() if isinstance(s, Share) and n in percents}
    problems = collections.Counter(reply.problem for reply in replies if reply.problem)
    return {
        "items": len(items),
        "scores": {name: round(percent, 4) for name, percent in percents.items()},
        "intervals": {
            name: [round(bound, 4) for bound in wilson(share)] for name, share in shares.items()
        },
        "counts": {name: [share.hits, share.count] for name, share in shares.items()},
        "categories": dict(collections.Counter(v.category for v in verdicts).most_common()),
        "problems": dict(problems),
        "tools": by_tool(items, verdicts),
        **({"note": suite.note} if suite.note else {}),
    }


def score_sets(
    suite: Suite, items: Sequence[Item], verdicts: Sequence[Verdict]
) -> dict[str, dict[str, Any]]:
    """Return TS, PI and CF as the results of a run have them, by the name of their set.

    A set is the suite, and the suite by each further rule, ``NAME (RULE rule)`` for the scores
    ``RULE/ts`` of its verdicts; of the first, each group, too.
    """
    named = (name.rpartition("/")[0] for verdict in verdicts for name in verdict.scores)
    rules = dict.fromkeys(("", *named))
    found: dict[str, dict[str, Any]] = {}
    for rule in rules:
        prefix = f"{rule}/" if rule else ""
        if not any(f"{prefix}ts" in verdict.scores for verdict in verdicts):
            continue
        name = f"{suite.name} ({rule.replace('_', ' ')} rule)" if rule else suite.name
        found[name] = _levels(verdicts, prefix)
        if not rule and any("group" in item.tags for item in items):
            groups: dict[str, list[Verdict]] = {}
            for item, verdict in zip(items, verdicts, strict=True):
                groups.setdefault(item.tags.get("group", ""), []).append(verdict)
            levels = {g: _levels(members, "") for g, members in groups.items()}
            found[name]["groups"] = {g: entry for g, entry in levels.items() if entry["items"]}
    return found


def by_tool(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Return TS, PI and CF of the items for which a tool is right, by its name.

    An item of several right calls counts for each of their tools; one whose gold has another
    structure, or for which words are right, for none.
    """
    of_tool: dict[str, list[Verdict]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        if "ts" in verdict.scores and item.gold and _are_answers(item.gold):
            for name in dict.fromkeys(call.name for call in item.gold[0]):
                of_tool.setdefault(name, []).append(verdict)
    return {name: _levels(members, "") for name, members in sorted(of_tool.items())}


def _levels(verdicts: Sequence[Verdict], prefix: str) -> dict[str, Any]:
    asked = [verdict.scores for verdict in verdicts if f"{prefix}ts" in verdict.scores]
    return {"items": len(asked)} | {
        # A suite leaves out what an item cannot be asked; it is not right there, as in its summary.
        metric: interval_of(Share(sum(s.get(prefix + metric, False) for s in asked), len(asked)))
        for metric in METRICS
    }


def interval_of(share: Share) -> Mapping[str, float]:
    """Return ``{"percent", "low", "high"}``, the last two the 95 % Wilson interval."""
    low, high = wilson(share)
    return {"percent": share.percent, "low": low, "high": high}
