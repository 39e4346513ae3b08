"""Attention against a loop over queries and keys, in one piece and in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.ops.attention import attention

B, N, K, T, H = 2, 4, 2, 7, 6

# Row 0: two segments and padding. Row 1: one segment.
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]], np.int32)


def inputs(keys=T):
    rng = np.random.default_rng(0)
    shapes = ((B, N, T, H), (B, K, keys, H), (B, K, keys, H))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_hand(q, k, v, q_positions, k_positions, q_segments, k_segments, window=100):
    """One softmax per query over the keys it may see; zeros where it sees none."""
    out = np.zeros(q.shape)
    for b, n, t in np.ndindex(q.shape[:3]):
        head = n // (q.shape[1] // k.shape[1])
        seen = [
            s
            for s in range(k.shape[2])
            if k_segments[b, s] == q_segments[b, t]
            and 0 <= q_positions[b, t] - k_positions[b, s] < window
        ]
        if seen:
            scores = np.array([q[b, n, t] @ k[b, head, s] for s in seen]) / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out[b, n, t] = sum(w * v[b, head, s] for w, s in zip(weights, seen, strict=True))
    return out


@functools.partial(jax.jit, static_argnames=("chunk", "same_tokens", "window"))
def packed(q, k, v, *, chunk, same_tokens=True, window=0, traced_window=None):
    return attention(
        q,
        k,
        v,
        q_positions_BT=POSITIONS,
        k_positions_BS=POSITIONS,
        q_segments_BT=SEGMENTS,
        k_segments_BS=SEGMENTS,
        same_tokens=same_tokens,
        window=window if traced_window is None else traced_window,
        chunk=chunk,
    )


@pytest.mark.parametrize("chunk", [0, 1, 3, 7, 100])
def test_packed_rows_equal_the_loop_by_hand(chunk):
    expected = by_hand(*inputs(), POSITIONS, POSITIONS, SEGMENTS, SEGMENTS)
    np.testing.assert_allclose(packed(*inputs(), chunk=chunk), expected, atol=1e-5)


def test_looking_at_later_keys_of_packed_rows_changes_nothing():
    seen = packed(*inputs(), chunk=3, same_tokens=False)
    np.testing.assert_allclose(packed(*inputs(), chunk=3), seen, atol=1e-6)


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("chunk", [0, 2])
def test_a_window_hides_all_but_the_last_positions(window, chunk):
    expected = by_hand(*inputs(), POSITIONS, POSITIONS, SEGMENTS, SEGMENTS, window)
    found = packed(*inputs(), chunk=chunk, window=window)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_traced_window_is_that_window():
    for window in (2, 2**31 - 1):
        expected = by_hand(*inputs(), POSITIONS, POSITIONS, SEGMENTS, SEGMENTS, window)
        found = packed(*inputs(), chunk=3, traced_window=np.int32(window))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_keys_before_the_window_of_a_chunk_are_not_computed():
    def keys_seen(window):
        jaxpr = str(jax.make_jaxpr(functools.partial(packed, chunk=2, window=window))(*inputs()))
        return [size for size in range(1, T + 1) if f"[{B},{K},{size},{H}]" in jaxpr]

    assert max(keys_seen(0)) == T and keys_seen(2)[:-1] == [2, 3] and keys_seen(2)[-1] == T


@pytest.mark.parametrize("window", [100, 3])
def test_keys_of_a_cache_are_seen_by_position_and_validity_in_any_slot(window):
    q, k, v = inputs(keys=10)
    k_positions = np.array([[4, 0, 9, 2, 1, 3, 0, 5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
    k_valid = np.array([[1, 1, 0, 1, 1, 1, 0, 1, 1, 0], [1] * 10], bool)
    q_positions = POSITIONS[[1, 1]] + 2
    q_valid = np.ones((B, T), bool)
    expected = by_hand(q, k, v, q_positions, k_positions, q_valid, k_valid, window)
    found = attention(
        *(q, k, v),
        q_positions_BT=q_positions,
        k_positions_BS=k_positions,
        q_segments_BT=q_valid,
        k_segments_BS=k_valid,
        same_tokens=False,
        window=window,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_do_not_depend_on_the_chunk():
    direction = np.random.default_rng(1).normal(size=(B, N, T, H)).astype(np.float32)

    def grads(chunk):
        return jax.grad(lambda x: (packed(*x, chunk=chunk) * direction).sum())(inputs())

    for whole, chunked in zip(grads(0), grads(3), strict=True):
        assert np.abs(whole).max() > 0.1
        np.testing.assert_allclose(whole, chunked, atol=1e-5)


def test_a_query_that_sees_no_key_gives_no_nan_and_touches_no_other():
    q, k, v = inputs()
    nothing = np.full((B, T), 9, np.int32)
    nothing[:, 3:] = 1

    def total(x):
        out = attention(
            *x,
            q_positions_BT=POSITIONS,
            k_positions_BS=POSITIONS,
            q_segments_BT=nothing,
            k_segments_BS=np.ones((B, T), np.int32),
            same_tokens=False,
        )
        return out[:, :, 3:].sum(), out

    (_, out), grads = jax.value_and_grad(total, has_aux=True)((q, k, v))
    assert np.isfinite(out).all()
    for grad in grads:
        assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grads[0][:, :, :3], 0)


def test_scores_and_softmax_are_float32_whatever_the_heads_are():
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in inputs())
    out = packed(q, k, v, chunk=0)
    assert out.dtype == jnp.bfloat16
    jaxpr = jax.make_jaxpr(functools.partial(packed, chunk=0))(q, k, v)
    exps = [line for line in str(jaxpr).splitlines() if " exp " in line]
    assert exps and all(":f32[" in line for line in exps)
