"""Compare our statement of BFCL's rules with the checker of bfcl-eval, verdict by verdict.

    pip install --no-deps --target=PACKAGE bfcl-eval==2026.3.23
    python tools/bench/bfcl_agreement.py --package=PACKAGE [--rounds=2] [--out=FILE]

Calls are the answers themselves (every accepted value in turn), answers with one thing changed
(names, arguments, values, types, items, keys, number and order of calls), and random calls of the
offered functions. Both sides judge the same calls as data: no reply is parsed, nothing is executed.
Where the peer raises an error, its evaluation would end there; such calls are counted apart. Takes
about two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.evaluate.suites import bfcl
from tl_jax.evaluate.suites.bfcl_checker import Answer, fault_of_calls
from tl_jax.evaluate.suites.suite import Item

Calls = list[tuple[str, dict[str, Any]]]

RESULTS = pathlib.Path(__file__).parent / "results" / "bfcl_agreement.json"
SCORED = (*bfcl.NON_LIVE, *bfcl.LIVE)
VALUES: tuple[Any, ...] = (
    "", "x", "New York, NY", "new-york ny", 0, 1, 7, -3, 2.0, 0.5, True, False, None,
    [], [1], [1.0, 2], ["a", "B."], [[1]], {}, {"a": 1}, [{"a": "b"}],
)  # fmt: skip


def main() -> None:
    """Judge all calls on both sides and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=2, help="changes of each kind per item")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    data = str(options.package / "bfcl_eval" / "data")
    items = [item for item in bfcl.read_items(data) if item.tags["category"] in SCORED]
    cases = [
        (item, kind, calls)
        for number, item in enumerate(items)
        for kind, calls in predictions(item, random.Random(number), options.rounds)
    ]
    theirs = peer_verdicts(cases, options.package)
    counts: dict[str, Counter[str]] = {}
    differing = []
    for (item, kind, calls), verdict in zip(cases, theirs, strict=True):
        mine = "wrong" if our_fault(item, calls) else "right"
        agreed = "raised" if verdict == "raised" else "agree" if verdict == mine else "differ"
        for key in (f"category {item.tags['category']}", f"kind {kind}", "all"):
            counts.setdefault(key, Counter())[agreed] += 1
            counts[key][f"peer: {verdict}"] += 1
        if agreed == "differ":
            differing.append({"id": item.id, "kind": kind, "calls": calls, "peer": verdict})
    total = counts["all"]
    judged = total["agree"] + total["differ"]
    result = {
        "data": bfcl.SUITE.version(data),
        "items": len(items),
        "verdicts": judged,
        "agree_percent": 100 * total["agree"] / judged,
        "counts": {key: dict(sorted(found.items())) for key, found in sorted(counts.items())},
        "differing": differing[:50],
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print({key: result[key] for key in ("data", "items", "verdicts", "agree_percent")}, total)


def our_fault(item: Item, calls: Calls) -> str:
    """Return what our rules find wrong with calls."""
    gold: bfcl.Gold = item.gold
    return fault_of_calls(
        [ToolCall(name, arguments) for name, arguments in calls],
        gold.answers,
        gold.functions,
        parallel="parallel" in item.tags["category"],
    )


def peer_verdicts(cases: list[tuple[Item, str, Calls]], package: pathlib.Path) -> list[str]:
    """Return the verdicts of the peer, which runs in a process of its own."""
    lines = [
        json.dumps(
            {
                "category": item.tags["category"],
                "functions": item.gold.functions,
                "answers": item.gold.answers,
                "calls": calls,
            }
        )
        for item, _, calls in cases
    ]
    done = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).with_name("bfcl_side.py"))],
        input="\n".join(lines),
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.split()


def predictions(item: Item, rng: random.Random, rounds: int) -> Iterator[tuple[str, Calls]]:
    """Yield calls for an item, each with the kind of thing it is."""
    answers = item.gold.answers
    for number in range(3):
        yield "gold", [accepted(answer, rng, number) for answer in answers]
    for kind, change in CHANGES.items():
        for _ in range(rounds):
            calls = [accepted(answer, rng, 0) for answer in answers]
            change(calls, item, rng)
            yield kind, calls
    for _ in range(2 * rounds):
        yield "random calls", [random_call(item, rng) for _ in answers]


