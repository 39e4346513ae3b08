"""Rotary embeddings: the half-rotation layout, and scores that see only distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.ops import rope

HEAD, THETA = 8, 10000.0


def rotate(x_TH, positions_T, theta=THETA):
    """Rotate one head at each position."""
    freqs = rope.frequencies(x_TH.shape[-1], theta)
    angles = rope.rotary_angles(jnp.asarray(positions_T)[None], freqs)
    return np.asarray(rope.apply_rotary(jnp.asarray(x_TH)[None, None], *angles)[0, 0])


def test_the_two_halves_rotate_by_the_angle_of_the_position():
    rng = np.random.default_rng(0)
    positions = np.array([0, 1, 7, 300])
    x = rng.normal(size=(4, HEAD)).astype(np.float32)
    expected = np.empty((4, HEAD))
    for t, position in enumerate(positions):
        for i in range(HEAD // 2):
            angle = position * THETA ** (-2 * i / HEAD)
            a, b = float(x[t, i]), float(x[t, i + HEAD // 2])
            expected[t, i] = a * np.cos(angle) - b * np.sin(angle)
            expected[t, i + HEAD // 2] = b * np.cos(angle) + a * np.sin(angle)
    np.testing.assert_allclose(rotate(x, positions), expected, atol=2e-5)


def test_scores_depend_on_the_distance_alone():
    rng = np.random.default_rng(1)
    query, key = rng.normal(size=(2, HEAD)).astype(np.float32)

    def score(q_position, k_position):
        return rotate(query[None], [q_position])[0] @ rotate(key[None], [k_position])[0]

    np.testing.assert_allclose(score(5, 2), score(105, 102), atol=1e-4)
    np.testing.assert_allclose(score(0, 0), query @ key, atol=1e-5)
    assert abs(score(5, 2) - score(5, 3)) > 1e-2


def test_a_rotation_keeps_lengths_and_leaves_position_zero():
    x = np.random.default_rng(2).normal(size=(3, HEAD)).astype(np.float32)
    np.testing.assert_array_equal(rotate(x, [0, 0, 0]), x)
    turned = rotate(x, [1, 50, 4000])
    norms = [np.linalg.norm(part, axis=-1) for part in (turned, x)]
    np.testing.assert_allclose(*norms, rtol=1e-5)


def test_angles_stay_float32_and_the_dtype_of_the_heads_comes_back():
    # bfloat16 positions 256 and 257 would be one number.
    cos, sin = rope.rotary_angles(jnp.array([[256, 257]]), rope.frequencies(HEAD, THETA))
    assert cos.dtype == sin.dtype == jnp.float32
    np.testing.assert_allclose(cos[0, :, 0], np.cos([256, 257]), atol=1e-4)
    heads = jax.ShapeDtypeStruct((1, 2, 2, HEAD), jnp.bfloat16)
    assert jax.eval_shape(rope.apply_rotary, heads, cos, sin).dtype == jnp.bfloat16


FREQS = rope.frequencies(64, THETA)


def test_llama3_slows_the_slow_pairs_and_leaves_the_fast_ones():
    found = rope.llama3_frequencies(FREQS, factor=8.0, low=1.0, high=4.0, original=2048)
    turns = 2048 * FREQS / (2 * np.pi)
    np.testing.assert_array_equal(found[turns >= 4], FREQS[turns >= 4])
    np.testing.assert_allclose(found[turns <= 1], FREQS[turns <= 1] / 8, rtol=1e-6)
    between = (turns > 1) & (turns < 4)
    assert between.sum() > 2
    kept = (turns[between] - 1) / 3
    expected = kept * FREQS[between] + (1 - kept) * FREQS[between] / 8
    np.testing.assert_allclose(found[between], expected, rtol=1e-5)


@pytest.mark.parametrize("truncate", [False, True])
def test_yarn_slows_the_slow_pairs_and_leaves_the_fast_ones(truncate):
    found = rope.yarn_frequencies(
        64, THETA, factor=4.0, fast=32.0, slow=1.0, original=2048, truncate=truncate
    )
    turns = 2048 * FREQS / (2 * np.pi)
    first, last = np.searchsorted(-turns, [-32.0, -1.0])  # the first pairs below each
    np.testing.assert_array_equal(found[: first - 1], FREQS[: first - 1])
    np.testing.assert_allclose(found[last:], FREQS[last:] / 4, rtol=1e-6)
    slowed = FREQS[first:last] / found[first:last]
    assert np.all(np.diff(slowed) > 0) and 1 < slowed[0] and slowed[-1] < 4


def test_a_ramp_of_no_length_is_a_step():
    settings = {"factor": 4.0, "fast": 32.0, "slow": 31.9, "truncate": False}
    found = rope.yarn_frequencies(8, THETA, original=64, **settings)
    assert np.isfinite(found).all()


def test_magnitude_multiplies_cosines_and_sines():
    plain, scaled = (rope.rotary_angles(jnp.array([[3, 4]]), FREQS, m) for m in (1.0, 1.5))
    for before, after in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(after, 1.5 * before, rtol=1e-6)
