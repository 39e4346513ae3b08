"""Read what a run directory holds; whatever is missing or damaged is simply absent."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.examples import annotations
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.prepare.files import EXAMPLES, REPORT
from tl_jax.errors import ConfigError, DataError
from tl_jax.rewards import taxonomy

PHASE_TITLES = {
    "before": "before",
    "supervised": "after supervised",
    "reward": "after reward training",
}
"""Phase of a result file -> how the report calls it, in order."""

METRICS = {"ts": "tool selection", "pi": "parameter identification", "cf": "content filling"}

REPLIES = ".replies.jsonl"
"""Ending of the files with the replies to a suite, beside its result file."""

SERVICE = "service"
"""Group of the turns that call a service, whose arguments are all compared."""

_ALL_TURNS = ": all turns"
_OTHER_RULE = " rule)"
_BEYOND = 1e100  # sums, squares and axes of greater numbers would overflow
_STEPS = 2**53
_EXAMPLES_READ = 2000
_FAILURES_READ = 2000
_LOOKED_AT = 200
_EXAMPLES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Score:
    """A percentage with its 95 % interval."""

    percent: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class SetResult:
    """Scores of one evaluation set or of a part of it; ``scores`` by the keys of ``METRICS``."""

    items: int
    scores: Mapping[str, Score]


@dataclasses.dataclass(frozen=True)
class Failures:
    """Wrong replies of a phase to its evaluation suites.

    Attributes:
      phase: The phase; empty without any replies.
      replies: How many there are in all.
      wrong: How many of them are wrong.
      records: Lines of those that are wrong, of each suite and category in turn.
    """

    phase: str = ""
    replies: int = 0
    wrong: int = 0
    records: Sequence[Mapping[str, Any]] = ()


@dataclasses.dataclass(frozen=True)
class RunData:
    """What the report shows.

    Attributes:
      directory: The run directory.
      name: Its name.
      config: Resolved configuration, or empty.
      versions: Software and devices, or empty.
      metrics: Rows of ``metrics.jsonl`` by stage, in order of steps.
      results: Phase -> evaluation set (see ``labelled_sets``) -> scores.
      too_long: Sentences of ``too_long`` about all phases.
      tokens_per_s: Phase -> generation speed of its evaluation.
      data_report: Counts of the prepare stage, or empty.
      weights: Weight -> number of trained targets, of the first examples.
      examples_read: How many examples ``weights`` speaks about.
      samples: Worst sampled call of each prompt, worst first.
      best_samples: Right sampled calls, one of each prompt, the latest first.
      examples: Numbers from 0 of prepared examples that show most, and what they are.
      tools: Evaluation set -> tool -> scores of the last phase that has any.
      failures: Wrong replies of that phase.
      noisy: Results of suites by noise, as ``report.suites`` has them.
    """

    directory: Path
    name: str
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    metrics: Mapping[str, Sequence[Mapping[str, Any]]]
    results: Mapping[str, Mapping[str, SetResult]]
    too_long: Sequence[str]
    tokens_per_s: Mapping[str, float]
    data_report: Mapping[str, Any]
    weights: Mapping[float, int]
    examples_read: int
    samples: Sequence[Mapping[str, Any]]
    best_samples: Sequence[Mapping[str, Any]]
    examples: Sequence[tuple[int, Example]]
    tools: Mapping[str, Mapping[str, SetResult]]
    failures: Failures
    noisy: Sequence[Mapping[str, Any]]

    def series(self, stage: str, name: str) -> tuple[list[int], list[float]]:
        """Return steps and values of a metric of a stage."""
        points = [
            (row["step"], value)
            for row in self.metrics.get(stage, ())
            if math.isfinite(value := number(row.get(name)))
        ]
        return [step for step, _ in points], [value for _, value in points]


def read_run(run_dir: Path) -> RunData:
    """Read a run directory.

    Raises:
      ConfigError: There is no such directory.
    """
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: no such run directory; check --config.run_dir")
    results, speeds = {}, {}
    long: dict[str, None] = {}
    for phase in PHASE_TITLES:
        sets: dict[str, Any] = {}
        levels: dict[str, Any] = {}
        for content in phase_results(run_dir, phase):
            sets |= content["sets"]
            # What has scores of another kind only is shown by ``more_scores``.
            own = isinstance(content.get("scores"), Mapping)
            levels |= {n: e for n, e in content["sets"].items() if has_levels(e) or not own}
            long |= dict.fromkeys(too_long(content))
        if sets:
            results[phase] = {n: _set_result(entry) for n, entry in labelled_sets(levels).items()}
        if math.isfinite(speed := _speed(sets)):
            speeds[phase] = speed
    weights, examples_read = _weights(run_dir / "data" / EXAMPLES)
    worst, best = _samples(run_dir / "samples.jsonl")
    last = next(reversed(results), "")
    return RunData(
        directory=run_dir,
        name=run_dir.resolve().name,
        config=read_json(run_dir / "config.json"),
        versions=read_json(run_dir / "versions.json"),
        metrics=_metrics(run_dir / "metrics.jsonl"),
        results=results,
        too_long=tuple(long),
        tokens_per_s=speeds,
        data_report=read_json(run_dir / "data" / REPORT),
        weights=weights,
        examples_read=examples_read,
        samples=worst,
        best_samples=best,
        examples=_telling_examples(run_dir / "data" / EXAMPLES),
        tools=_tools(run_dir, last) if last else {},
        failures=_failures(run_dir, last) if last else Failures(),
        noisy=_noisy(run_dir / "results"),
    )


def phase_results(run_dir: Path, phase: str) -> list[dict[str, Any]]:
    """Return the content of every result file of a phase, one per suite, in the order of tables.

    What lies in the one file that earlier versions wrote for all suites comes first.
    """
    folder = run_dir / "results"
    contents = [read_json(path) for path in sorted((folder / phase).glob("*.json"))]
    contents.sort(key=lambda content: number(content.get("position")))
    contents.insert(0, read_json(folder / f"evaluate_{phase}.json"))
    return [content for content in contents if isinstance(content.get("sets"), Mapping)]


def _speed(sets: Mapping[str, Any]) -> float:
    """Return the generated tokens per second over all sets; NaN where they do not say."""
    entries = [entry for entry in sets.values() if isinstance(entry, Mapping)]
    pairs = [(number(entry.get("tokens")), number(entry.get("seconds"))) for entry in entries]
    known = [pair for pair in pairs if all(map(math.isfinite, pair))]
    seconds = sum(seconds for _, seconds in known)
    return sum(tokens for tokens, _ in known) / seconds if seconds else math.nan


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``; empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def labelled_sets(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a result file's ``sets`` as tables show them.

    Of a set with groups, the calls of services come first: the arguments of the others are not
    compared, so that all turns together look better than they are.
    """
    found: dict[str, Any] = {}
    for name, entry in sets.items():
        groups = entry.get("groups") if isinstance(entry, Mapping) else None
        if isinstance(groups, Mapping) and SERVICE in groups:
            found[f"{name}: service calls"] = groups[SERVICE]
            found[f"{name}{_ALL_TURNS}"] = entry
        else:
            found[str(name)] = entry
    return found


