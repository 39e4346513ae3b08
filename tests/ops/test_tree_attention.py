"""Every attention that takes rows of prefix trees computes the rule, and skips what it hides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import MeshConfig, SplashConfig
from tl_jax.ops import kernels, seen_blocks
from tl_jax.ops.attention import Row
from tl_jax.ops.block_attention import block_attention
from tl_jax.parallel.mesh import make_mesh

B, N, K, T, H = 4, 4, 2, 300, 16  # blocks of 128, the last partly filled
BLOCKS = SplashConfig(128, 128)
KINDS = ("chunked", "tree")
RUNS = "chunked, small blocks"  # so small that some stand side by side and are seen whole
WINDOW = 40


def grown(rng, length, filled):
    """A row of random trees: a text goes on, or a new one begins at some place of its path."""
    until, positions = np.zeros((2, length), np.int32)
    path, at = [], 0
    while at < filled:
        kept = rng.integers(0, len(path) + 1)
        until[path[kept:]] = at
        path = path[:kept]
        for _ in range(min(int(rng.integers(10, 90)), filled - at)):
            positions[at] = len(path)
            path.append(at)
            at += 1
    until[path] = filled
    return positions, until


def make_rows():
    """Trees with padding, trees, two texts side by side, and nothing but padding."""
    rng = np.random.default_rng(0)
    texts = np.concatenate([np.arange(170), np.arange(130)]), np.repeat((170, 300), (170, 130))
    rows = grown(rng, T, 260), grown(rng, T, T), texts, np.zeros((2, T))
    return Row(*(np.stack(column).astype(np.int32) for column in zip(*rows, strict=True)))


ROWS = make_rows()
# A beginning of 128 tokens with branches of 128 and 44: three blocks.
FORK = Row(
    np.array([[*range(256), *range(128, 172)]] * B, np.int32),
    np.array([np.repeat((300, 256, 300), (128, 128, 44))] * B, np.int32),
)
# What the output of each token is worth.
WORTH = np.cos(np.arange(B * T)).reshape(B, 1, T, 1).astype(np.float32)


def inputs(dtype=np.float32):
    rng = np.random.default_rng(1)
    shapes = ((B, N, T, H), (B, K, T, H), (B, K, T, H))
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def visible(row, window=0):
    """The rule, pair by pair."""
    places = np.arange(row.positions.shape[1])
    seen = (places <= places[:, None]) & (places[:, None] < row.visible_until[:, None])
    if window:
        seen &= row.positions[:, :, None] - row.positions[:, None] < window
    return seen


@functools.partial(jax.jit, static_argnames="window")
def by_rule(qkv, window):
    def attend(qkv):
        q, k, v = qkv
        k, v = (jnp.repeat(x, N // K, axis=1) for x in (k, v))
        seen = visible(ROWS, window)[:, None]
        scores = jnp.where(seen, jnp.einsum("bnth,bnsh->bnts", q, k) / H**0.5, -1e9)
        return jnp.einsum("bnts,bnsh->bnth", jax.nn.softmax(scores), v)

    return value_and_grads(attend, qkv, ROWS, WORTH)


@functools.partial(jax.jit, static_argnames=("kind", "window"))
def by_kind(qkv, row, worth, *, kind, window=0):
    def attend(qkv):
        if kind == RUNS:
            limit = jnp.int32(window) if window else None
            facts = seen_blocks.Facts(row.positions, *row, jnp.int32(0), limit)
            return block_attention(*qkv, facts, saved_name="", block=12)
        return kernels.attend(*qkv, row, kind=kind, blocks=BLOCKS, window=window)

    return value_and_grads(attend, qkv, row, worth)


def value_and_grads(attend, qkv, row, worth):
    def total(qkv):
        out = attend(qkv)
        out = jnp.where(row.visible_until[:, None, :, None] > 0, out, 0)  # padding is nobody's
        return (out * worth).sum(), out

    (_, out), grads = jax.value_and_grad(total, has_aux=True)(qkv)
    return out, *grads


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(np.float32(a) / scale, np.float32(b) / scale, atol=tolerance)


@pytest.mark.parametrize("kind", (*KINDS, RUNS))
@pytest.mark.parametrize("window", [0, WINDOW])
def test_trees_texts_and_padding_are_attended_by_the_rule(kind, window):
    found = by_kind(inputs(), ROWS, WORTH, kind=kind, window=window)
    assert_close(found, by_rule(inputs(), window))
    assert all(np.isfinite(x).all() for x in found)


@pytest.mark.parametrize("kind", ("tree", RUNS))
def test_heads_of_half_precision_give_that_up_to_their_precision(kind):
    found = by_kind(inputs(jnp.bfloat16), ROWS, WORTH, kind=kind)
    assert all(x.dtype == jnp.bfloat16 for x in found)
    assert_close(found, by_rule(inputs(), 0), 2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_devices_that_share_rows_compute_them_by_the_rule(kind):
    """Each its own queries; of some blocks of keys none of them sees any."""
    row, qkv, worth = jax.tree.map(lambda x: x[:2], (ROWS, inputs(), WORTH))
    expected = by_rule(inputs(), WINDOW)
    with jax.set_mesh(make_mesh(MeshConfig(1, 2, 1, 2), jax.devices()[:4])):
        found = by_kind(qkv, row, worth, kind=kind, window=WINDOW)
    assert_close(found, [x[:2] for x in expected])


@pytest.mark.parametrize("kind", KINDS)
def test_no_branch_feels_the_keys_and_values_of_another(kind):
    """Of the output of the last token of trees only its path has a gradient."""
    hidden = ~visible(ROWS)[1, T - 1]
    last = np.zeros_like(WORTH)
    last[1, :, T - 1] = 1
    for gradient in by_kind(inputs(), ROWS, last, kind=kind)[2:]:
        assert hidden.sum() > 50 and np.abs(gradient[1, :, ~hidden]).min() > 0
        np.testing.assert_array_equal(gradient[1, :, hidden], 0)
        np.testing.assert_array_equal(gradient[0], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_that_are_hidden_are_not_read(kind):
    """What is no number would be none after a product with 0, too."""
    q, k, v = inputs()
    whole = by_kind((q, k, v), FORK, WORTH, kind=kind)[0]
    broken = (x.at[:, :, 128:256].set(np.nan) for x in (k, v))
    found = by_kind((q, *broken), FORK, WORTH, kind=kind)[0]
    np.testing.assert_array_equal(found[:, :, 256:], whole[:, :, 256:])
    assert np.isnan(found[:, :, 128:256]).all()


def test_the_blocks_that_see_each_other_are_those_with_a_visible_pair():
    """All of them; without a window no other, with one hardly any other."""
    facts = seen_blocks.Facts(*map(jnp.asarray, (ROWS.positions, *ROWS, 0)), None)
    for block in (20, 30):
        exact = visible(ROWS).reshape(B, T // block, block, -1, block).any((2, 4))
        found = seen_blocks.seen(facts, block, block)
        np.testing.assert_array_equal(found, exact)
        assert 0 < exact[1].sum() < exact.shape[1] * (exact.shape[1] + 1) // 2
        near = facts._replace(window=jnp.int32(WINDOW))
        exact = visible(ROWS, WINDOW).reshape(B, T // block, block, -1, block).any((2, 4))
        within = np.asarray(seen_blocks.seen(near, block, block))
        assert not (exact & ~within).any() and within.sum() < 1.3 * exact.sum()


@pytest.mark.parametrize("window", [0, WINDOW])
def test_runs_are_neighbours_of_which_each_query_sees_every_key(window):
    """Each begins where such neighbours begin or behind a run, and none is left that is whole."""
    limit = jnp.int32(window) if window else None
    facts = seen_blocks.Facts(*map(jnp.asarray, (ROWS.positions, *ROWS, 0)), limit)
    block, length = 10, 3
    exact = visible(ROWS, window).reshape(B, T // block, block, -1, block).all((2, 4))
    found = np.asarray(seen_blocks.wholly_seen(facts, block, block))
    assert not (found & ~exact).any() and found.sum() > (0.8 if window else 0.999) * exact.sum()
    begins, inside = map(np.asarray, seen_blocks.runs(jnp.asarray(found), length))
    for row, i in np.ndindex(begins.shape[:2]):
        expected = np.zeros((2, T // block), bool)
        j = 0
        while j < T // block:
            whole = found[row, i, j : j + length]
            if whole.all() and len(whole) == length:
                expected[0, j] = expected[1, j : j + length] = True
            j += length if expected[0, j] else 1
        np.testing.assert_array_equal((begins[row, i], inside[row, i]), expected)
    assert window or begins.sum() > 20


def test_the_steps_of_a_grid_are_the_pairs_and_one_for_a_block_without():
    seen = np.random.default_rng(0).random((3, 4, 5)) < 0.4
    seen[1, 2] = False
    expected = [
        (row, own, other)
        for row, own in np.ndindex(3, 4)
        for other in (np.nonzero(seen[row, own])[0] if seen[row, own].any() else [0])
    ]
    size, *found = map(np.asarray, seen_blocks.pairs(jnp.asarray(seen)))
    steps = list(zip(*(column[:size] for column in found), strict=True))
    assert [step[:3] for step in steps] == expected
    for number, (*block, _, edge) in enumerate(steps):
        first = number == 0 or block != list(steps[number - 1][:2])
        last = number + 1 == size or block != list(steps[number + 1][:2])
        assert edge == first + 2 * last
