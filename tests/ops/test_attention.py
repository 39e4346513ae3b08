"""Attention against a loop over queries and keys, in one piece and in blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rows import visible_until

from tl_jax.ops.attention import Row, row_attention
from tl_jax.ops.block_attention import block_attention
from tl_jax.ops.seen_blocks import Facts

B, N, K, T, H = 2, 4, 2, 7, 6

# Row 0: two segments and padding. Row 1: one segment.
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]], np.int32)
PLAIN = Row(POSITIONS, visible_until(SEGMENTS))
# Row 0: a, b with branches c d and e (with branches f and g). Row 1: as above.
TREES = Row(
    np.array([[0, 1, 2, 3, 2, 3, 3], POSITIONS[1]], np.int32),
    np.array([[7, 7, 4, 4, 7, 6, 7], [7] * 7], np.int32),
)
PATHS = ({0, 1, 2, 3}, {0, 1, 4, 5}, {0, 1, 4, 6})


def inputs(keys=T):
    rng = np.random.default_rng(0)
    shapes = ((B, N, T, H), (B, K, keys, H), (B, K, keys, H))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_hand(q, k, v, sees):
    """One softmax per query over the keys it may see; zeros where it sees none."""
    out = np.zeros(q.shape)
    for b, n, t in np.ndindex(q.shape[:3]):
        head = n // (q.shape[1] // k.shape[1])
        seen = [s for s in range(k.shape[2]) if sees(b, t, s)]
        if seen:
            scores = np.array([q[b, n, t] @ k[b, head, s] for s in seen]) / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out[b, n, t] = sum(w * v[b, head, s] for w, s in zip(weights, seen, strict=True))
    return out


def of_texts(window=100):
    """What a query of ``PLAIN`` sees by the number of its text."""

    def sees(b, t, s):
        distance = POSITIONS[b, t] - POSITIONS[b, s]
        return SEGMENTS[b, t] == SEGMENTS[b, s] > 0 and 0 <= distance < window

    return sees


def of_paths(window=100):
    """What a query of ``TREES`` sees: what is before it on a path from the root."""

    def sees(b, t, s):
        near = 0 <= TREES.positions[b, t] - TREES.positions[b, s] < window
        return near and (b == 1 or any({t, s} <= path for path in PATHS))

    return sees


@functools.partial(jax.jit, static_argnames=("block", "window"))
def packed(q, k, v, *, block, row=PLAIN, window=0, traced_window=None):
    """All at once, or by blocks."""
    window = window if traced_window is None else traced_window
    if not block:
        return row_attention(q, k, v, row, row, window=window)
    return by_block(q, k, v, row.positions, row, 0, window, block)


def by_block(q, k, v, q_positions, row, first, window, block):
    limit = jnp.int32(window) if isinstance(window, jax.Array) or window else None
    facts = Facts(*map(jnp.asarray, (q_positions, *row, first)), limit)
    return block_attention(q, k, v, facts, saved_name="attention", block=block)


def real(out, row=PLAIN):
    """Padding is nobody's."""
    return np.where(row.visible_until[:, None, :, None] > 0, out, 0)


@pytest.mark.parametrize("block", [0, 1, 3, 7, 100])
def test_packed_rows_equal_the_loop_by_hand(block):
    expected = by_hand(*inputs(), of_texts())
    np.testing.assert_allclose(real(packed(*inputs(), block=block)), expected, atol=1e-5)


@pytest.mark.parametrize("window", [0, 1, 2, 3])
@pytest.mark.parametrize("block", [0, 1, 3])
def test_a_token_of_a_tree_sees_its_path_and_no_other_branch(window, block):
    expected = by_hand(*inputs(), of_paths(window or 100))
    found = packed(*inputs(), row=TREES, block=block, window=window)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_part_of_the_queries_gives_that_part_of_the_output():
    q, k, v = inputs()
    for row in (PLAIN, TREES):
        part = Row(row.positions[:, 3:], row.visible_until[:, 3:])
        whole = packed(q, k, v, row=row, window=2, block=0)[:, :, 3:]
        for found in (
            row_attention(q[:, :, 3:], k, v, part, row, first=3, window=2),
            by_block(q[:, :, 3:], k, v, part.positions, row, 3, 2, 3),
        ):
            np.testing.assert_allclose(real(found - whole, part), 0, atol=1e-6)


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("block", [0, 2])
def test_a_window_hides_all_but_the_last_positions(window, block):
    expected = by_hand(*inputs(), of_texts(window))
    found = packed(*inputs(), block=block, window=window)
    np.testing.assert_allclose(real(found), expected, atol=1e-5)


def test_a_traced_window_is_that_window():
    for window in (2, 2**31 - 1):
        expected = by_hand(*inputs(), of_texts(window))
        found = packed(*inputs(), block=3, traced_window=np.int32(window))
        np.testing.assert_allclose(real(found), expected, atol=1e-5)


def test_gradients_do_not_depend_on_the_blocks():
    direction = np.random.default_rng(1).normal(size=(B, N, T, H)).astype(np.float32)

    for row in (PLAIN, TREES):

        def grads(block, row=row):
            kept = real(direction, row)
            return jax.grad(lambda x: (packed(*x, row=row, block=block) * kept).sum())(inputs())

        for whole, by_blocks in zip(grads(0), grads(3), strict=True):
            assert np.abs(whole).max() > 0.1
            np.testing.assert_allclose(whole, by_blocks, atol=1e-5)


def test_a_query_that_sees_no_key_gives_no_nan_and_touches_no_other():
    q, k, v = inputs()
    nothing = Row(POSITIONS, np.where(np.arange(T) < 3, 0, T)[None].repeat(B, 0))

    def total(x):
        out = row_attention(*x, nothing, nothing)
        return out[:, :, 3:].sum(), out

    (_, out), grads = jax.value_and_grad(total, has_aux=True)((q, k, v))
    assert np.isfinite(out).all()
    for grad in grads:
        assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grads[0][:, :, :3], 0)


def test_scores_and_softmax_are_float32_whatever_the_heads_are():
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in inputs())
    out = packed(q, k, v, block=0)
    assert out.dtype == jnp.bfloat16
    jaxpr = jax.make_jaxpr(functools.partial(packed, block=0))(q, k, v)
    exps = [line for line in str(jaxpr).splitlines() if " exp " in line]
    assert exps and all(":f32[" in line for line in exps)
