"""What prompts begin with alike is read once, and what is sampled stays the same."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.sampling import sampler
from tl_jax.sampling.held_rows import Kept, piece_width, plan_reading, reading_order
from tl_jax.sampling.next_token import SampleConfig

# One layer sees a window that is shorter than the beginning that prompts share.
MODEL = ModelConfig(64, 32, 2, 4, 2, 8, 64, sliding_windows=(0, 9))
TOOLS = np.random.default_rng(0).integers(0, 64, 30).tolist()
PROMPTS = [[*TOOLS, *tail] for tail in ([1], [2, 3], [1], [4], [1, 5, 6])] + [[9, 8, 7], TOOLS[:20]]


@functools.cache
def model_params():
    return jax.tree.map(lambda x: 2.0 * x, functional.init(MODEL, jax.random.key(0)))


@functools.cache
def plain():
    return sampler.make_sampler(MODEL, SampleConfig(6, temperature=0.7, lookup=0))


# One size of the rows' slots for all, so that few programs are compiled.
LENGTH = 48


def generate(sample, prompts, row_keys, **options):
    return sampler.generate(sample, model_params(), prompts, row_keys, length=LENGTH, **options)


def keys(count):
    return jax.random.split(jax.random.key(1), count)


def watched(sample):
    """The sampler, and the number of tokens that each reading of a prompt has read."""
    read_tokens = []

    def read(params, rows, prompts):
        read_tokens.append(int(prompts.counts.sum()))
        return sample.programs.read(params, rows, prompts)

    return dataclasses.replace(sample, programs=sample.programs._replace(read=read)), read_tokens


@functools.cache
def alone():
    """Samples of the prompts, each read whole."""
    rows = keys(len(PROMPTS))
    return [
        generate(plain(), [ids], rows[i : i + 1], batch_size=2)[0] for i, ids in enumerate(PROMPTS)
    ]


@pytest.mark.parametrize("batch_size", [2, 8])
def test_shared_beginnings_are_read_once_and_change_no_token(batch_size):
    sample, read_tokens = watched(plain())
    made = generate(sample, PROMPTS, keys(len(PROMPTS)), batch_size=batch_size)
    for one, other in zip(alone(), made, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
    # The last token of a prompt is not read, but sampled from.
    # Of what was sampled, too, some may be what a later prompt begins with.
    once = len([*TOOLS, *[1, 5], *[2], *[9, 8]])
    assert sum(read_tokens) == once if batch_size == 8 else len(TOOLS) < sum(read_tokens) <= once


def test_samples_of_one_prompt_read_it_once():
    sample, read_tokens = watched(plain())
    made = generate(sample, [TOOLS] * 4 + [TOOLS[::-1]] * 4, keys(8), batch_size=8)
    assert sum(read_tokens) == 2 * (len(TOOLS) - 1)
    assert len({tuple(one.ids) for one in made}) > 2


def test_the_next_turn_of_a_dialogue_reads_only_what_is_new():
    sample, read_tokens = watched(plain())
    options = {"batch_size": 2, "kept": Kept()}
    context, rows = [*TOOLS, 1], keys(2)
    [first, _] = generate(sample, [context, [63, 62]], rows, **options)
    context = [*context, *first.ids, 2, 3]
    # The other prompt begins anew; whichever is read first, it leaves the dialogue its row.
    other = context[::-1]
    read_tokens.clear()
    [made, _] = generate(sample, [context, other], rows, **options)
    assert sum(read_tokens) == len([first.ids[-1], 2]) + len(other) - 1
    options["kept"] = None
    [again] = generate(plain(), [context], rows[:1], **options)
    assert made.ids == again.ids


def test_rows_of_another_size_begin_anew():
    kept = Kept()
    for size in (8, 2):
        made = generate(plain(), [TOOLS], keys(1), batch_size=size, kept=kept)
        assert made[0].ids and kept.rows is not None and len(kept.rows.text) == size


def test_prompts_that_begin_alike_are_neighbours_and_short_ones_come_first():
    prompts = [[5] * 9, [1, 2, 3, 4], [7], [1, 2, 3, 5], [5] * 8, [1, 2, 3, 4]]
    assert reading_order(prompts) == [2, 1, 5, 3, 4, 0]
    assert reading_order([]) == []


def test_a_prompt_stays_where_it_goes_on_and_else_takes_the_row_that_holds_least():
    held = [[1, 2, 3, 4], [1, 2], [9] * 3]
    stays = plan_reading(0, [1, 2, 3, 4, 5], held, range(3), [0, 1, 2])
    assert (stays.source, stays.shared, stays.place) == (0, 4, 0)
    copied = plan_reading(0, [1, 2, 3, 7], held, range(3), [0, 1, 2])
    assert (copied.source, copied.shared, copied.place) == (0, 3, 1)
    busy = plan_reading(0, [1, 2, 3, 4, 5], held, range(3), [2])
    assert (busy.source, busy.shared, busy.place) == (0, 4, 2)
    # The last token is never taken from another row: what follows it is not held.
    assert plan_reading(0, [1, 2], held, range(3), [2]).shared == 1


@pytest.mark.parametrize("tokens", [0, 1, 16, 17, 33, 64, 129, 255, 700])
def test_pieces_waste_little_and_fit(tokens):
    for slots in (tokens + 16, 2 * tokens + 64):
        left, at = tokens, 0
        while left:
            width = piece_width(left, slots - at)
            assert at + width <= slots
            left, read = max(left - width, 0), at + width
            at += min(width, tokens - at)
        assert not tokens or read <= max(2 * tokens, 16)
