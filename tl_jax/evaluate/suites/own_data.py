"""One's own data: the right turns of a prepared data set, or of any file of trajectories.

In a run these are the turns that were held out of its training (``data.validation_fraction``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tl_jax.config import RunConfig
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.importers import BadRow
from tl_jax.data.importers import read as read_trajectories
from tl_jax.data.mae.labels import label_turns, sample_id
from tl_jax.data.prepare.files import PROMPTS, VALIDATION_PROMPTS
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import DataError
from tl_jax.evaluate.suites.suite import Item, Suite, file_version

NAME = "own"
_PREPARED = (PROMPTS, VALIDATION_PROMPTS)
_PROMPT_KEPT = 2000


def read(path: str) -> Iterator[Item]:
    """Yield one item per right turn; those with the same called tools are a group.

    Args:
      path: A prepared data set or its ``validation_prompts.jsonl``, whose turns are in the text
        form of their run; or trajectories in any form that ``data.path`` takes.

    Raises:
      DataError: It is neither, or a row cannot be read.
    """
    prepared = Path(_file(path))
    if prepared.name in _PREPARED and prepared.is_file():
        for prompt in read_prompts(prepared):
            tags = {**prompt.tags, "group": _group(prompt.golds)}
            yield Item(
                *(prompt.id, prompt.tools, (), (prompt.golds,), tags),
                ids=tuple(prompt.ids),
                prompt=prompt.text[-_PROMPT_KEPT:],
            )
        return
    try:
        rows = read_trajectories(path)
    except ValueError as error:
        raise DataError(f"--data: {error}") from error
    for number, row in rows.numbered():
        if isinstance(row, BadRow):
            raise DataError(f"{row.path}: row {number + 1}: {row.reason}; leave it out or mend it")
        yield from _turns(row)


def _file(path: str) -> str:
    held_out = os.path.join(path, VALIDATION_PROMPTS)
    return held_out if os.path.isfile(held_out) else path


def version(path: str) -> str:
    """Return the digest of the file that is read."""
    return file_version(_file(path))


def _turns(trajectory: Trajectory) -> Iterator[Item]:
    for label in label_turns(trajectory, "structured"):
        calls = trajectory.messages[label.message].calls
        if label.right and calls:
            yield Item(
                sample_id(trajectory, label),
                trajectory.tools,
                trajectory.messages[: label.message],
                (calls,),
                {**trajectory.tags, "group": _group(calls)},
            )


def _group(calls: tuple) -> str:
    return " + ".join(sorted({call.name for call in calls})) or "no call"


def source(config: RunConfig) -> str:
    """Return the file of held-out turns of a run, which is there once its data are prepared.

    Of a run on the embedded world alone, its own suites are that.
    """
    embedded = config.data.path == "synthetic" and not config.data.sources
    wanted = config.evaluate.held_out_tasks and not embedded
    return str(Path(config.run_dir, "data", VALIDATION_PROMPTS)) if wanted else ""


def is_there(path: str) -> bool:
    """Whether any turn was held out."""
    return os.path.isfile(path) and os.path.getsize(path) > 0


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many items, evenly spread over all of them."""
    count = min(most, len(items))
    return [items[at * len(items) // count] for at in range(count)]


SUITES = (Suite(NAME, read, version=version, source=source, setting="held_out_tasks"),)