def has_levels(entry: Any) -> bool:
    """Whether an entry of a result file's ``sets`` has TS, PI and CF, as not every suite has."""
    return isinstance(entry, Mapping) and METRICS.keys() <= entry.keys()


def too_long(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence about each set of a result file with tasks that were too long to be asked.

    Args:
      result: Content of a file of ``phase_results``.
    """
    settings = result.get("settings")
    limit = settings.get("max_prompt_length") if isinstance(settings, Mapping) else None
    return [
        f"{count} of {entry.get('tasks', entry.get('items'))} tasks of {name} are longer than "
        f"config.evaluate.max_prompt_length ({limit} tokens) and count as wrong; raise it"
        for name, entry in result["sets"].items()
        if isinstance(entry, Mapping) and (count := entry.get("too_long"))
    ]


def is_headline(name: str) -> bool:
    """Whether a name of ``labelled_sets`` is the first row of its set."""
    return not name.endswith((_ALL_TURNS, _OTHER_RULE))


def number(value: Any) -> float:
    """Return a number as float, NaN for all else and for what is beyond measure."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < _BEYOND else math.nan


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:
        return


def _metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(path):
        if isinstance(step := row.get("step"), int) and 0 <= step < _STEPS:
            stages.setdefault(str(row.get("stage")), []).append(row)
    for rows in stages.values():
        rows.sort(key=lambda row: row["step"])
    return stages


def _set_result(entry: Any) -> SetResult:
    entry = entry if isinstance(entry, Mapping) else {}
    count = number(entry.get("items"))
    scores = {metric: _score(entry.get(metric)) for metric in METRICS}
    return SetResult(int(count) if math.isfinite(count) else 0, scores)


def _score(value: Any) -> Score:
    value = value if isinstance(value, Mapping) else {}
    return Score(*(number(value.get(part)) for part in ("percent", "low", "high")))


def _weights(path: Path) -> tuple[dict[float, int], int]:
    counts: collections.Counter[float] = collections.Counter()
    read = 0
    try:
        for example in itertools.islice(open_shards(path), _EXAMPLES_READ):
            read += 1
            counts.update(weight for weight in example.weights if weight > 0)
    except DataError:
        pass  # a report is made of what is there
    return dict(counts), read


def _telling_examples(path: Path) -> list[tuple[int, Example]]:
    """Return the examples that show most of the method, among the first ones of a data set.

    They have turns that are left out and several weights, and are short.
    """
    found = []
    try:
        for number, example in enumerate(itertools.islice(open_shards(path), _LOOKED_AT)):
            turns = annotations.read_turns(example.tags)
            left_out = sum(not turn.trained for turn in turns)
            kinds = len({weight for weight in example.weights if weight > 0})
            found.append((-min(left_out, 1), -min(kinds, 3), len(example.ids), number, example))
    except (DataError, KeyError, ValueError):
        pass  # a report is made of what is there
    found.sort(key=lambda row: row[:4])
    return [(number, example) for *_, number, example in found[:_EXAMPLES_SHOWN]]


def _samples(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the worst sampled call of each prompt, and the best of those that were right."""
    worst: dict[str, dict[str, Any]] = {}
    best: dict[str, dict[str, Any]] = {}
    for row in _rows(path):
        reward = number(row.get("reward"))
        name = str(row.get("prompt_id"))
        if not math.isfinite(reward):
            continue
        # Of equals the latest: what the model still gets wrong.
        if name not in worst or reward <= worst[name]["reward"]:
            worst[name] = row
        if name not in best or reward >= best[name]["reward"]:
            best[name] = row

    def latest(row: Mapping[str, Any]) -> float:
        return -number(row.get("step"))

    return (
        sorted(worst.values(), key=lambda row: (row["reward"], latest(row))),
        sorted(best.values(), key=lambda row: (-row["reward"], latest(row))),
    )


def _tools(run_dir: Path, phase: str) -> dict[str, dict[str, SetResult]]:
    found = {}
    for content in phase_results(run_dir, phase):
        tools = content.get("tools")
        if isinstance(tools, Mapping) and tools:
            scores = {str(name): _set_result(entry) for name, entry in tools.items()}
            found[str(content.get("suite", ""))] = scores
    return found


def _failures(run_dir: Path, phase: str) -> Failures:
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    replies = wrong = 0
    for path in sorted((run_dir / "results" / phase).glob(f"*{REPLIES}")):
        for row in _rows(path):
            replies += 1
            if _is_right(row):
                continue
            wrong += 1
            of_kind = kinds.setdefault((str(row.get("set")), str(row.get("category"))), [])
            if wrong <= _FAILURES_READ:
                of_kind.append(row)
    turns = itertools.zip_longest(*kinds.values())
    return Failures(phase, replies, wrong, [row for turn in turns for row in turn if row])


def _is_right(row: Mapping[str, Any]) -> bool:
    for name in ("cf", "no_call"):
        if name in row:
            return bool(row[name])
    return str(row.get("category", "")) in ("", taxonomy.ALL_RIGHT)


def _noisy(folder: Path) -> list[dict[str, Any]]:
    """Return the results of suites that say under which noise they are."""
    found = []
    for path in sorted(folder.glob("**/*.json")):
        content = read_json(path)
        scores = content.get("scores")
        sound = isinstance(scores, dict) and all(math.isfinite(number(v)) for v in scores.values())
        if sound and scores and isinstance(content.get("noise"), str):
            found.append(content)
    return found
