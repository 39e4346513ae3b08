"""Properties of the sampler on a tiny random model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import MeshConfig, ModelConfig
from tl_jax.models import functional
from tl_jax.parallel.mesh import make_mesh, make_sampling_mesh
from tl_jax.parallel.sharding import param_shardings
from tl_jax.sampling import lookup, sampler
from tl_jax.sampling.decode import Prompts
from tl_jax.sampling.next_token import SampleConfig
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


LETTERS = "".join(map(chr, range(40, 104)))


@functools.cache
def make(new_tokens, **settings):
    return sampler.make_sampler(MODEL, SampleConfig(new_tokens, **settings), text_of)


def text_of(ids):
    return "".join(LETTERS[i] for i in ids)


def sample_rows(sample, params, prompts, row_keys, junk=0):
    """Samples of prompts of at most 17 tokens, each in a row, without the host's loop."""
    programs, count = sample.programs, len(prompts)
    fast = programs.unstack(params)
    rows = programs.begin(count, 64, row_keys[0])
    for place, ids in enumerate(prompts):
        piece = np.full((1, 16), junk, np.int32)
        piece[0, : len(ids) - 1] = ids[:-1]
        numbers = [np.array([n], np.int32) for n in (len(ids) - 1, ids[-1], 0, 0, place)]
        read = Prompts(piece, *numbers, np.array([True]), row_keys[place : place + 1])
        rows = programs.read(fast, rows, read)
    return extended(sample, params, rows)


def same_rows(sample, params, prompt, row_keys):
    """Rows that all hold one prompt."""
    programs, count = sample.programs, len(row_keys)
    rows = programs.begin(count, 16, row_keys[0])
    cache = functional.init_cache(MODEL, 1, 16)
    _, cache = functional.apply_with_cache(
        programs.unstack(params), jnp.array([prompt[:-1]]), cache, MODEL
    )
    text = jnp.zeros((1, 16), jnp.int32).at[0, : len(prompt)].set(jnp.array(prompt))
    samples = rows.samples.replace(finished=jnp.zeros(count, bool))
    cache, text = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), (cache, text))
    return rows.replace(samples=samples, cache=cache, text=text, keys=row_keys)


def extended(sample, params, rows):
    programs, count = sample.programs, len(rows.text)
    ended, steps = np.zeros(count, bool), np.int32(sample.config.max_new_tokens)
    fast = programs.unstack(params)
    return programs.extend(fast, rows, ended, None, None, steps, np.int32(count)).samples


@pytest.fixture(scope="module")
def params():
    # Larger weights than at initialisation, so that the distributions are far from uniform.
    return jax.tree.map(lambda x: 2.0 * x, functional.init(MODEL, jax.random.key(0)))


def keys(count, seed=1):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def sampled(params):
    sample = make(8, temperature=0.7)
    return sampler.generate(sample, params, PROMPTS, keys(len(PROMPTS)), batch_size=5)


def whole_logits(params, ids):
    tokens = jnp.array([ids], jnp.int32)
    positions = jnp.arange(len(ids), dtype=jnp.int32)[None]
    batch = Batch(tokens, tokens, jnp.zeros(tokens.shape), positions, tokens * 0 + len(ids))
    return functional.apply(params, batch, MODEL)[0]


def test_greedy_takes_the_argmax_of_a_full_forward_at_every_step(params):
    sample = make(8, temperature=0.0)
    results = sampler.generate(sample, params, PROMPTS, keys(len(PROMPTS)), batch_size=2)
    for prompt, result in zip(PROMPTS, results, strict=True):
        logits = whole_logits(params, prompt + result.ids)[len(prompt) - 1 : -1]
        assert result.ids == np.argmax(logits, axis=-1).tolist()
        assert not result.finished
        logprobs = np.max(jax.nn.log_softmax(logits), axis=-1)
        np.testing.assert_allclose(result.logprobs, logprobs, atol=1e-4)


def test_greedy_does_not_depend_on_the_keys(params):
    sample = make(6, temperature=0.0)
    first = sampler.generate(sample, params, PROMPTS, keys(5, seed=1), batch_size=5)
    assert first == sampler.generate(sample, params, PROMPTS, keys(5, seed=2), batch_size=5)


