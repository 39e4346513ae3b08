"""Prepare a data set: trajectories in, token files and a report out, all or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.config.fields import to_dict
from tl_jax.data.examples.alternative_tokens import AlternativeNames
from tl_jax.data.examples.build import Example, Prompt, Skipped, build_examples, build_prompts
from tl_jax.data.examples.jsonl import example_line, prompt_lines
from tl_jax.data.examples.repair_pairs import repair_rows
from tl_jax.data.importers import BadRow
from tl_jax.data.mae.labels import TurnLabel, label_turns, without_dropped
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.prepare.contamination import EvaluationSets, check_files
from tl_jax.data.prepare.dedup import Duplicates, Location
from tl_jax.data.prepare.files import (
    EXAMPLES,
    LINES,
    PROMPTS,
    QUARANTINE,
    REMOVED,
    REPAIRS,
    REPORT,
    VALIDATION,
    VALIDATION_PROMPTS,
    json_line,
    replacing,
    source_hash,
    up_to_date,
    write_fingerprint,
    write_json,
)
from tl_jax.data.prepare.sources import WeightedSource, identities, refused_unread
from tl_jax.data.prepare.split import copies, is_validation, sampled
from tl_jax.data.prepare.statistics import SIDES, Statistics
from tl_jax.data.render.renderer import Renderer, open_renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Trajectory, to_json

_FORMAT_VERSION = 11
"""Raise when the same inputs give other files."""

_DATA_FIELDS = (
    "template",
    "samples",
    "max_length",
    "max_trajectories",
    "max_prompts",
    "no_call_prompts",
    "validation_fraction",
    "max_bad_fraction",
    "max_without_tools",
    "strict",
    "duplicates",
    "contamination_checks",
    "contamination_action",
)


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """A trajectory on its way into the files and how often it is written.

    ``source`` and ``row`` are the file it was read from and the row in it; a trajectory of the
    canonical format keeps the location it was first read from for itself.
    """

    trajectory: Trajectory
    source: str
    row: int
    copies: int

    @property
    def location(self) -> Location:
        return self.source, self.row, self.trajectory.id


def prepare(
    sources: Sequence[WeightedSource],
    tokenizer: Tokenizer,
    *,
    data: DataConfig,
    mae: MaeConfig,
    key_tokens: KeyTokenConfig,
    seed: int,
    out_dir: str | os.PathLike[str],
    vocab_size: int | None = None,
) -> dict[str, Any]:
    """Write the token files of a data set, unless they are there already and whole.

    Files: ``examples.jsonl``, ``validation.jsonl``, ``prompts.jsonl``,
    ``validation_prompts.jsonl``, ``quarantine.jsonl`` (file, line, reason, row), ``removed.jsonl``
    (duplicates and overlaps with evaluation sets), ``repair_pairs.jsonl`` (wrong calls with the
    right ones after them, as preference pairs), ``mae_report.json`` and ``fingerprint.json``. They
    appear together or not at all. A ``line`` in quarantined and removed rows and in pairs counts
    from 1: lines of a ``.jsonl`` file, entries of a ``.json`` file. Trajectories of the same task
    (``split.task_key``) fall on the same side of the validation split. One trajectory is in memory
    at a time; limits keep their sample, and the search for duplicates a few KiB per trajectory.

    Args:
      sources: What to read; lazily, and not at all if the files are up to date.
      tokenizer: Tokenizer of the model.
      data: Text form, length, checks and limits. A limit on trajectories or prompts takes a seeded
        sample.
      mae: Which turns are trained.
      key_tokens: Weights of the trained tokens.
      seed: Seed of the samples taken.
      out_dir: Directory to write; replaced if it holds other data.
      vocab_size: Number of ids of the model, to hold what is written against; None if unknown.

    Returns:
      The report, as in ``mae_report.json``.

    Raises:
      ConfigError: No file at one of ``data.contamination_paths``, or a token that the model does
        not have.
      DataError: More bad rows in a source than ``data.max_bad_fraction`` allows, nothing to train
        on, an evaluation set that cannot be read, or a chat template that cannot be used.
    """
    out = Path(out_dir)
    check_files(data.contamination_paths)
    renderer = open_renderer(data, tokenizer)
    fingerprint = {
        "version": _FORMAT_VERSION,
        "sources": identities(sources),
        "contamination": [source_hash(path) for path in data.contamination_paths],
        "tokenizer": tokenizer.fingerprint,
        "config": _config_hash(data, mae, key_tokens, seed),
    }
    if renderer.chat is not None:
        fingerprint["template"] = renderer.chat.fingerprint
    if (report := up_to_date(out, fingerprint)) is not None:
        return report
    with replacing(out) as work:
        report = _write(sources, renderer, data, mae, key_tokens, seed, work, vocab_size)
        write_json(work / REPORT, report)
        write_fingerprint(work, fingerprint)
    return report


def _write(
    sources: Sequence[WeightedSource],
    renderer: Renderer,
    data: DataConfig,
    mae: MaeConfig,
    key_tokens: KeyTokenConfig,
    seed: int,
    work: Path,
    vocab_size: int | None,
) -> dict[str, Any]:
    """Write the files into ``work`` and return the report."""
    build = functools.partial(
        _build,
        renderer=renderer,
        key_tokens=key_tokens,
        alternatives=AlternativeNames(renderer.tokenizer),
        repair_turns=mae.repair_turns,
        no_call_prompts=data.no_call_prompts,
        max_length=data.max_length,
    )
    policy = policy_of(mae)
    statistics = Statistics()
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(open(work / name, "w", encoding="utf-8")) for name in LINES
        }
        stack.enter_context(_rare_collection())
        drawn: Iterable[_Drawn] = _drawn(sources, data, seed, files[QUARANTINE], statistics)
        if data.contamination_paths and data.contamination_checks:
            sets = EvaluationSets(data.contamination_paths, data.contamination_checks)
            statistics.checked_against = _checked_against(sets, data)
            drawn = _apart_from_evaluation(drawn, sets, data, files[REMOVED], statistics)
        if data.duplicates != "keep":
            drawn = _distinct(drawn, data, files[REMOVED], statistics)
        if data.max_trajectories:
            drawn = sampled(drawn, data.max_trajectories, f"{seed} trajectories")
        for entry in drawn:
            trajectory = entry.trajectory
            counts = statistics.sources[entry.source]
            labels = label_turns(trajectory, policy)
            try:
                built = build(trajectory, labels)
            except ValueError as error:
                reason = f"cannot be written as text: {error}"
                row = BadRow(entry.source, entry.row, reason, to_json(trajectory))
                counts.add_bad(row)
                files[QUARANTINE].write(_quarantined(row))
                continue
            if vocab_size is not None:
                for written in (*built.examples, *built.prompts):
                    renderer.tokenizer.check_ids(written.ids, vocab_size)
            held_out = is_validation(trajectory, data.validation_fraction)
            side = SIDES[held_out]
            times = min(entry.copies, 1) if held_out else entry.copies
            for pair in built.pairs:
                statistics.pairs[pair["category"]] += 1
                files[REPAIRS].write(json_line({**pair, "split": side}))
            statistics.labels.add(labels)
            if built.empty:
                statistics.skipped["nothing left in the dialogue"] += 1
                continue
            counts.trajectories[side] += 1
            statistics.add_skipped(built.skipped)
            statistics.add_repairs(trajectory)
            for example in built.examples:
                statistics.add_example(example, entry.source, side, times)
                files[(EXAMPLES, VALIDATION)[held_out]].write(example_line(example) * times)
            # A prompt is sampled by its id: a second line of it would give the same samples.
            statistics.prompts[side] += len(built.prompts)
            files[(PROMPTS, VALIDATION_PROMPTS)[held_out]].writelines(prompt_lines(built.prompts))
    statistics.check(data.max_bad_fraction, data.max_without_tools)
    if 0 < data.max_prompts < statistics.prompts["train"]:
        _thin(work / PROMPTS, statistics.prompts["train"], data.max_prompts, seed)
        statistics.prompts["train"] = data.max_prompts
    return statistics.report()


@dataclasses.dataclass(frozen=True)
class _Built:
    """What a trajectory gives; ``empty`` if MAE leaves nothing of the dialogue."""

    pairs: list[dict[str, Any]]
    examples: list[Example] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    prompts: list[Prompt] = dataclasses.field(default_factory=list)
    empty: bool = False


def _build(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    *,
    renderer: Renderer,
    key_tokens: KeyTokenConfig,
    alternatives: AlternativeNames,
    repair_turns: int,
    no_call_prompts: bool,
    max_length: int,
) -> _Built:
    """Make everything of one trajectory; raises ``ValueError`` if it cannot be written as text."""
    encoded = renderer.encode_trajectory(trajectory)
    pairs = list(
        repair_rows(
            trajectory, labels, renderer, encoded, max_length=max_length, within=repair_turns
        )
    )
    left, labels = without_dropped(trajectory, labels)
    if not labels:
        return _Built(pairs, empty=True)
    if left is not trajectory:
        encoded = renderer.encode_trajectory(left)
    common: dict[str, Any] = dict(max_length=max_length, encoded=encoded)
    examples, skipped = build_examples(
        left, labels, renderer, key_tokens=key_tokens, alternatives=alternatives, **common
    )
    prompts, _ = build_prompts(left, labels, renderer, no_call=no_call_prompts, **common)
    return _Built(pairs, examples, skipped, prompts)


def _drawn(
    sources: Sequence[WeightedSource],
    data: DataConfig,
    seed: int,
    quarantine: TextIO,
    statistics: Statistics,
) -> Iterator[_Drawn]:
    """Read all sources, put bad rows into quarantine and leave out what is not drawn."""
    for number, source in enumerate(sources):
        counts = statistics.sources[source.name]
        for location, (line, row) in enumerate(source.numbered()):
            row = refused_unread(row, line, source.name) if data.strict else row
            counts.add_read(row)
            if isinstance(row, BadRow):
                quarantine.write(_quarantined(row))
            elif times := copies(source.weight, f"{seed} {number} {location}"):
                yield _Drawn(row, source.name, line, times)
            else:
                counts.not_drawn += 1


def _apart_from_evaluation(
    drawn: Iterable[_Drawn],
    sets: EvaluationSets,
    data: DataConfig,
    removed: TextIO,
    statistics: Statistics,
) -> Iterator[_Drawn]:
    """Find overlaps with evaluation sets, and leave them out if ``data`` says so."""
    remove = data.contamination_action == "remove"
    for entry in drawn:
        hits = sets.hits(entry.trajectory)
        for hit in hits:
            statistics.contamination[f"{hit.check}: {hit.path}"] += 1
            found = {"removed": remove, "check": f"contamination: {hit.check}"}
            where = {"in": hit.path, "row": hit.row + 1, "what": hit.detail}
            removed.write(json_line({**_named(entry.location), **found, **where}))
        if hits and remove:
            statistics.sources[entry.source].removed["contamination"] += 1
        else:
            yield entry


def _checked_against(sets: EvaluationSets, data: DataConfig) -> list[dict[str, Any]]:
    how = {"checks": list(data.contamination_checks), "action": data.contamination_action}
    return [
        {"path": path, "sha256": source_hash(path), **counts, **how}
        for path, counts in sets.counts.items()
    ]


def _distinct(
    drawn: Iterable[_Drawn], data: DataConfig, removed: TextIO, statistics: Statistics
) -> Iterator[_Drawn]:
    """Leave out duplicates of trajectories that came before."""
    duplicates = Duplicates(near=data.duplicates == "near")
    for entry in drawn:
        same = duplicates.find(entry.trajectory, entry.location)
        if same is None:
            yield entry
            continue
        check = f"{same.kind} duplicate"
        statistics.sources[entry.source].removed[check] += 1
        found = {"removed": True, "check": check, "of": _named(same.of)}
        found["similarity"] = same.similarity
        removed.write(json_line({**_named(entry.location), **found}))


def _named(location: Location) -> dict[str, Any]:
    file, row, name = location
    return {"file": file, "line": row + 1, "id": name}


def _quarantined(row: BadRow) -> str:
    where = {"file": row.path, "line": row.line + 1}
    return json_line({**where, "reason": row.reason, "row": row.row})


def _thin(path: Path, count: int, size: int, seed: int) -> None:
    """Keep a uniform sample of ``size`` of the ``count`` lines of a file, in their order."""
    chosen = set(random.Random(f"{seed} prompts").sample(range(count), size))
    thinned = path.with_suffix(".part")
    with open(path, encoding="utf-8") as old, open(thinned, "w", encoding="utf-8") as new:
        new.writelines(line for number, line in enumerate(old) if number in chosen)
    thinned.replace(path)


@contextlib.contextmanager
def _rare_collection() -> Iterator[None]:
    """Look for reference cycles less often: tokens are many small tuples that are in none."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _config_hash(data: DataConfig, mae: MaeConfig, key_tokens: KeyTokenConfig, seed: int) -> str:
    """Hash the settings that change the files; batching and prefetch do not."""
    settings = {name: to_dict(data)[name] for name in _DATA_FIELDS}
    whole = [settings, to_dict(mae), to_dict(key_tokens), seed]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
