"""Properties of the sampler on a tiny random model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.rl import sampler
from tl_jax.types import Batch

MODEL = ModelConfig(
    vocab_size=64,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
)
PROMPTS = [[3, 9, 27], [5], [1, 2, 3, 4, 5, 6, 7, 8, 9], list(range(10, 45)), [60, 0, 0, 11]]


@pytest.fixture(scope="module")
def params():
    # Larger weights than at initialisation, so that the distributions are far from uniform.
    return jax.tree.map(lambda x: 2.0 * x, functional.init(MODEL, jax.random.key(0)))


def keys(count, seed=1):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def sampled(params):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(8, temperature=0.7))
    return sampler.generate(sample, params, PROMPTS, keys(len(PROMPTS)), batch_size=5)


def whole_logits(params, ids):
    tokens = jnp.array([ids], jnp.int32)
    positions = jnp.arange(len(ids), dtype=jnp.int32)[None]
    batch = Batch(tokens, tokens, jnp.zeros(tokens.shape), positions, jnp.ones_like(tokens))
    return functional.apply(params, batch, MODEL)[0]


def test_greedy_takes_the_argmax_of_a_full_forward_at_every_step(params):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(8, temperature=0.0))
    results = sampler.generate(sample, params, PROMPTS, keys(len(PROMPTS)), batch_size=2)
    for prompt, result in zip(PROMPTS, results, strict=True):
        logits = whole_logits(params, prompt + result.ids)[len(prompt) - 1 : -1]
        assert result.ids == np.argmax(logits, axis=-1).tolist()
        assert not result.finished
        logprobs = np.max(jax.nn.log_softmax(logits), axis=-1)
        np.testing.assert_allclose(result.logprobs, logprobs, atol=1e-4)


def test_greedy_does_not_depend_on_the_keys(params):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(6, temperature=0.0))
    first = sampler.generate(sample, params, PROMPTS, keys(5, seed=1), batch_size=5)
    assert first == sampler.generate(sample, params, PROMPTS, keys(5, seed=2), batch_size=5)


def test_logprobs_equal_the_training_forward_at_the_sampling_temperature(params, sampled):
    for prompt, result in zip(PROMPTS, sampled, strict=True):
        logits = whole_logits(params, prompt + result.ids)[len(prompt) - 1 : -1] / 0.7
        logprobs = jax.nn.log_softmax(logits)[np.arange(8), np.array(result.ids)]
        np.testing.assert_allclose(result.logprobs, logprobs, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_samples_do_not_depend_on_the_batch_split(params, sampled, batch_size):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(8, temperature=0.7))
    again = sampler.generate(sample, params, PROMPTS, keys(5), batch_size=batch_size)
    assert [r.ids for r in again] == [r.ids for r in sampled]
    order = [4, 2, 0, 3, 1]
    mixed = sampler.generate(
        sample, params, [PROMPTS[i] for i in order], keys(5)[np.array(order)], batch_size=batch_size
    )
    assert [r.ids for r in mixed] == [sampled[i].ids for i in order]


@pytest.mark.parametrize("junk", [0, 63])
def test_padding_of_the_prompt_changes_nothing(params, junk):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(8))
    prompt, lengths = np.array([[3, 9, 27], [5, 1, 0]], np.int32), np.array([3, 2], np.int32)
    tight = sample(params, prompt, lengths, keys(2))
    wide = np.full((2, 50), junk, np.int32)
    wide[:, :3] = prompt
    wide[1, 2] = junk
    loose = sample(params, wide, lengths, keys(2))
    np.testing.assert_array_equal(tight.tokens, loose.tokens)
    np.testing.assert_allclose(tight.logprobs, loose.logprobs, atol=1e-5)


def test_a_stop_token_ends_its_row_and_no_other(params):
    free = sampler.SampleConfig(8, temperature=1.0)
    prompts, row_keys = [[7, 8, 9]] * 16, keys(16, seed=3)
    run = lambda config: sampler.generate(  # noqa: E731
        sampler.make_sampler(MODEL, config), params, prompts, row_keys, batch_size=16
    )
    open_ended = run(free)
    stop = open_ended[0].ids[2]
    stopped = run(dataclasses.replace(free, stop_ids=(stop, 10_000)))
    lengths = set()
    for before, after in zip(open_ended, stopped, strict=True):
        expected = before.ids[: before.ids.index(stop) + 1] if stop in before.ids else before.ids
        assert after.ids == expected
        assert after.finished == (stop in before.ids)
        assert len(after.logprobs) == len(expected)
        lengths.add(len(expected))
    assert len(lengths) > 1


def test_decoding_stops_when_all_rows_are_done(params):
    config = sampler.SampleConfig(8, stop_ids=tuple(range(64)))
    samples = sampler.make_sampler(MODEL, config)(
        params, np.array([[3, 9]], np.int32), np.array([2], np.int32), keys(1)
    )
    assert samples.lengths.tolist() == [1] and samples.finished.tolist() == [True]
    assert not np.any(samples.tokens[:, 1:]) and not np.any(samples.logprobs[:, 1:])


@pytest.mark.parametrize("temperature,top_p", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6)])
def test_first_tokens_follow_the_distribution(params, temperature, top_p):
    rows = 4000
    config = sampler.SampleConfig(1, temperature=temperature, top_p=top_p)
    samples = sampler.make_sampler(MODEL, config)(
        params,
        np.tile(np.array([[3, 9]], np.int32), (rows, 1)),
        np.full(rows, 2, np.int32),
        keys(rows),
    )
    probs = np.asarray(jax.nn.softmax(whole_logits(params, [3, 9])[-1] / temperature))
    order = np.argsort(-probs)
    kept = order[: np.searchsorted(np.cumsum(probs[order]), top_p) + 1]
    expected = np.zeros(64)
    expected[kept] = probs[kept] / probs[kept].sum()
    drawn = np.asarray(samples.tokens[:, 0])
    assert set(drawn) <= set(kept.tolist())
    shares = np.bincount(drawn, minlength=64) / rows
    assert 0.5 * np.abs(shares - expected).sum() < 0.06
    np.testing.assert_allclose(samples.logprobs[:, 0], np.log(probs[drawn]), atol=1e-4)


def test_one_compilation_per_prompt_bucket(params):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(2))
    prompts = [[1] * length for length in (1, 8, 20, 32, 33, 40)]
    sampler.generate(sample, params, prompts, keys(6), batch_size=2)
    sampler.generate(sample, params, prompts[::-1][:3], keys(3), batch_size=2)
    assert sample._cache_size() == 2


@pytest.mark.parametrize("length", [1, 32, 33, 900, 5000])
def test_buckets_hold_the_text_and_waste_little(length):
    bucket = sampler.bucket_length(length)
    assert bucket >= length and bucket % 8 == 0
    assert bucket == 32 or bucket < 1.5 * length


@pytest.mark.parametrize(
    "setting", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        sampler.SampleConfig(**({"max_new_tokens": 4} | setting))


def test_an_empty_prompt_is_refused(params):
    sample = sampler.make_sampler(MODEL, sampler.SampleConfig(2))
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        sampler.generate(sample, params, [[1], []], keys(2), batch_size=2)