def test_logprobs_equal_the_training_forward_at_the_sampling_temperature(params, sampled):
    for prompt, result in zip(PROMPTS, sampled, strict=True):
        logits = whole_logits(params, prompt + result.ids)[len(prompt) - 1 : -1] / 0.7
        logprobs = jax.nn.log_softmax(logits)[np.arange(8), np.array(result.ids)]
        np.testing.assert_allclose(result.logprobs, logprobs, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_samples_do_not_depend_on_the_batch_split(params, sampled, batch_size):
    sample = make(8, temperature=0.7)
    again = sampler.generate(sample, params, PROMPTS, keys(5), batch_size=batch_size)
    assert [r.ids for r in again] == [r.ids for r in sampled]
    order = [4, 2, 0, 3, 1]
    mixed = sampler.generate(
        sample, params, [PROMPTS[i] for i in order], keys(5)[np.array(order)], batch_size=batch_size
    )
    assert [r.ids for r in mixed] == [sampled[i].ids for i in order]


def test_padding_of_the_prompt_changes_nothing(params):
    sample = make(8)
    tight = sample_rows(sample, params, [[3, 9, 27], [5, 1]], keys(2))
    loose = sample_rows(sample, params, [[3, 9, 27], [5, 1]], keys(2), junk=63)
    np.testing.assert_array_equal(tight.tokens, loose.tokens)
    np.testing.assert_array_equal(tight.logprobs, loose.logprobs)


ENDING = {"prompts": [[7, 8, 9]] * 16, "row_keys": keys(16, seed=3)}


@pytest.fixture(scope="module")
def open_ended(params):
    return sampler.generate(make(8), params, **ENDING, batch_size=16)


@pytest.fixture(scope="module")
def stopping(open_ended):
    """A sampler that stops with a token of the open-ended texts, and that token."""
    stop = open_ended[0].ids[2]
    return make(8, stop_ids=(stop, 10_000)), stop


@pytest.mark.parametrize("batch_size", [16, 3])
def test_a_stop_token_ends_its_row_and_no_other(params, open_ended, stopping, batch_size):
    sample, stop = stopping
    done = []
    stopped = sampler.generate(sample, params, **ENDING, batch_size=batch_size, on_done=done.append)
    lengths = set()
    for before, after in zip(open_ended, stopped, strict=True):
        expected = before.ids[: before.ids.index(stop) + 1] if stop in before.ids else before.ids
        assert after.ids == expected
        assert after.finished == (stop in before.ids)
        np.testing.assert_allclose(after.logprobs, before.logprobs[: len(expected)], atol=1e-5)
        lengths.add(len(expected))
    assert len(lengths) > 1
    assert done[-1] == 16 and done == sorted(set(done))


def test_an_ended_row_takes_the_next_prompt_while_others_go_on(params, stopping):
    sample, _ = stopping
    beside = []

    def read(params, rows, prompts):
        samples = jax.device_get(rows.samples)
        going_on = ~samples.finished & (samples.lengths < 8)
        beside.append(samples.lengths[going_on].tolist())
        return sample.programs.read(params, rows, prompts)

    watched = dataclasses.replace(sample, programs=sample.programs._replace(read=read))
    sampler.generate(watched, params, **ENDING, batch_size=3)
    assert len(beside) == 16 and beside[0] == []
    assert any(0 < length < 8 for lengths in beside for length in lengths)


@pytest.mark.parametrize("batch_size", [16, 3])
def test_a_stop_string_ends_its_row_with_the_token_that_completes_it(
    params, open_ended, batch_size
):
    strings = (text_of(open_ended[0].ids[2:4]), text_of(open_ended[3].ids[5:6]), "~never")
    made = sampler.generate(make(8, stop_strings=strings), params, **ENDING, batch_size=batch_size)
    ended = set()
    for before, after in zip(open_ended, made, strict=True):
        ends = [size for size in range(9) if any(x in text_of(before.ids[:size]) for x in strings)]
        assert after.ids == before.ids[: ends[0]] if ends else before.ids
        assert len(after.logprobs) == len(after.ids)
        assert after.finished == bool(ends) == bool(after.stop_string)
        text = sampler.reply_text(after, Letters())
        assert text + after.stop_string == text_of(after.ids)
        ended.add(after.stop_string)
    assert ended == {*strings[:2], ""}


class Letters:
    def decode(self, ids, *, keep_control):
        assert keep_control
        return text_of(ids)


def test_a_stop_token_before_a_stop_string_is_no_text(params, stopping):
    _, stop = stopping
    both = make(8, stop_ids=(stop,), stop_strings=(LETTERS[stop],))
    made = sampler.generate(both, params, **ENDING, batch_size=16)
    assert {generation.stop_string for generation in made} == {""}
    assert any(generation.finished for generation in made)


def test_decoding_stops_when_all_rows_are_done(params):
    samples = sample_rows(
        make(8, stop_ids=tuple(range(64))),
        params,
        [[3, 9]],
        keys(1),
    )
    assert samples.lengths.tolist() == [1] and samples.finished.tolist() == [True]
    assert not np.any(samples.tokens[:, 1:]) and not np.any(samples.logprobs[:, 1:])


@pytest.mark.parametrize(
    "temperature, top_k, top_p",
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 0, 0.6), (1.0, 3, 1.0), (1.0, 5, 0.6)],
)
def test_first_tokens_follow_the_distribution(params, temperature, top_k, top_p):
    rows = 4000
    sample = make(1, temperature=temperature, top_k=top_k, top_p=top_p)
    samples = extended(sample, params, same_rows(sample, params, [3, 9], keys(rows)))
    probs = np.asarray(jax.nn.softmax(whole_logits(params, [3, 9])[-1] / temperature))
    order = np.argsort(-probs)[: top_k or None]
    share = np.cumsum(probs[order]) / probs[order].sum()
    kept = order[: np.searchsorted(share, top_p) + 1]
    expected = np.zeros(64)
    expected[kept] = probs[kept] / probs[kept].sum()
    drawn = np.asarray(samples.tokens[:, 0])
    assert set(drawn) <= set(kept.tolist())
    shares = np.bincount(drawn, minlength=64) / rows
    assert 0.5 * np.abs(shares - expected).sum() < 0.06
    np.testing.assert_allclose(samples.logprobs[:, 0], np.log(probs[drawn]), atol=1e-4)


