"""Properties of the fields that the losses read."""

import numpy as np
import pytest

from tl_jax.rl import advantages

SETTINGS = {"kl_coef": 0.1, "reward_clip": 5.0, "gamma": 0.9, "gae_lambda": 0.8, "whiten": True}


def estimate(**changes):
    rng = np.random.default_rng(0)
    old, ref, values = rng.normal(size=(3, 2, 6)).astype(np.float32)
    mask = np.array([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], np.float32)
    scores = np.array([1.0, -0.25], np.float32)
    return advantages.estimate(scores, old, ref, values, mask, **(SETTINGS | changes))


def test_whitening_changes_advantages_and_leaves_returns():
    white, plain = estimate(), estimate(whiten=False)
    mask = np.asarray(white.weights) > 0
    kept = np.asarray(white.advantages)[mask]
    np.testing.assert_allclose([kept.mean(), kept.var()], [0, 1], atol=1e-5)
    np.testing.assert_array_equal(white.returns, plain.returns)
    np.testing.assert_allclose(plain.returns, plain.advantages + plain.old_values, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"kl_coef": 0.3}, {"reward_clip": 0.5}, {"gamma": 0.5}, {"gae_lambda": 0.1}],
)
def test_every_setting_changes_the_returns(change):
    assert np.abs(estimate(**change).returns - estimate().returns).max() > 1e-3


def test_a_sequence_mean_weighs_every_sample_alike_and_changes_nothing_else():
    tokens, sequences = estimate(), estimate(aggregation="sequence_mean")
    np.testing.assert_allclose(np.sum(sequences.weights, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(np.unique(tokens.weights), [0, 1])
    np.testing.assert_array_equal(sequences.returns, tokens.returns)
    found = [float(advantages.explained_variance(each)) for each in (tokens, sequences)]
    assert found[0] == found[1]


def test_settings_do_not_recompile():
    estimate()
    compiled = advantages.estimate._cache_size()
    estimate(kl_coef=0.7, gamma=0.3)
    assert advantages.estimate._cache_size() == compiled


def test_explained_variance_is_one_for_a_perfect_critic_and_zero_for_a_constant_one():
    rollout = estimate()
    perfect = rollout.replace(old_values=rollout.returns)
    constant = rollout.replace(old_values=3.0 * rollout.weights)
    flat = rollout.replace(returns=rollout.weights)
    np.testing.assert_allclose(advantages.explained_variance(perfect), 1.0, atol=1e-6)
    np.testing.assert_allclose(advantages.explained_variance(constant), 0.0, atol=1e-5)
    assert advantages.explained_variance(flat) == 0.0


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_whitening_leaves_samples_of_one_reward_alone(method):
    """Two prompts with two samples each, of unequal lengths; those of the second agree."""
    mask = np.array([[0, 1, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]], np.float32)
    scores = np.array([1.0, -1.0, 0.5, 0.5], np.float32)
    zeros = np.zeros_like(mask)
    settings = SETTINGS | {"kl_coef": 0.0, "method": method, "group_size": 2}
    found = np.asarray(
        advantages.estimate(scores, zeros, zeros, zeros, mask, **settings).advantages
    )
    np.testing.assert_array_equal(found[2:], 0.0)
    sampled = found[mask > 0]
    assert (found[0, 1:] > 0).all() and found[1, 1] < 0
    np.testing.assert_allclose(np.var(sampled), 1.0, atol=1e-5)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.parametrize("scale_groups", [False, True])
@pytest.mark.parametrize("scores", [[1.0, 1.0, 0.1, 0.1], [1.0, -1.0, 0.1, 0.1]])
def test_the_price_of_divergence_is_not_blown_up_where_rewards_agree(method, scale_groups, scores):
    """Two prompts with two samples each; those of the second agree, in one case of both."""
    rng = np.random.default_rng(0)
    mask = np.ones((4, 3), np.float32)
    old = 0.01 * rng.normal(size=(4, 3)).astype(np.float32)
    zeros = np.zeros_like(mask)
    settings = SETTINGS | {"method": method, "group_size": 2, "scale_groups": scale_groups}
    scores = np.array(scores, np.float32)
    found = advantages.estimate(scores, old, zeros, zeros, mask, **settings).advantages
    assert 0 < np.abs(found[2:]).max() < 0.01
    assert np.abs(found[:2]).max() < 0.01 if scores[0] == scores[1] else (found[0] > 0.5).all()
