"""Attention to a cache in blocks of slots equals a softmax over all that a query sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.ops.cached_attention import SLOT_BLOCK, cached_attention

attend = jax.jit(cached_attention, static_argnames="window")


def softmax_over_all(q, keys, values, positions, window):
    group = q.shape[1] // keys.shape[1]
    keys, values = (np.repeat(x, group, axis=1) for x in (keys, values))
    scores = np.einsum("bnth,bnhs->bnts", q, keys) * q.shape[-1] ** -0.5
    distance = positions[:, :, None] - np.arange(keys.shape[-1])
    seen = (distance >= 0) & (distance < (window or keys.shape[-1]))
    weights = np.where(seen[:, None], np.exp(scores - scores.max(-1, keepdims=True)), 0.0)
    return np.einsum("bnts,bnsh->bnth", weights / weights.sum(-1, keepdims=True), values)


# One block, several whole ones, and a last one that reaches back over the one before it.
@pytest.mark.parametrize("slots", [40, 2 * SLOT_BLOCK, 2 * SLOT_BLOCK + 30])
def test_blocks_give_the_softmax_over_all_slots(slots):
    rng = np.random.default_rng(0)
    q, keys, values = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((3, 4, 2, 8), (3, 2, 8, slots), (3, 2, slots, 8))
    )
    starts = np.array([[0], [slots // 2], [slots - 2]])
    positions = (starts + np.arange(2)).astype(np.int32)
    for window in (0, 7):
        found = attend(q, keys, values, positions, window=window)
        expected = softmax_over_all(q, keys, values, positions, window)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_slots_behind_the_longest_row_are_not_read():
    slots = 3 * SLOT_BLOCK
    ones = jnp.ones((1, 1, 1, 4))
    unread = np.arange(slots) >= SLOT_BLOCK
    keys = jnp.where(unread, jnp.nan, jnp.ones((1, 1, 4, slots)))
    values = jnp.where(unread[:, None], jnp.nan, jnp.ones((1, 1, slots, 4)))
    found = attend(ones, keys, values, np.array([[SLOT_BLOCK - 1]], np.int32))
    np.testing.assert_allclose(found, ones, atol=1e-6)