def test_programs_are_compiled_per_width_of_a_piece_and_not_per_prompt(params):
    sample = sampler.make_sampler(MODEL, SampleConfig(2))
    prompts = [[length] * length for length in (1, 8, 20, 32, 33, 50)]
    sampler.generate(sample, params, prompts, keys(6), batch_size=2)
    sampler.generate(sample, params, prompts[::-1][:3], keys(3), batch_size=2)
    assert sample.programs.extend._cache_size() == 1
    # Pieces of 16 and 64, and a prompt of one token, of which there is nothing to read.
    assert sample.programs.read._cache_size() == 3


REPEATING = [[7, 8, 9, 10] * 3, [5, 6] * 4, [3] * 9, [1, 2, 3], [20, 21, 22, 20, 21]]


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_proposals_change_no_token_and_some_are_taken(temperature, monkeypatch):
    """A model that repeats itself: rows accept different numbers of tokens."""
    # As where a wide forward costs no more.
    monkeypatch.setattr(lookup, "most_proposals", lambda rows, limit: limit)
    model = dataclasses.replace(MODEL, num_layers=1, vocab_size=24)
    params = jax.tree.map(lambda x: 4.0 * x, functional.init(model, jax.random.key(3)))
    found, steps = [], []
    for count in (0, 3):
        config = SampleConfig(18, temperature=temperature, stop_ids=(0, 11), lookup=count)
        sample = sampler.make_sampler(model, config)
        calls = []

        def extend(*args, programs=sample.programs, calls=calls):
            before = np.array(args[1].samples.lengths)
            rows = programs.extend(*args[:-2], np.int32(1), args[-1])
            calls.append((np.array(rows.samples.lengths) - before).tolist())
            return rows

        watched = dataclasses.replace(sample, programs=sample.programs._replace(extend=extend))
        found.append(sampler.generate(watched, params, REPEATING, keys(5), batch_size=4))
        steps.append({size for sizes in calls for size in sizes})
    for plain, proposed in zip(*found, strict=True):
        assert plain.ids == proposed.ids and plain.finished == proposed.finished
        np.testing.assert_allclose(plain.logprobs, proposed.logprobs, atol=1e-5)
    assert max(steps[0]) == 1 < max(steps[1]) and len(steps[1]) > 1


@pytest.mark.parametrize(("sizes", "tensor"), [((1, 2, 2), 2), ((1, 1, 2, 2), 0)])
def test_what_is_sampled_does_not_depend_on_the_mesh_of_sampling(params, sizes, tensor):
    """Weights that lie along fsdp and tensor in training are moved to lie along tensor.

    Devices that share rows in training have rows of their own.
    """
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[:4])
    placed = jax.device_put(params, param_shardings(functional.abstract_params(MODEL), mesh))
    elsewhere = sampler.make_sampler(MODEL, SampleConfig(3), mesh=make_sampling_mesh(mesh, tensor))
    expected = sampler.generate(make(3), params, PROMPTS[:3], keys(3), batch_size=2)
    with jax.set_mesh(mesh):
        found = sampler.generate(elsewhere, placed, PROMPTS[:3], keys(3), batch_size=2)
    for one, other in zip(expected, found, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


@pytest.mark.parametrize("length", [1, 32, 33, 900, 5000])
def test_buckets_hold_the_text_and_waste_little(length):
    bucket = sampler.bucket_length(length)
    assert bucket >= length and bucket % 8 == 0
    assert bucket == 32 or bucket < 1.5 * length


@pytest.mark.parametrize(
    "setting",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"stop_strings": ("a", "")},
        {"lookup": -1},
    ],
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        SampleConfig(**({"max_new_tokens": 4} | setting))


def test_stop_strings_need_the_text_of_tokens():
    with pytest.raises(ValueError, match="give text_of"):
        sampler.make_sampler(MODEL, SampleConfig(4, stop_strings=("a",)))


def test_an_empty_prompt_is_refused(params):
    sample = make(2)
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        sampler.generate(sample, params, [[1], []], keys(2), batch_size=2)
