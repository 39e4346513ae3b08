"""Rows of trees hold every sample whole, show each nothing of another, and score it as alone."""

import functools

import jax
import numpy as np
import pytest

from tl_jax.config import ModelConfig, PpoConfig
from tl_jax.models import functional
from tl_jax.rl.batch import build_batch
from tl_jax.rl.logprobs import make_logprob_step
from tl_jax.rl.prompts import minibatches
from tl_jax.rl.rows import SharedRows, plan_rows, share

MODEL = ModelConfig(
    vocab_size=48,
    embed_dim=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=16,
    sliding_windows=(0, 9),
)
SHAPE = SharedRows(length=64, shards=2)


def samples():
    """Samples of three prompts, two of which begin alike: a prompt is of one token, a reply comes
    twice, and dialogues go on after feedback, which comes twice, too.
    """
    rng = np.random.default_rng(0)
    manual = rng.integers(1, 48, 9).tolist()
    feedback = rng.integers(1, 48, 4).tolist()
    prompts, replies, sampled = [], [], []

    def add(prompt, *pieces):
        prompts.append(prompt)
        replies.append(sum(pieces, []))
        sampled.append(sum(([n % 2 == 0] * len(p) for n, p in enumerate(pieces)), []))

    for prompt in (manual + [3, 4], manual + [5, 6, 7, 8], [9]):
        same = rng.integers(1, 48, 5).tolist()
        add(prompt, same)
        add(prompt, same)
        add(prompt, same, feedback, rng.integers(1, 48, 2).tolist())
        add(prompt, same[:2], feedback, rng.integers(1, 48, 6).tolist())
        add(prompt, rng.integers(1, 48, 12).tolist())
    return build_batch(prompts, replies, sampled, length=48)


def laid_out(shape=SHAPE, **options):
    batch, mask = samples()
    # Each number is one of a kind, so that it shows where it went.
    numbered = np.arange(1, mask.size + 1, dtype=np.float32).reshape(mask.shape)
    batch = batch.replace(weights=mask * numbered)
    return batch, mask, *share(batch, mask, shape, **options)


@pytest.mark.parametrize("length", [48, 64, 256])
def test_a_sample_is_read_from_its_row_token_for_token(length):
    batch, mask, rows, places = laid_out(SharedRows(length))
    q, k = np.arange(length)[:, None], np.arange(length)
    sees = (k <= q) & (q < rows.visible_until[:, None])
    end = (batch.visible_until > 0).sum(axis=1)
    seen = np.zeros_like(rows.visible_until)
    for sample, (row, start, first, size) in enumerate(places.of_each()):
        last = start + size - first - 1
        path = np.flatnonzero(sees[row, last])
        seen[row, path] += 1
        assert size == end[sample] == len(path)
        np.testing.assert_array_equal(rows.tokens[row, path], batch.tokens[sample, :size])
        np.testing.assert_array_equal(rows.positions[row, path], np.arange(size))
        scored = np.flatnonzero(mask[sample])
        np.testing.assert_array_equal(
            rows.targets[row, path[scored]], batch.targets[sample, scored]
        )
        np.testing.assert_array_equal(rows.weights[row, path], batch.weights[sample, :size])
    np.testing.assert_array_equal(rows.samples, seen)
    assert rows.samples.sum() == end.sum() and not rows.trained.any()
    np.testing.assert_array_equal(rows.samples > 0, rows.visible_until > 0)
    # Nothing stands in two places, and nothing is left out.
    np.testing.assert_array_equal(np.sort(rows.weights[rows.weights > 0]), batch.weights[mask > 0])
    np.testing.assert_array_equal(places.by_sample(rows.weights, 48), batch.weights)


def test_prompts_are_computed_once_a_row_and_so_is_what_two_prompts_begin_with():
    batch, _, rows, _ = laid_out(SharedRows(256))
    used = rows.visible_until > 0
    assert used.any(axis=1).sum() == 1
    replies = [5, 5, 11, 12, 12]
    # The last token of a prompt stands before every reply, and a prompt of one token is only that.
    assert used.sum() == 9 + 1 + 3 + 3 * sum(replies)
    apart = share(batch, np.ones_like(batch.weights), SharedRows(256))[0]
    assert (apart.visible_until > 0).sum() == (batch.visible_until > 0).sum()
    assert (laid_out(SharedRows(48))[2].visible_until > 0).sum() > used.sum()


def test_a_beginning_of_next_to_nothing_is_not_shared():
    prompts = [[1, *range(2, 22)], [1, *range(22, 42)]]
    batch, mask = build_batch(prompts, [[5], [6]], [[True], [True]])
    assert share(batch, mask, SharedRows(96))[0].samples.max() == 1


