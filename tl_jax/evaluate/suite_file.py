"""Score a data file of a suite and write the result: one JSON file, and a line for each reply."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.errors import ConfigError
from tl_jax.evaluate import results
from tl_jax.evaluate.noise import CLEAN, Noisy, make_noisy
from tl_jax.evaluate.predictions import oracle_replies, predicted, read_predictions
from tl_jax.evaluate.reading import STYLES, writer
from tl_jax.evaluate.results import Reply
from tl_jax.evaluate.suites.choose import Chosen, file_name, find_suite, read_items
from tl_jax.evaluate.suites.found import ALL, check_one_folder, found_in
from tl_jax.evaluate.suites.own_data import spread

REPLIES = ".items.jsonl"
"""Ending of the file with the line of each reply, in place of ``.json``."""


def requested(names: Sequence[str], paths: Sequence[str]) -> list[Chosen]:
    """Return the suites that ``--suite`` and ``--data`` name.

    Args:
      names: Names of suites or Python files; or ``all`` alone, for whatever lies in a folder.
      paths: The data file of each, in the same order; or none, for suites without files.

    Raises:
      ConfigError: An unknown suite, or not one file each.
    """
    if ALL in names:
        return found_in(check_one_folder(names, paths))
    if paths and len(paths) != len(names):
        raise ConfigError(
            f"--data names {len(paths)} files for {len(names)} suites; give one each, in their "
            "order"
        )
    found = []
    for name, path in zip(names, paths or [""] * len(names), strict=True):
        suite, code = find_suite(name, "--suite")
        if not path and not code:
            raise ConfigError(f"--suite={name} needs --data=FILE, the file of its items")
        found.append(Chosen(suite, path, code))
    return found


def result_paths(chosen: Sequence[Chosen], out: str) -> list[Path]:
    """Return the result file of each suite: ``out``, or files of their names in it.

    Raises:
      ConfigError: ``out`` is no place for them.
    """
    if not out:
        raise ConfigError("--suite needs --out, a .json file, or a directory for several suites")
    if not out.endswith(".json"):
        names = [file_name(one.name) for one in chosen]
        return [
            Path(out, f"{name}-{_stem(one.path)}.json" if names.count(name) > 1 else f"{name}.json")
            for name, one in zip(names, chosen, strict=True)
        ]
    if len(chosen) > 1:
        raise ConfigError(f"--out={out}: of several suites give a directory, not a file")
    return [Path(out)]


def _stem(path: str) -> str:
    """Return a name of a file that tells it from one of the same name in another folder."""
    return f"{Path(path).parent.name}-{os.path.basename(path).partition('.')[0]}".strip("-")


def noisy_items(chosen: Chosen, noise: str, seed: int, limit: int) -> list[Noisy]:
    """Return the items of a suite, perturbed; of more than the limit (0: none) some of all over it.

    Raises:
      DataError: The data cannot be read.
      ConfigError: There is no such noise.
    """
    items = read_items(chosen.suite, chosen.path)
    items = spread(items, limit or len(items))
    noisy = make_noisy(items, noise, seed)
    if noise != CLEAN and all(one.item == one.original for one in noisy):
        raise ConfigError(
            f"noise {noise!r} changes none of the {len(items)} items of {chosen.name}: it needs "
            "tools, results or gold calls of a kind that they do not have; take another"
        )
    return noisy


def write_result(
    chosen: Chosen,
    items: Sequence[Noisy],
    replies: Sequence[Reply],
    path: Path,
    *,
    style: str,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge replies, write both files and return the result.

    Args:
      chosen: The suite and its data.
      items: Its items, perturbed or not.
      replies: One each.
      path: The result file.
      style: How the replies write calls.
      facts: What else the result is to say, such as who replied.
    """
    suite = chosen.suite
    verdicts = [
        results.judge(one.suite(suite), one.item, reply, style)
        for one, reply in zip(items, replies, strict=True)
    ]
    write = writer(suite.style or style)
    lines = [
        results.record(one.suite(suite), one.item, reply, verdict, style, write)
        | ({"problem": reply.problem} if reply.problem else {})
        for one, reply, verdict in zip(items, replies, verdicts, strict=True)
    ]
    result = {
        "suite": chosen.name,
        "data": os.path.basename(chosen.path),
        "version": chosen.version,
        "style": suite.style or style,
        **facts,
        "items_with_noise": sum(one.item != one.original for one in items),
        **results.scored(suite, [one.item for one in items], replies, verdicts),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(
        path.with_suffix(REPLIES),
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
    )
    _write(path, json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def score_file(
    chosen: Chosen,
    path: Path,
    *,
    predictions: str = "",
    style: str = STYLES[0],
    noise: str = CLEAN,
    seed: int = 0,
    limit: int = 0,
) -> dict[str, Any]:
    """Score replies that are there, without a model, and write the result.

    Args:
      chosen: The suite and its data.
      path: The result file.
      predictions: File of the replies; empty: the gold answers.
      style: How they write calls, one of ``reading.STYLES``.
      noise: Which noise the items have, see ``noise``.
      seed: Seed of the noise.
      limit: Most items; 0: all.

    Raises:
      DataError: The data or the predictions cannot be read.
    """
    items = noisy_items(chosen, noise, seed, limit)
    plain = [one.item for one in items]
    if predictions:
        replies = predicted(plain, read_predictions(predictions), predictions)
    else:
        write = writer(chosen.suite.style or style)
        replies = [
            reply
            for one in items
            for reply in oracle_replies(chosen.suite, [one.original], one.writer(write))
        ]
    facts = {
        "replies": os.path.basename(predictions) or "oracle",
        "noise": noise,
        "seed": seed,
    }
    return write_result(chosen, items, replies, path, style=style, facts=facts)


def in_progress(path: Path, facts: Mapping[str, Any]) -> dict[str, Reply]:
    """Return the replies that an interrupted evaluation with the same facts has left."""
    found: dict[str, Reply] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        if json.loads(lines[0]) != json.loads(json.dumps(facts)):
            return {}
        for line in lines[1:-1]:  # what follows the last line feed was cut off
            row = json.loads(line)
            found[row["id"]] = Reply(row["reply"], row.get("problem", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return found
    return found


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".tmp")
    # Half a surrogate pair, which a reply may hold, has no form in UTF-8 but its escape in JSON.
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    draft.replace(path)
