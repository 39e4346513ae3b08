"""Gold trajectories beside rollouts, for the joint objective."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from tl_jax.types import Batch, Rollout


def with_gold(rollout: Batch[np.ndarray], gold: Mapping[str, np.ndarray]) -> Batch[np.ndarray]:
    """Append rows of gold trajectories to a rollout batch.

    The appended rows carry cross-entropy weights and no sampled tokens; the rollout's rows the
    other way round, so one step computes both terms.

    Args:
      rollout: ``[B, T]`` batch with a rollout, on the host.
      gold: ``[R, S]`` rows from the loader.

    Returns:
      ``[B + R, max(T, S)]`` batch on the host.
    """
    rows, length = gold["tokens"].shape
    zeros = np.zeros((rows, length), np.float32)
    below = Batch(**gold, rollout=Rollout(*[zeros] * 6))
    if rollout.samples is not None:
        trained = gold["weights"] > 0
        below = below.replace(samples=gold["visible_until"] > 0, trained=trained)
    total = max(length, rollout.tokens.shape[1])

    def stack(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        parts = [np.asarray(part) for part in (top, bottom)]
        return np.concatenate(
            [np.pad(part, ((0, 0), (0, total - part.shape[1]))) for part in parts]
        )

    return jax.tree.map(stack, rollout, below)
