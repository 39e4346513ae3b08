"""What becomes of a chunk of rows, step by step: signatures, a part of the data set, its shards."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.examples.alternative_tokens import AlternativeNames
from tl_jax.data.examples.build import Example, Prompt, Skipped, build_examples, build_prompts
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.examples.record import pack_example
from tl_jax.data.examples.repair_pairs import repair_rows
from tl_jax.data.importers import BadRow
from tl_jax.data.importers.names import with_writable_names
from tl_jax.data.mae.labels import TurnLabel, label_turns, without_dropped
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.prepare.chunks import Chunk
from tl_jax.data.prepare.contamination import EvaluationSets, Hit
from tl_jax.data.prepare.dedup import Signer
from tl_jax.data.prepare.files import (
    EXAMPLES,
    PROMPTS,
    QUARANTINE,
    REMOVED,
    REPAIRS,
    VALIDATION,
    VALIDATION_PROMPTS,
    json_line,
    named,
    source_hash,
)
from tl_jax.data.prepare.merging import to_plain
from tl_jax.data.prepare.part import write_part
from tl_jax.data.prepare.sources import WeightedSource, refused_unread
from tl_jax.data.prepare.split import copies, is_validation
from tl_jax.data.prepare.statistics import SIDES, Statistics
from tl_jax.data.prepare.workspace import Workspace
from tl_jax.data.render.renderer import Renderer, open_renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Trajectory, to_json

_LINES = (PROMPTS, VALIDATION_PROMPTS, QUARANTINE, REMOVED, REPAIRS)


@dataclasses.dataclass(frozen=True)
class Job:
    """All that preparing a chunk depends on but its rows; the same for every process.

    Attributes:
      sources: What reads the rows; rows that lie in memory come with each chunk.
      tokenizer, data, mae, key_tokens, seed, vocab_size: As in ``dataset.prepare``.
      work: Directory of what is finished.
    """

    sources: tuple[WeightedSource, ...]
    tokenizer: Tokenizer
    data: DataConfig
    mae: MaeConfig
    key_tokens: KeyTokenConfig
    seed: int
    vocab_size: int | None
    work: Path


@dataclasses.dataclass(frozen=True)
class Scan:
    """Task: find what tells the trajectories of a chunk from others."""

    chunk: Chunk


@dataclasses.dataclass(frozen=True)
class Build:
    """Task: make the part of a chunk."""

    chunk: Chunk


@dataclasses.dataclass(frozen=True)
class Fill:
    """Task: write one file of examples from the parts of several chunks."""

    name: str
    number: int
    chunks: Sequence[int]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A trajectory of a chunk that is drawn, and how often it is written.

    ``place`` is its place among all that the chunk's rows gave, ``file`` where its row is and
    ``line`` which row of it; a trajectory of the canonical format keeps the location it was first
    read from itself.
    """

    place: int
    file: str
    line: int
    trajectory: Trajectory
    copies: int
    hits: list[Hit]


@dataclasses.dataclass(frozen=True)
class _Built:
    """What a trajectory gives.

    ``left_out`` is what of its kept turns has no place in the text; ``empty`` if MAE leaves nothing
    of the dialogue.
    """

    pairs: list[dict[str, Any]]
    examples: list[Example] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    prompts: list[Prompt] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    empty: bool = False


