"""Prepare a data set: trajectories in, token files and a report out, all or nothing."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig, to_dict
from tl_jax.data.encoding import encode_trajectory
from tl_jax.data.examples import Example, build_examples, build_prompts
from tl_jax.data.importers import BadRow
from tl_jax.data.mae import LabelCounts, label_turns
from tl_jax.data.records import example_to_json, prompt_to_json
from tl_jax.data.rivals import Rivals
from tl_jax.data.schema import DataError, Trajectory, to_json
from tl_jax.data.tokenizer import Tokenizer

EXAMPLES = "examples.jsonl"
VALIDATION = "validation.jsonl"
PROMPTS = "prompts.jsonl"
VALIDATION_PROMPTS = "validation_prompts.jsonl"
QUARANTINE = "quarantine.jsonl"
REPORT = "mae_report.json"
FINGERPRINT = "fingerprint.json"

_FORMAT_VERSION = 3
"""Raise when the same inputs give other files."""

_FILES = frozenset(
    (EXAMPLES, VALIDATION, PROMPTS, VALIDATION_PROMPTS, QUARANTINE, REPORT, FINGERPRINT)
)
_DATA_FIELDS = (
    "format",
    "template",
    "max_length",
    "max_trajectories",
    "max_prompts",
    "validation_fraction",
    "max_bad_fraction",
)


def source_hash(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def prepare(
    rows: Iterable[Trajectory | BadRow],
    tokenizer: Tokenizer,
    *,
    data: DataConfig,
    mae: MaeConfig,
    key_tokens: KeyTokenConfig,
    seed: int,
    out_dir: str | os.PathLike[str],
    source: str,
) -> dict[str, Any]:
    """Write the token files of a data set, unless they are there already.

    Files: ``examples.jsonl``, ``validation.jsonl``, ``prompts.jsonl``,
    ``validation_prompts.jsonl``, ``quarantine.jsonl`` (file, line, reason, row),
    ``mae_report.json`` and ``fingerprint.json``. They appear together or not at all. Trajectories
    with the same first user message fall on the same side of the validation split.

    Args:
      rows: Trajectories and bad rows, such as ``importers.read`` gives; read lazily, and not at
        all if the files are up to date.
      tokenizer: Tokenizer of the model.
      data: Template, length and limits. A limit on trajectories or prompts takes a seeded sample.
      mae: Which turns are trained.
      key_tokens: Weights of the trained tokens.
      seed: Seed of the samples taken.
      out_dir: Directory to write; replaced if it holds other data.
      source: What identifies ``rows`` in the fingerprint, such as ``source_hash(path)``.

    Returns:
      The report, as in ``mae_report.json``.

    Raises:
      DataError: More bad rows than ``data.max_bad_fraction`` allows, or nothing to train on.
    """
    out = Path(out_dir)
    fingerprint = {
        "version": _FORMAT_VERSION,
        "source": source,
        "tokenizer": tokenizer.fingerprint,
        "config": _config_hash(data, mae, key_tokens, seed),
    }
    if (report := _up_to_date(out, fingerprint)) is not None:
        return report
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        report = _write(rows, tokenizer, data, mae, key_tokens, seed, work)
        _dump(work / REPORT, report)
        _dump(work / FINGERPRINT, fingerprint)
        _replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def is_validation(trajectory: Trajectory, fraction: float) -> bool:
    """Return whether a trajectory is held out; depends only on its first user message."""
    query = next((m.content for m in trajectory.messages if m.role == "user"), trajectory.id)
    digest = hashlib.sha256(" ".join(query.lower().split()).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


@dataclasses.dataclass
class _Counts:
    """What the report says, as it grows; pairs are (train, validation)."""

    labels: LabelCounts = dataclasses.field(default_factory=LabelCounts)
    trajectories: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    examples: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    prompts: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    tokens: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    trained_tokens: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    key_tokens: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    shortened: int = 0
    rows: int = 0
    bad: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    def add_example(self, example: Example, side: int) -> None:
        self.examples[side] += 1
        self.tokens[side] += len(example.ids)
        self.trained_tokens[side] += sum(weight != 0 for weight in example.weights)
        self.key_tokens.update(example.tags["key_tokens"].split(","))
        self.shortened += "elided" in example.tags

    def report(self) -> dict[str, Any]:
        both = ("trajectories", "examples", "prompts", "tokens", "trained_tokens")
        return {
            "rows": self.rows,
            "bad_rows": len(self.bad),
            **{
                name: dict(zip(("train", "validation"), getattr(self, name), strict=True))
                for name in both
            },
            **self.labels.report(),
            "key_tokens_per_reply": dict(sorted(self.key_tokens.items())),
            "samples_shortened": self.shortened,
            "turns_skipped": dict(self.skipped.most_common()),
        }


def _write(
    rows: Iterable[Trajectory | BadRow],
    tokenizer: Tokenizer,
    data: DataConfig,
    mae: MaeConfig,
    key_tokens: KeyTokenConfig,
    seed: int,
    work: Path,
) -> dict[str, Any]:
    """Write the files into ``work`` and return the report."""
    form: dict[str, Any] = dict(template=data.template, action=mae.action)
    rivals = Rivals(tokenizer)
    counts = _Counts()
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(open(work / name, "w", encoding="utf-8"))
            for name in (EXAMPLES, VALIDATION, PROMPTS, VALIDATION_PROMPTS, QUARANTINE)
        }
        readable = _readable(rows, files[QUARANTINE], counts)
        if data.max_trajectories:
            readable = _sampled(readable, data.max_trajectories, seed)
        for trajectory in readable:
            try:
                encoded = encode_trajectory(trajectory, tokenizer, **form)
            except ValueError as error:
                _quarantine(
                    BadRow(
                        trajectory.source,
                        trajectory.line,
                        f"cannot be written as text: {error}",
                        to_json(trajectory),
                    ),
                    files[QUARANTINE],
                    counts,
                )
                continue
            labels = label_turns(trajectory, mae.rules)
            common = dict(form, max_length=data.max_length, encoded=encoded)
            examples, skipped = build_examples(
                trajectory, labels, tokenizer, key_tokens=key_tokens, rivals=rivals, **common
            )
            prompts, _ = build_prompts(trajectory, labels, tokenizer, **common)
            side = int(is_validation(trajectory, data.validation_fraction))
            counts.trajectories[side] += 1
            counts.labels.add(labels)
            counts.skipped.update(entry.reason for entry in skipped)
            for example in examples:
                counts.add_example(example, side)
                _line(files[(EXAMPLES, VALIDATION)[side]], example_to_json(example))
            counts.prompts[side] += len(prompts)
            for prompt in prompts:
                _line(files[(PROMPTS, VALIDATION_PROMPTS)[side]], prompt_to_json(prompt))
    _check(counts, data.max_bad_fraction)
    if 0 < data.max_prompts < counts.prompts[0]:
        _thin(work / PROMPTS, counts.prompts[0], data.max_prompts, seed)
        counts.prompts[0] = data.max_prompts
    return counts.report()


def _readable(
    rows: Iterable[Trajectory | BadRow], quarantine: TextIO, counts: _Counts
) -> Iterator[Trajectory]:
    for row in rows:
        counts.rows += 1
        if isinstance(row, BadRow):
            _quarantine(row, quarantine, counts)
        else:
            yield row


def _quarantine(row: BadRow, quarantine: TextIO, counts: _Counts) -> None:
    counts.bad.append((row.reason, row.line))
    entry = {"file": row.path, "line": row.line, "reason": row.reason, "row": row.row}
    _line(quarantine, entry)


def _sampled(rows: Iterable[Trajectory], size: int, seed: int) -> Iterator[Trajectory]:
    """Take a uniform sample of ``size`` rows in their order, in one pass."""
    random_source = random.Random(f"{seed} trajectories")
    kept: list[tuple[int, Trajectory]] = []
    for number, row in enumerate(rows):
        if number < size:
            kept.append((number, row))
        elif (place := random_source.randrange(number + 1)) < size:
            kept[place] = (number, row)
    return (row for _, row in sorted(kept, key=lambda pair: pair[0]))


def _thin(path: Path, count: int, size: int, seed: int) -> None:
    """Keep a uniform sample of ``size`` of the ``count`` lines of a file, in their order."""
    chosen = set(random.Random(f"{seed} prompts").sample(range(count), size))
    thinned = path.with_suffix(".part")
    with open(path, encoding="utf-8") as old, open(thinned, "w", encoding="utf-8") as new:
        new.writelines(line for number, line in enumerate(old) if number in chosen)
    thinned.replace(path)


def _check(counts: _Counts, max_bad_fraction: float) -> None:
    if len(counts.bad) > max_bad_fraction * counts.rows:
        reasons = collections.Counter(reason for reason, _ in counts.bad)
        first = {reason: line for reason, line in reversed(counts.bad)}
        summary = "".join(
            f"\n  {number} x {reason} (first at line {first[reason]})"
            for reason, number in reasons.most_common(5)
        )
        raise DataError(
            f"{len(counts.bad)} of {counts.rows} rows cannot be used, more than "
            f"data.max_bad_fraction={max_bad_fraction} allows; repair them or raise it:{summary}"
        )
    if not counts.examples[0]:
        raise DataError(
            f"nothing to train on: {counts.rows} rows, turns by verdict "
            f"{dict(counts.labels.verdicts)}, turns skipped {dict(counts.skipped)}"
        )


def _up_to_date(out: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    try:
        if json.loads((out / FINGERPRINT).read_text(encoding="utf-8")) == fingerprint:
            return json.loads((out / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    return None


def _check_replaceable(out: Path) -> None:
    foreign = sorted(p.name for p in out.iterdir() if p.name not in _FILES) if out.exists() else []
    if foreign:
        raise DataError(
            f"{out} holds other files ({', '.join(foreign[:3])}); give a directory of its own"
        )


def _replace(work: Path, out: Path) -> None:
    old = work.with_name(work.name + "-old")
    if out.exists():
        out.rename(old)
    work.chmod(0o755)  # mkdtemp makes it private
    work.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _config_hash(data: DataConfig, mae: MaeConfig, key_tokens: KeyTokenConfig, seed: int) -> str:
    """Hash the settings that change the files; batching and prefetch do not."""
    settings = {name: to_dict(data)[name] for name in _DATA_FIELDS}
    whole = [settings, to_dict(mae), to_dict(key_tokens), seed]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _line(stream: TextIO, row: dict[str, Any]) -> None:
    stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
