"""The embedded tool world: held-out requests with seen tools, in new words, with unseen tools."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tl_jax.config import RunConfig
from tl_jax.data import synthetic
from tl_jax.data.mae.labels import label_turns, sample_id
from tl_jax.errors import DataError
from tl_jax.evaluate.suites.suite import Item, Suite

_KINDS = {"finish": "finish", "ask_to_user": "ask"}


def read(path: str, split: str) -> Iterator[Item]:
    """Yield one item per right call of held-out dialogues, questions to the user included.

    An item is of the group ``finish``, ``ask`` (a question to the user) or ``service``.

    Args:
      path: How many dialogues, ``"80"``, and the seed they are made with, ``"80:1"`` (0).
      split: ``seen``, ``reworded`` or ``unseen``.

    Raises:
      DataError: That is no number of dialogues.
    """
    count, _, seed = path.partition(":")
    if not (count.isdecimal() and (seed or "0").isdecimal()):
        raise DataError(
            f"--data={path}: the embedded world makes its dialogues; say how many, such as 80, or "
            "how many with which seed, such as 80:1"
        )
    for trajectory in synthetic.trajectories(
        int(count), seed=int(seed or 0), split=f"test_{split}"
    ):
        for label in label_turns(trajectory, "structured"):
            calls = trajectory.messages[label.message].calls
            if label.right and calls:
                yield Item(
                    sample_id(trajectory, label),
                    trajectory.tools,
                    trajectory.messages[: label.message],
                    tuple((call,) for call in calls),
                    {"group": _KINDS.get(calls[0].name, "service")},
                )


def source(config: RunConfig) -> str:
    """Return how many dialogues a run is scored on, and its seed."""
    count = config.evaluate.synthetic_trajectories
    return f"{count}:{config.seed}" if count else ""


def version(path: str) -> str:
    """Return nothing: the dialogues change with the package only."""
    return ""


SUITES = tuple(
    Suite(
        name=f"synthetic/{split}",
        read=functools.partial(read, split=split),
        version=version,
        source=source,
        setting="synthetic_trajectories",
    )
    for split in ("seen", "reworded", "unseen")
)