def accepted(answer: Answer, rng: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    """Return a call of accepted values.

    Args:
      answer: The answer.
      rng: Draws.
      number: 0: the first value of each, 1: any, and what may be left out by chance, 2: any, and
        all that may be is left out.
    """
    ((name, listed),) = answer.items()
    arguments = {}
    for key, values in listed.items():
        given = [value for value in values if value != ""]
        leave = "" in values and (number == 2 or (number == 1 and rng.random() < 0.5))
        if given and not leave:
            arguments[key] = _literal(given[0] if number == 0 else rng.choice(given), rng, number)
    return name, arguments


def _literal(value: Any, rng: random.Random, number: int) -> Any:
    if isinstance(value, list):
        return [
            _literal(entry, rng, number) if isinstance(entry, dict) else entry for entry in value
        ]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if "" not in v or (number < 2 and v[0] != "")}
        return {k: v[0] if number == 0 else rng.choice(v) for k, v in kept.items()}
    return value


def random_call(item: Item, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a call of an offered function with values of any type."""
    function = rng.choice(item.gold.functions)
    names = list(function["parameters"]["properties"])
    kept = [name for name in names if rng.random() < 0.8]
    return function["name"], {name: rng.choice(VALUES) for name in kept}


def _rename(calls: Calls, item: Item, rng: random.Random) -> None:
    at = rng.randrange(len(calls))
    names = [function["name"] for function in item.gold.functions]
    calls[at] = (rng.choice([*names, calls[at][0] + "_2"]), calls[at][1])


def _drop_argument(calls: Calls, item: Item, rng: random.Random) -> None:
    arguments = rng.choice(calls)[1]
    if arguments:
        del arguments[rng.choice(list(arguments))]


def _add_argument(calls: Calls, item: Item, rng: random.Random) -> None:
    name, arguments = rng.choice(calls)
    function = next(f for f in item.gold.functions if f["name"] == name)
    properties = function["parameters"]["properties"]
    key = rng.choice([*properties, "unheard_of"])
    value = properties.get(key, {}).get("default", rng.choice(VALUES))
    arguments.setdefault(key, value)


def _on_value(change: Callable[[Any, random.Random], Any]) -> Callable[..., None]:
    def changed(calls: Calls, item: Item, rng: random.Random) -> None:
        arguments = rng.choice(calls)[1]
        if arguments:
            key = rng.choice(list(arguments))
            arguments[key] = change(arguments[key], rng)

    return changed


def _spelling(value: Any, rng: random.Random) -> Any:
    if isinstance(value, str):
        at, mark = rng.randrange(len(value) + 1), rng.choice(" ,./-_*^'\"+:")
        marked = value[:at] + mark + value[at:]
        return rng.choice([value.upper(), marked, value.replace(" ", mark), value + "'"])
    return _inside(value, rng, _spelling)


def _number(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return rng.choice([float(value), str(value), value + 1])
    if isinstance(value, float):
        return rng.choice([int(value), str(value), value + 0.5])
    return _inside(value, rng, _number)


def _inside(value: Any, rng: random.Random, change: Callable[[Any, random.Random], Any]) -> Any:
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], change(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: change(value[key], rng)}
    return value


def _shape(value: Any, rng: random.Random) -> Any:
    if isinstance(value, list):
        return rng.choice([value[1:], [*value, *value[:1]], value[::-1], [value], []])
    if isinstance(value, dict):
        return rng.choice([dict(list(value.items())[1:]), {**value, "extra": 1}, [value], {}])
    return rng.choice([[value], {"value": value}, None, ""])


def _any(value: Any, rng: random.Random) -> Any:
    return rng.choice(VALUES)


def _count(calls: Calls, item: Item, rng: random.Random) -> None:
    if rng.random() < 0.5:
        calls.append(rng.choice(calls))
    else:
        calls.pop(rng.randrange(len(calls)))


def _order(calls: Calls, item: Item, rng: random.Random) -> None:
    rng.shuffle(calls)


def _twice(calls: Calls, item: Item, rng: random.Random) -> None:
    calls[rng.randrange(len(calls))] = rng.choice(calls)


CHANGES: dict[str, Callable[..., None]] = {
    "another name": _rename,
    "an argument less": _drop_argument,
    "an argument more": _add_argument,
    "another spelling": _on_value(_spelling),
    "another number": _on_value(_number),
    "another shape": _on_value(_shape),
    "any other value": _on_value(_any),
    "another count of calls": _count,
    "another order of calls": _order,
    "a call twice": _twice,
}


if __name__ == "__main__":
    main()
