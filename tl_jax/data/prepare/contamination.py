"""Find training trajectories that overlap with evaluation sets."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.opened import opened
from tl_jax.data.importers.schemas import normalised_tools
from tl_jax.data.prepare.ngrams import digest, ngrams, tool_set, words
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import ConfigError, DataError, RowError

CHECKS = ("query", "ngrams", "tools")
RUN = 13
"""Words of a run that counts as overlap."""
COMMON = 10
"""A run of words in more queries of the evaluation sets than this is no evidence."""

_LATER_WORDS = 5
"""Fewest words of a user message after the first that are compared as a query."""
_QUERY_KEYS = frozenset(
    ("query", "question", "instruction", "instructions", "user_query", "utterance")
)
_TOOL_KEYS = frozenset(("tools", "functions", "function"))
_USERS = ("user", "human")


@dataclasses.dataclass(frozen=True)
class Hit:
    """One overlap with an evaluation set.

    Attributes:
      check: ``query`` (a user message is a query of the set, without case and punctuation),
        ``ngrams`` (13 words in a row are in a query) or ``tools`` (the same tools and parameters).
      path: File of the set.
      row: Row in it, from 0.
      detail: The words or the tools that both have.
    """

    check: str
    path: str
    row: int
    detail: str


def check_files(paths: Sequence[str], setting: str = "data.contamination_paths") -> None:
    """Refuse evaluation sets that are no files.

    Raises:
      ConfigError: The message names the setting and the file.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise ConfigError(f"config.{setting}: no file {path}")


class EvaluationSets:
    """Queries and tool lists that training data must not hold.

    Args:
      paths: ``.json`` or ``.jsonl`` files, also with ``.gz``. User turns (``role`` or ``from`` is
        user), fields such as ``query`` or ``instructions``, and lists of tools are found wherever
        they are in a row, also a JSON tool list in the text of a system turn.
      checks: Which of ``CHECKS`` to make.

    Raises:
      DataError: A file that cannot be read or holds nothing to compare with.
      ValueError: An unknown check.

    Attributes:
      counts: Of each file, the different ``queries`` and ``tool_sets`` in it.
    """

    def __init__(self, paths: Sequence[str], checks: Sequence[str] = CHECKS):
        if unknown := set(checks) - set(CHECKS):
            raise ValueError(f"unknown check {sorted(unknown)[0]!r}; known: {', '.join(CHECKS)}")
        self._checks = tuple(checks)
        self._queries: dict[bytes, tuple[str, int]] = {}
        self._tools: dict[bytes, tuple[str, int]] = {}
        runs: list[np.ndarray] = []
        places: list[tuple[str, int]] = []
        self.counts: dict[str, dict[str, int]] = {}
        for path in paths:
            queries: set[bytes] = set()
            tool_sets: set[bytes] = set()
            for number, row in _rows(path):
                for text in _queries(row):
                    if not (tokens := words(text)):
                        continue
                    queries.add(key := digest(tokens))
                    if key not in self._queries:
                        self._queries[key] = (path, number)
                        runs.append(np.unique(ngrams(tokens, RUN)))
                        places.append((path, number))
                for tools in _tool_lists(row):
                    tool_sets.add(key := tool_set(tools))
                    self._tools.setdefault(key, (path, number))
            if not queries and not tool_sets:
                raise DataError(f"{path}: no queries and no tools found to compare with")
            self.counts[path] = {"queries": len(queries), "tool_sets": len(tool_sets)}
        self._runs, self._places = _rare(runs), places

    def hits(self, trajectory: Trajectory) -> list[Hit]:
        """Return every check that finds an overlap, each with its first finding."""
        texts = [
            (m.role, words(m.content))
            for m in trajectory.messages
            if m.role in ("user", "assistant")
        ]
        found = []
        if "query" in self._checks and (hit := self._query([t for r, t in texts if r == "user"])):
            found.append(hit)
        if "ngrams" in self._checks and (hit := self._overlap([tokens for _, tokens in texts])):
            found.append(hit)
        if "tools" in self._checks and trajectory.tools:
            if (place := self._tools.get(tool_set(trajectory.tools))) is not None:
                names = ", ".join(tool.name for tool in trajectory.tools)
                found.append(Hit("tools", *place, names))
        return found

    def _query(self, messages: list[list[str]]) -> Hit | None:
        for number, tokens in enumerate(messages):
            if number == 0 or len(tokens) >= _LATER_WORDS:
                if (place := self._queries.get(digest(tokens))) is not None:
                    return Hit("query", *place, " ".join(tokens))
        return None

    def _overlap(self, texts: list[list[str]]) -> Hit | None:
        numbers, owners = self._runs
        for tokens in texts:
            runs = ngrams(tokens, RUN)
            if not len(runs) or not len(numbers):
                continue
            at = np.minimum(np.searchsorted(numbers, runs), len(numbers) - 1)
            equal = np.flatnonzero(numbers[at] == runs)
            if len(equal):
                first = int(equal[0])
                place = self._places[int(owners[at[first]])]
                return Hit("ngrams", *place, " ".join(tokens[first : first + RUN]))
        return None


def _rare(runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of words that few queries have, sorted, and the first query of each."""
    if not runs:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    owners = np.repeat(np.arange(len(runs)), [len(part) for part in runs])
    numbers, first, counts = np.unique(np.concatenate(runs), return_index=True, return_counts=True)
    rare = counts <= COMMON
    return numbers[rare], owners[first[rare]]


def _rows(path: str) -> Iterator[tuple[int, Any]]:
    with opened(path, "rt", encoding="utf-8-sig") as stream:
        try:
            if path.removesuffix(".gz").endswith(".json"):
                rows = json.load(stream)
                yield from enumerate(rows if isinstance(rows, list) else [rows])
            else:
                for number, line in enumerate(stream):
                    if line.strip():
                        yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as an evaluation set: {error}") from error


def _parts(row: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a row, however deep."""
    waiting: collections.deque[Any] = collections.deque([row])
    while waiting:
        part = waiting.popleft()
        if isinstance(part, Mapping):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _queries(row: Any) -> Iterator[str]:
    for part in _parts(row):
        if part.get("role", part.get("from")) in _USERS:
            text = part.get("content", part.get("value"))
            if isinstance(text, str):
                yield text.strip().removesuffix("Begin!")
        for key, value in part.items():
            if key.lower() in _QUERY_KEYS:
                texts = value if isinstance(value, list) else [value]
                yield from (text for text in texts if isinstance(text, str))


def _tool_lists(row: Any) -> Iterator[tuple[ToolSpec, ...]]:
    for part in _parts(row):
        lists = [v for k, v in part.items() if k.lower() in _TOOL_KEYS and isinstance(v, list)]
        text = part.get("content", part.get("value"))
        if part.get("role", part.get("from")) == "system" and isinstance(text, str):
            lists.append(_list_in(text))
        for declared in lists:
            try:
                tools = normalised_tools(declared, collections.Counter())
            except RowError:
                continue  # a list of something else
            if tools:
                yield tools


def _list_in(text: str) -> list[Any]:
    start = text.find("[{")
    try:
        return json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else []
    except (ValueError, RecursionError):
        return []  # brackets in running text
