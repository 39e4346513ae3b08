"""What is proposed, and which of it counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tl_jax.models.functional import Cache
from tl_jax.sampling.decode import Rows, Samples, accept
from tl_jax.sampling.lookup import NOTHING, most_proposals, propose
from tl_jax.sampling.next_token import SampleConfig

STALE = 99  # what stands behind the end of a text is of no meaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([1, 2, 3, 4, 5, 1, 2], [3, 4, 5]),
        # The latest place, and only what is known of how it goes on.
        ([1, 2, 3, 1, 2, 4, 1, 2], [4, 1, 2]),
        ([7, 7, 7], [7, NOTHING, NOTHING]),
        ([5, 6, 5, 6], [5, 6, NOTHING]),
        # Three equal tokens count for more than a later place with two.
        ([9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2], [3, 8, 1]),
        # One equal token is too little, and so is a text of one token.
        ([1, 2, 3, 1], [NOTHING] * 3),
        ([STALE], [NOTHING] * 3),
    ],
    ids=str,
)
def test_a_text_goes_on_as_it_did_at_the_last_place_with_the_most_equal_tokens(text, expected):
    rows = np.full((2, 14), STALE, np.int32)
    rows[1, : len(text)] = text
    found = propose(jnp.array(rows), jnp.array([1, len(text)]), 3)
    assert found.tolist() == [[NOTHING] * 3, expected]
    assert propose(jnp.array(rows), jnp.array([1, len(text)]), 0).shape == (2, 0)


def test_fewer_tokens_are_proposed_the_more_rows_there_are(monkeypatch):
    # Of a CPU, where one pays for some numbers of rows.
    assert [most_proposals(rows, 7) for rows in (1, 4, 8, 9, 1000)] == [0, 1, 1, 0, 0]
    assert most_proposals(8, 0) == 0
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert [most_proposals(rows, 7) for rows in (1, 32, 64, 1000)] == [7, 7, 3, 0]


def rows_of(count, lengths, new_tokens, key=0):
    samples = Samples(
        tokens=jnp.zeros((count, new_tokens), jnp.int32),
        lengths=jnp.array(lengths),
        logprobs=jnp.zeros((count, new_tokens)),
        finished=jnp.zeros(count, bool),
    )
    cache = Cache(keys=(), values=(), index=jnp.full(count, 2) + jnp.array(lengths))
    text = jnp.full((count, 16), STALE)
    return Rows(samples, cache, text, jax.random.split(jax.random.key(key), count))


def test_each_row_takes_what_follows_from_its_own_tokens_and_no_more():
    """The model says 3, 4, 5, 6 whatever it sees; 5 ends a text."""
    stop, new_tokens = 5, 6
    says = np.tile([3, 4, 5, 6], (6, 1))
    says[4:] = [3, 4, 7, 6]
    proposals = jnp.array([[3, 4, 5], [3, 9, 5], [9, 4, 5], [NOTHING] * 3, [3, 4, 7], [3, 4, 7]])
    rows = rows_of(6, [0, 0, 0, 0, 4, 0], new_tokens)
    rows = rows.replace(samples=rows.samples.replace(finished=jnp.arange(6) == 5))
    config = SampleConfig(new_tokens, temperature=0.0, stop_ids=(stop,))
    logits = jax.nn.one_hot(says, 10) * 20.0
    after = accept(rows, logits, proposals, None, config, np.array([stop]))
    # All three, of which the last ends the row; up to the wrong one; none; none; two up to the end
    # of what may be sampled; and nothing for a row that has ended.
    taken = [3, 2, 1, 1, 2, 0]
    assert (after.samples.lengths - rows.samples.lengths).tolist() == taken
    assert (after.cache.index - rows.cache.index).tolist() == taken
    assert after.samples.finished.tolist() == [True, False, False, False, False, True]
    for row, count in enumerate(taken):
        begin, index = int(rows.samples.lengths[row]), int(rows.cache.index[row])
        expected = says[row, :count].tolist()
        written = after.samples.tokens[row, begin:].tolist()
        assert written == expected + [0] * (new_tokens - begin - count)
        assert after.text[row, index + 1 : index + 1 + count].tolist() == expected
        assert set(after.text[row, index + 1 + count :].tolist()) == {STALE}
        assert np.all(np.asarray(after.samples.logprobs)[row, begin + count :] == 0)


def test_what_is_sampled_behind_proposals_follows_the_distribution():
    count, probs = 6000, np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    logits = jnp.broadcast_to(jnp.log(probs), (count, *probs.shape))
    config = SampleConfig(2)
    after = accept(
        *(rows_of(count, [0] * count, 2), logits, jnp.full((count, 1), 1), None),
        *(config, np.array([], np.int32)),
    )
    tokens = np.asarray(after.samples.tokens)
    first = np.bincount(tokens[:, 0], minlength=4)
    assert stats.chisquare(first, count * probs[0]).pvalue > 0.01
    # The second token is there where the first is the one that was proposed.
    second = tokens[np.asarray(after.samples.lengths) == 2]
    assert set(second[:, 0].tolist()) == {1} and len(second) == first[1]
    found = np.bincount(second[:, 1], minlength=4)
    assert stats.chisquare(found, len(second) * probs[1]).pvalue > 0.01
