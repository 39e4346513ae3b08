"""Measure how many replies the reward scores per second on one core.

    python tools/bench/reward.py [--trajectories=200] [--repeats=7] [--note=TEXT] [--out=FILE]

The gold calls are those of the embedded world, rendered in the released form. Half of the replies
are right, the others have one of the faults that models make. Every scorer reads the same texts;
rounds alternate between the scorers, so that other programs disturb all of them alike, and rates
are medians over rounds in CPU seconds. Two peers are measured beside ours: the published reward
(mode ``reference``), and a plain scorer on ``ast.parse`` and ``ast.literal_eval`` that compares
names and values without schemas; it remembers gold calls, too. Takes some seconds.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import os
import pathlib
import platform
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tl_jax
from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.render import render_call
from tl_jax.data import synthetic
from tl_jax.rewards.rules import score, score_batch

RESULTS = pathlib.Path(__file__).parent / "results" / "reward.json"
TARGET_PER_S = 20_000


class Reply(NamedTuple):
    """A reply with what it is scored against."""

    text: str
    gold: str
    tools: tuple[ToolSpec, ...]


def main() -> None:
    """Measure all scorers and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    replies = make_replies(options.trajectories, random.Random(0))
    texts, golds, tools = ([row[n] for row in replies] for n in range(3))
    tables = [{t.name: [p.name for p in t.parameters] for t in row} for row in tools]
    scorers: dict[str, Callable[[], Any]] = {
        "strict, one by one": lambda: [score(*row) for row in replies],
        "strict, batch": lambda: score_batch(texts, golds, tools),
        "graded, batch": lambda: score_batch(texts, golds, tools, mode="graded"),
        "published (reference mode), batch": lambda: score_batch(
            texts, golds, tables, mode="reference"
        ),
        "plain ast.literal_eval": lambda: list(map(plain_score, texts, golds, tables)),
    }
    rates = measure(scorers, len(replies), options.repeats)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    strict = medians["strict, batch"]
    results = {
        "machine": machine(),
        "note": options.note,
        "replies": len(replies),
        "tools_per_prompt": round(statistics.mean(map(len, tools)), 1),
        "characters_per_reply": round(statistics.mean(map(len, texts)), 1),
        "categories": dict(Counter(r.category for r in score_batch(texts, golds, tools))),
        "cpu_scores_per_s": {
            name: {"median": round(medians[name]), "all": [round(rate) for rate in found]}
            for name, found in rates.items()
        },
        "ratio_of_strict_batch_to": {
            name: round(strict / medians[name], 2)
            for name in ("published (reference mode), batch", "plain ast.literal_eval")
        },
        "target": {"cpu_scores_per_s": TARGET_PER_S, "met": strict >= TARGET_PER_S},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "tl_jax": tl_jax.__version__,
    }


def measure(
    scorers: dict[str, Callable[[], Any]], count: int, repeats: int
) -> dict[str, list[float]]:
    """Return the scores per CPU second of every round; the first round only warms up."""
    rates: dict[str, list[float]] = {name: [] for name in scorers}
    for number in range(repeats + 1):
        for name, run in scorers.items():
            start = time.process_time()
            run()
            if number:
                rates[name].append(count / (time.process_time() - start))
    return rates


def make_replies(trajectories: int, rng: random.Random) -> list[Reply]:
    """Return a reply for every call of the world, half of them with a fault."""
    replies = []
    for trajectory in synthetic.trajectories(trajectories, seed=1, split="train"):
        for call in (call for message in trajectory.messages for call in message.calls):
            gold = render_call(call)
            text = gold if rng.random() < 0.5 else faulty(call, gold, trajectory.tools, rng)
            replies.append(Reply(f" {text}", gold, trajectory.tools))
    return replies


def faulty(call: ToolCall, gold: str, tools: Sequence[ToolSpec], rng: random.Random) -> str:
    """Return the text of a call with one fault."""
    given = dict(call.arguments)
    kind = rng.randrange(6)
    if kind == 0:
        return gold[: rng.randrange(len(gold))]
    if kind == 1:
        return render_call(ToolCall(rng.choice(tools).name, given))
    if kind == 2:
        return render_call(ToolCall(call.name + "s", given))
    if kind == 3 or not given:
        return render_call(ToolCall(call.name, {**given, "verbose": True}))
    name = rng.choice(list(given))
    if kind == 4:
        return render_call(ToolCall(call.name, {k: v for k, v in given.items() if k != name}))
    return render_call(ToolCall(call.name, {**given, name: f"not {given[name]}"}))


def plain_score(text: str, gold: str, tools: dict[str, list[str]]) -> float:
    """Score as a short script would: Python's own parser, equality of dictionaries."""
    try:
        name, given = plain_call(text)
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return -2.0
    due_name, due = plain_gold(gold)
    if name not in tools:
        return -2.0
    if name != due_name:
        return -1.5
    value = 0.0
    if any(key not in due and key not in tools[name] for key in given):
        value -= 0.8
    if any(key not in due and key in tools[name] for key in given):
        value -= 0.5
    if any(key not in given for key in due):
        value -= 0.5
    return value or (1.0 if given == due else -0.25)


def plain_call(text: str) -> tuple[str, dict[str | None, Any]]:
    """Read a call by Python's own grammar."""
    call: Any = ast.parse(text.strip(), mode="eval").body
    return call.func.id, {pair.arg: ast.literal_eval(pair.value) for pair in call.keywords}


plain_gold = functools.lru_cache(maxsize=4096)(plain_call)


if __name__ == "__main__":
    main()