def test_the_number_of_rows_is_one_of_few_that_the_shards_divide():
    counts = {SharedRows(64).padded(rows) for rows in range(1, 33)}
    assert counts == {1, 2, 3, 4, 6, 8, 12, 16, 24, 32}
    for beside in (0, 3):
        *_, rows, _ = laid_out(SharedRows(48, shards=8), beside=beside)
        assert (len(rows.tokens) + beside) % 8 == 0
    with pytest.raises(ValueError, match="a sample of 24 targets is longer than a row of 16"):
        laid_out(SharedRows(16))


def test_rows_take_few_tokens_without_leaving_devices_idle():
    ppo = PpoConfig(prompts_per_step=4, samples_per_prompt=8)
    plan = functools.partial(plan_rows, ppo, prompt_length=512, reply_length=64, parts=1)
    assert plan(shards=1) == SharedRows(1024, 1, 8)
    assert plan(shards=1).most(32, 8) == 4
    # 16 devices: two samples a row, so that each has one.
    assert plan(shards=16) == SharedRows(640, 16, 2) and plan(shards=16).most(32, 8) == 16
    assert plan(shards=32).samples == 1
    assert plan(shards=1, least=4096).length == 4096
    assert plan_rows(ppo, prompt_length=10, reply_length=9000, shards=1, parts=3).length == 9024
    assert plan(shards=1, reply_length=2000).length <= 8192


def test_updates_hold_whole_groups_where_they_can():
    ppo = PpoConfig(samples_per_prompt=4, minibatches=3, epochs=2)
    parts = minibatches(24, ppo, seed=0, step=1)
    assert len(parts) == 6 and [len(part) for part in parts] == [8] * 6
    for part in parts:
        assert set(np.bincount(part // 4)) <= {0, 4}
    assert sorted(np.concatenate(parts[:3])) == list(range(24)) == sorted(np.concatenate(parts[3:]))
    assert [p.tolist() for p in parts[:3]] != [p.tolist() for p in parts[3:]]
    cut = minibatches(8, PpoConfig(samples_per_prompt=8, minibatches=4), seed=0, step=0)
    assert sorted(np.concatenate(cut)) == list(range(8)) and [len(part) for part in cut] == [2] * 4


@pytest.fixture(scope="module")
def params():
    """Parameters of which none is zero."""
    shapes = jax.eval_shape(lambda: functional.init(MODEL, jax.random.key(0), value_head=True))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.3, shapes)


@pytest.fixture(scope="module")
def score():
    return make_logprob_step(MODEL, temperature=0.8, chunk=16)


@pytest.mark.parametrize("length", [48, 256])
def test_scores_are_those_of_samples_in_rows_of_their_own(params, score, length):
    batch, mask, rows, places = laid_out(SharedRows(length))
    for alone, of_rows in zip(score(params, batch), score(params, rows), strict=True):
        found = places.by_sample(np.asarray(of_rows), 48)[mask > 0]
        due = np.asarray(alone)[mask > 0]
        np.testing.assert_allclose(found, due, rtol=0, atol=1e-5 * np.abs(due).max())


def test_no_sample_sees_another(params):
    """What a sample says moves the scores of its own targets only."""
    batch, mask, rows, places = laid_out(SharedRows(256))
    kernel = functional.head_kernel(params, MODEL)
    weights = (np.random.default_rng(1).normal(size=rows.tokens.shape)).astype(np.float32)

    def of_targets(embedded, own):
        table = params | {"embed": {"embedding": embedded}}
        numbered = rows.replace(tokens=np.arange(rows.tokens.size).reshape(rows.tokens.shape))
        hidden = functional.hidden_states(table, numbered, MODEL)
        return (hidden @ kernel).sum(axis=-1).ravel() @ (weights.ravel() * own)

    # Every entry has an embedding of its own.
    embedded = params["embed"]["embedding"][rows.tokens.ravel()]
    gradient = jax.jit(jax.grad(of_targets))
    for sample, (row, start, first, end) in enumerate(places.of_each()):
        if sample not in (1, 3, 9):
            continue
        own = np.zeros(rows.tokens.shape, np.float32)
        own[row, start : start + end - first] = mask[sample, first:end]
        row_T = np.abs(gradient(embedded, own.ravel())).sum(axis=1).reshape(own.shape)
        assert set(np.flatnonzero(row_T.any(axis=1))) == {row}
        read = np.flatnonzero(row_T[row])
        np.testing.assert_array_equal(rows.tokens[row, read], batch.tokens[sample, :end])
        np.testing.assert_array_equal(rows.positions[row, read], np.arange(end))
