"""Prepare a data set: trajectories in, token files and a report out, all or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.config.fields import to_dict
from tl_jax.data.examples.order import write_order
from tl_jax.data.examples.shards import check_available, write_index
from tl_jax.data.prepare.chunks import Chunk, chunks
from tl_jax.data.prepare.contamination import check_files
from tl_jax.data.prepare.files import (
    EXAMPLES,
    LINES,
    PROMPTS,
    QUARANTINE,
    REPORT,
    SHARDED,
    leave_quarantine,
    replacing,
    source_hash,
    up_to_date,
    write_fingerprint,
    write_json,
)
from tl_jax.data.prepare.maker import Build, Fill, Job, Maker, Scan, rare_collection
from tl_jax.data.prepare.merging import add_plain
from tl_jax.data.prepare.part import Part
from tl_jax.data.prepare.pool import Pool
from tl_jax.data.prepare.selection import select
from tl_jax.data.prepare.sources import WeightedSource, identities
from tl_jax.data.prepare.statistics import Statistics
from tl_jax.data.prepare.verify import changed_inputs, mark_damaged
from tl_jax.data.prepare.workspace import Workspace, shard_plan, workspace
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.errors import DataError

_FORMAT_VERSION = 13
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
class Hosts:
    """The machines that prepare a data set together, in a directory that all of them see.

    Attributes:
      index: Number of this one.
      count: How many there are.
      wait: Waits until all have come to the point of a name.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[str], None] = lambda name: None

    @property
    def first(self) -> bool:
        """Whether this one does what is done once."""
        return self.index == 0

    def own(self, number: int) -> bool:
        """Return whether a chunk or a shard is this one's."""
        return number % self.count == self.index


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
    hosts: Hosts | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """Write the token files of a data set, unless they are there already and whole.

    Directories of examples in ArrayRecord files (``examples.shards``): ``examples`` and
    ``validation``, the first with its order (``examples.order``). Files:
    ``prompts.jsonl``, ``validation_prompts.jsonl``, ``quarantine.jsonl``
    (file, line, reason, row), ``removed.jsonl`` (duplicates and overlaps with evaluation sets),
    ``repair_pairs.jsonl`` (wrong calls with the right ones after them, as preference pairs),
    ``mae_report.json`` and ``fingerprint.json``. They appear together or not at all. A ``line`` in
    quarantined and removed rows and in pairs counts from 1: lines of a ``.jsonl`` file, entries of
    a ``.json`` file. Trajectories of the same task (``split.task_key``) fall on the same side of
    the validation split.

    Rows are read in chunks, each built by one of ``data.workers`` processes on one of the hosts;
    what comes out depends on neither. Where duplicates or a sample are looked for, all rows are
    read twice. A run that is killed goes on from its last whole chunks.

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
      hosts: All that call this at the same time with the same arguments; None if it is one.
      keep: Whether the data set that is there may only be made again of what it was made of.

    Returns:
      The report, as in ``mae_report.json``.

    Raises:
      ConfigError: No file at one of ``data.contamination_paths``, or a token that the model does
        not have.
      DataError: More bad rows in a source than ``data.max_bad_fraction`` allows, nothing to train
        on, an evaluation set that cannot be read, a chat template that cannot be used,
        ``array_record`` is not installed, or inputs have changed and ``keep`` is set.
      ValueError: Rows that can be iterated over once only are needed twice.
    """
    out, hosts = Path(out_dir), hosts or Hosts()
    check_available()
    check_files(data.contamination_paths)
    renderer = open_renderer(data, tokenizer)
    data = dataclasses.replace(data, template=renderer.template)  # what "auto" has come to
    fingerprint = {
        "version": _FORMAT_VERSION,
        "sources": identities(sources),
        "contamination": [source_hash(path) for path in data.contamination_paths],
        "tokenizer": tokenizer.fingerprint,
        "config": settings_hash(data, mae, key_tokens, seed),
    }
    if renderer.chat is not None:
        fingerprint["template"] = renderer.chat.fingerprint
    if hosts.first:
        mark_damaged(out)
    hosts.wait("prepare: verified")
    report = up_to_date(out, fingerprint)
    named = [(s.name, found) for s, found in zip(sources, identities(sources), strict=True)]
    changed = changed_inputs(out, fingerprint, named) if keep else []
    hosts.wait("prepare: looked for files")
    if report is not None:
        return report
    if changed:
        raise DataError(f"{out}: since it was prepared has changed: {', '.join(changed)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with workspace(out, fingerprint, alone=hosts.count == 1) as work:
        readers = tuple(source.reader() for source in sources)
        # Without what the tokenizer has remembered.
        plain = dataclasses.replace(tokenizer)
        job = Job(readers, plain, data, mae, key_tokens, seed, vocab_size, work.path)
        maker = Maker(job, renderer)
        pool = Pool(job, maker.do, data.workers)
        with contextlib.closing(pool), rare_collection():
            parts, statistics = _build(sources, data, seed, work, pool, hosts)
            _check(statistics, data, parts, out, hosts)
            plans = {name: shard_plan(parts, name) for name in SHARDED}
            pool.run(_fillings(plans, hosts))
        hosts.wait("prepare: wrote examples")
        thinned = 0 < data.max_prompts < statistics.prompts["train"]
        if hosts.first:
            with replacing(out) as draft:
                _put_together(work, draft, parts, {n: len(plan) for n, plan in plans.items()})
                if thinned:
                    _thin(draft / PROMPTS, statistics.prompts["train"], data.max_prompts, seed)
                    statistics.prompts["train"] = data.max_prompts
                report = {"text_form": renderer.described(), **statistics.report()}
                for source in sources:
                    if source.read_as:
                        report["sources"][source.name]["read_as"] = source.read_as
                write_json(draft / REPORT, report)
                write_fingerprint(draft, fingerprint)
            shutil.rmtree(work.path, ignore_errors=True)
        hosts.wait("prepare: done")
        if report is None:
            report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    return report


def _check(
    statistics: Statistics, data: DataConfig, parts: Sequence[Part], out: Path, hosts: Hosts
) -> None:
    """Stop where ``Statistics.check`` says so, and leave the rows that could not be used."""
    try:
        statistics.check(data.max_bad_fraction, data.max_without_tools)
    except DataError as error:
        if not statistics.bad_rows or not hosts.first:
            raise
        path = leave_quarantine(out, (part.read(QUARANTINE) for part in parts))
        raise DataError(
            f"{error}\nEvery row that cannot be used is in {path}, with its reason."
        ) from error


def _build(
    sources: Sequence[WeightedSource],
    data: DataConfig,
    seed: int,
    work: Workspace,
    pool: Pool,
    hosts: Hosts,
) -> tuple[list[Part], Statistics]:
    """Make the parts of all chunks; return them, without their facts, and the counts of all."""
    count = 0

    def own(finished: Callable[[int], bool]) -> Iterator[Chunk]:
        nonlocal count
        for chunk in chunks(sources):
            count = chunk.number + 1
            if hosts.own(chunk.number) and not finished(chunk.number):
                yield chunk

    if data.duplicates != "keep" or data.max_trajectories:
        for source in sources:
            if isinstance(source.rows, Iterator):
                raise ValueError(
                    f"{source.name}: duplicates and samples need its rows twice; give a list or an "
                    "object to iterate over, not an iterator"
                )
        pool.run(Scan(chunk) for chunk in own(work.is_scanned))
        hosts.wait("prepare: scanned")
        if hosts.first:
            select(work, count, data, seed)
        hosts.wait("prepare: selected")
    pool.run(Build(chunk) for chunk in own(work.is_built))
    hosts.wait("prepare: built")
    statistics = Statistics()
    for source in sources:
        statistics.sources[source.name]  # also of one without rows
    parts = []
    for number in range(count):
        part = work.opened(work.part(number))
        add_plain(statistics, part.facts)
        parts.append(dataclasses.replace(part, facts=None))
    return parts, statistics


def _fillings(plans: Mapping[str, Sequence[Sequence[int]]], hosts: Hosts) -> Iterator[Fill]:
    tasks = [Fill(name, n, parts) for name, plan in plans.items() for n, parts in enumerate(plan)]
    return (task for place, task in enumerate(tasks) if hosts.own(place))


def _put_together(
    work: Workspace, draft: Path, parts: Sequence[Part], shards: Mapping[str, int]
) -> None:
    """Move the files of examples into the data set, and join the lines of all parts."""
    for name, count in shards.items():
        folder = draft / name
        folder.mkdir()
        found = []
        for number in range(count):
            shard = work.filled(name, number)
            if shard is None:
                raise DataError(f"{work.shard(name, number)} is gone; run `tl-jax prepare` again")
            work.shard(name, number).rename(folder / shard.name)
            found.append(shard)
        write_index(folder, found)
    write_order(draft / EXAMPLES)
    for name in LINES:
        with open(draft / name, "wb") as stream:
            for part in parts:
                stream.write(part.read(name))


def _thin(path: Path, count: int, size: int, seed: int) -> None:
    """Keep a uniform sample of ``size`` of the ``count`` lines of a file, in their order."""
    chosen = set(random.Random(f"{seed} prompts").sample(range(count), size))
    thinned = path.with_suffix(".part")
    with open(path, encoding="utf-8") as old, open(thinned, "w", encoding="utf-8") as new:
        new.writelines(line for number, line in enumerate(old) if number in chosen)
    thinned.replace(path)


def settings_hash(data: DataConfig, mae: MaeConfig, key_tokens: KeyTokenConfig, seed: int) -> str:
    """Hash the settings that change the files; batching and prefetch do not.

    Args:
      data: With the text form that its template has come to.
      mae: As for ``prepare``.
      key_tokens: As for ``prepare``.
      seed: As for ``prepare``.
    """
    settings = {name: to_dict(data)[name] for name in _DATA_FIELDS}
    whole = [settings, to_dict(mae), to_dict(key_tokens), seed]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