class Maker:
    """Does the tasks of a job, one at a time.

    Args:
      job: The job.
      renderer: Of the job, if it is open.
    """

    def __init__(self, job: Job, renderer: Renderer | None = None):
        self._job = job
        self._renderer = renderer or open_renderer(job.data, job.tokenizer)
        self._workspace = Workspace(job.work)
        self._alternatives = AlternativeNames(self._renderer.tokenizer)
        self._policy = policy_of(job.mae)
        self._signer = Signer(near=job.data.duplicates == "near")
        self._sets: EvaluationSets | None = None
        data = job.data
        if data.contamination_paths and data.contamination_checks:
            self._sets = EvaluationSets(data.contamination_paths, data.contamination_checks)

    def do(self, task: Scan | Build | Fill) -> None:
        """Do a task; what comes of it is a file of the workspace."""
        if isinstance(task, Scan):
            self._scan(task.chunk)
        elif isinstance(task, Build):
            self._build(task.chunk)
        else:
            self._workspace.fill(task.name, task.number, task.chunks)

    def _scan(self, chunk: Chunk) -> None:
        found = self._entries(chunk, Statistics(), [])
        kept = [entry for entry in found if not self._removed(entry)]
        digests, signatures = self._signer.sign([entry.trajectory for entry in kept])
        write_part(
            self._workspace.scan(chunk.number),
            {"digests": digests.tobytes(), "signatures": signatures.tobytes()},
            [[e.place, e.file, e.line, e.trajectory.id] for e in kept],
        )

    def _build(self, chunk: Chunk) -> None:
        job, statistics = self._job, Statistics()
        lines: dict[str, list[str]] = {name: [] for name in _LINES}
        examples: dict[str, list[bytes]] = {EXAMPLES: [], VALIDATION: []}
        source = job.sources[chunk.source].name
        counts = statistics.sources[source]
        verdicts = self._workspace.verdicts(chunk.number)
        if self._sets is not None:
            statistics.checked_against = _checked_against(self._sets, job.data)
        for entry in self._entries(chunk, statistics, lines[QUARANTINE]):
            if not self._stays(entry, source, verdicts, statistics, lines[REMOVED]):
                continue
            trajectory = entry.trajectory
            labels = label_turns(trajectory, self._policy)
            try:
                if self._renderer.call_style == "python":
                    trajectory = with_writable_names(trajectory, counts.repairs)
                built = self._built(trajectory, labels)
            except ValueError as error:
                reason = f"cannot be written as text: {error}"
                row = BadRow(entry.file, entry.line, reason, to_json(trajectory))
                counts.add_bad(row)
                lines[QUARANTINE].append(_quarantined(row))
                continue
            if job.vocab_size is not None:
                for written in (*built.examples, *built.prompts):
                    self._renderer.tokenizer.check_ids(written.ids, job.vocab_size)
            held_out = is_validation(trajectory, job.data.validation_fraction)
            side = SIDES[held_out]
            times = min(entry.copies, 1) if held_out else entry.copies
            for pair in built.pairs:
                statistics.pairs[pair["category"]] += 1
                lines[REPAIRS].append(json_line({**pair, "split": side}))
            statistics.labels.add(labels)
            if built.empty:
                statistics.skipped["nothing left in the dialogue"] += 1
                continue
            counts.trajectories[side] += 1
            statistics.add_skipped(built.skipped)
            statistics.left_out.update(built.left_out)
            if job.data.samples == "per_trajectory" and built.examples:
                statistics.samples_apart += len(built.examples) - 1
            statistics.add_repairs(trajectory)
            for example in built.examples:
                statistics.add_example(example, source, side, times)
                examples[(EXAMPLES, VALIDATION)[held_out]] += [pack_example(example)] * times
            # A prompt is sampled by its id: a second line of it would give the same samples.
            statistics.prompts[side] += len(built.prompts)
            lines[(PROMPTS, VALIDATION_PROMPTS)[held_out]] += prompt_lines(built.prompts)
        texts = {name: "".join(found).encode() for name, found in lines.items()}
        write_part(self._workspace.part(chunk.number), texts | examples, to_plain(statistics))

    def _entries(
        self, chunk: Chunk, statistics: Statistics, quarantine: list[str]
    ) -> Iterator[_Entry]:
        """Read the rows, put bad ones into quarantine and leave out what is not drawn."""
        source = self._job.sources[chunk.source]
        counts = statistics.sources[source.name]
        strict = self._job.data.strict
        place = 0
        for number, raw in enumerate(chunk.rows, start=chunk.start):
            for part, row in enumerate(source.converted(raw)):
                row = refused_unread(row, raw.line, raw.path) if strict else row
                counts.add_read(row)
                place += 1
                key = f"{self._job.seed} {chunk.source} {number} {part}"
                if isinstance(row, BadRow):
                    quarantine.append(_quarantined(row))
                elif times := copies(source.weight, key):
                    hits = self._sets.hits(row) if self._sets else []
                    yield _Entry(place, raw.path, raw.line, row, times, hits)
                else:
                    counts.not_drawn += 1

    def _removed(self, entry: _Entry) -> bool:
        return bool(entry.hits) and self._job.data.contamination_action == "remove"

    def _stays(
        self,
        entry: _Entry,
        source: str,
        verdicts: Mapping[str, Any],
        statistics: Statistics,
        removed: list[str],
    ) -> bool:
        """Return whether an entry is built; count and list it where it is not, with its reason."""
        counts = statistics.sources[source]
        where = named((entry.file, entry.line, entry.trajectory.id))
        for hit in entry.hits:
            statistics.contamination[f"{hit.check}: {hit.path}"] += 1
            found = {"removed": self._removed(entry), "check": f"contamination: {hit.check}"}
            at = {"in": hit.path, "row": hit.row + 1, "what": hit.detail}
            removed.append(json_line({**where, **found, **at}))
        if self._removed(entry):
            counts.removed["contamination"] += 1
            return False
        if (verdict := verdicts.get(str(entry.place), True)) is True:
            return True
        if verdict:
            counts.removed[verdict["check"]] += 1
            removed.append(json_line({**where, "removed": True, **verdict}))
        return False

    def _built(self, trajectory: Trajectory, labels: Sequence[TurnLabel]) -> _Built:
        """Make everything of one trajectory; raises ``ValueError`` if it cannot be written."""
        job, renderer = self._job, self._renderer
        common: dict[str, Any] = {"max_length": job.data.max_length}
        encoded = renderer.encode_trajectory(trajectory)
        within = job.mae.repair_turns
        pairs = list(repair_rows(trajectory, labels, renderer, encoded, within=within, **common))
        left, labels = without_dropped(trajectory, labels)
        if not labels:
            return _Built(pairs, empty=True)
        if left is not trajectory:
            encoded = renderer.encode_trajectory(left)
        common["encoded"] = encoded
        examples, skipped = build_examples(
            left,
            labels,
            renderer,
            key_tokens=job.key_tokens,
            alternatives=self._alternatives,
            **common,
        )
        no_call = job.data.no_call_prompts
        prompts, _ = build_prompts(left, labels, renderer, no_call=no_call, **common)
        kept = (left.messages[label.message] for label in labels if label.kept)
        left_out = [part for turn in kept for part in renderer.left_out(turn)]
        return _Built(pairs, examples, skipped, prompts, left_out)


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Look for reference cycles less often: tokens are many small tuples that are in none."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _quarantined(row: BadRow) -> str:
    where = {"file": row.path, "line": row.line + 1}
    return json_line({**where, "reason": row.reason, "row": row.row})


def _checked_against(sets: EvaluationSets, data: DataConfig) -> list[dict[str, Any]]:
    how = {"checks": list(data.contamination_checks), "action": data.contamination_action}
    return [
        {"path": path, "sha256": source_hash(path), **counts, **how}
        for path, counts in sets.counts.items()
    ]
