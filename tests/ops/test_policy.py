"""Properties of the policy-gradient arithmetic, with hand-computed and reference numbers."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax.ops import policy

GOLDEN = os.environ.get("TL_JAX_GOLDEN")
CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def random_case(seed=0, rows=3, length=7):
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows, length), np.float32)
    for row, (start, stop) in enumerate([(1, 5), (2, 3), (0, 7)][:rows]):
        mask[row, start:stop] = 1
    names = ("new", "old", "ref", "values", "old_values")
    arrays = {name: rng.normal(size=(rows, length)).astype(np.float32) for name in names}
    return arrays | {"scores": np.array([1.0, -0.25, -1.3], np.float32)[:rows], "mask": mask}


def advantages_of(case, kl_coef=0.1):
    rewards = policy.token_rewards(
        case["scores"], case["old"], case["ref"], case["mask"], kl_coef=kl_coef, reward_clip=5.0
    )
    return policy.gae(rewards, case["old_values"], case["mask"], gamma=0.9, lam=0.8)


def total_loss(new, values, case, whiten=True):
    advantages, returns = advantages_of(case)
    if whiten:
        advantages = policy.whiten(advantages, case["mask"])
    actor, _ = policy.clipped_policy_loss(new, case["old"], advantages, case["mask"], **CLIP)
    critic = policy.clipped_value_loss(values, case["old_values"], returns, case["mask"], clip=0.2)
    return (actor + critic) / case["mask"].sum()


@pytest.mark.skipif(not GOLDEN, reason="set TL_JAX_GOLDEN to the folder of golden files")
@pytest.mark.parametrize("switch", ["reward_last_token=1", "reward_last_token=0"])
def test_reference_numbers_are_reproduced(switch):
    case = json.loads((pathlib.Path(GOLDEN) / "ppo_cases.json").read_text())
    expected = case["expected"][switch]
    start = expected["start"]
    old, ref, old_values, new, values = (
        np.array(case[name], np.float32)
        for name in ("old_logprobs", "ref_logprobs", "old_values", "new_logprobs", "new_values")
    )
    # The published code rewards up to `ends`, which with the switch off is one entry more than
    # the tokens that are trained.
    rewarded, trained = np.zeros_like(old), np.zeros_like(old)
    for row, end in enumerate(expected["ends"]):
        rewarded[row, start:end] = 1
    trained[:, start:] = expected["action_mask"]

    scores = np.array(case["reward_scores"], np.float32)
    rewards = policy.token_rewards(
        scores, old, ref, rewarded, kl_coef=case["kl_coef"], reward_clip=case["reward_clip"]
    )
    advantages, returns = policy.gae(
        rewards, old_values, rewarded, gamma=case["gamma"], lam=case["lam"]
    )
    actor, _ = policy.clipped_policy_loss(
        new, old, advantages, trained, clip_low=case["clip"], clip_high=case["clip"]
    )
    critic = policy.clipped_value_loss(
        values, old_values, returns, trained, clip=case["value_clip"]
    )
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(rewards[:, start:], expected["token_rewards"], **close)
    np.testing.assert_allclose(advantages[:, start:], expected["advantages"], **close)
    np.testing.assert_allclose(returns[:, start:], expected["returns"], **close)
    np.testing.assert_allclose(actor / trained.sum(), expected["actor_loss"], **close)
    np.testing.assert_allclose(critic / trained.sum(), expected["critic_loss"], **close)


def test_gae_equals_three_tokens_by_hand():
    # gamma 0.5, lambda 0.5: d3 = 2-0.4, d2 = 0+0.2-0.3, d1 = 1+0.15-0.2
    rewards, values = jnp.array([[1.0, 0.0, 2.0]]), jnp.array([[0.2, 0.3, 0.4]])
    advantages, returns = policy.gae(rewards, values, jnp.ones((1, 3)), gamma=0.5, lam=0.5)
    np.testing.assert_allclose(advantages, [[0.95 + 0.25 * 0.3, -0.1 + 0.25 * 1.6, 1.6]], rtol=1e-6)
    np.testing.assert_allclose(returns, [[1.225, 0.6, 2.0]], rtol=1e-6)


def test_gae_passes_over_masked_positions():
    rewards, values = jnp.array([[1.0, 0.0, 2.0]]), jnp.array([[0.2, 0.3, 0.4]])
    dense, _ = policy.gae(rewards, values, jnp.ones((1, 3)), gamma=0.5, lam=0.5)
    keep = jnp.array([1, 3, 6])
    spread = lambda x: jnp.full((1, 8), 9.0).at[:, keep].set(x)  # noqa: E731
    mask = jnp.zeros((1, 8)).at[:, keep].set(1)
    sparse, returns = policy.gae(spread(rewards), spread(values), mask, gamma=0.5, lam=0.5)
    np.testing.assert_array_equal(sparse[:, keep], dense)
    assert not np.any(np.asarray(sparse + returns)[mask == 0])


@pytest.mark.parametrize("left,right", [(0, 7), (5, 0), (3, 64)])
def test_padding_changes_nothing(left, right):
    case = random_case()
    padded = {
        name: value if name == "scores" else np.pad(value, ((0, 0), (left, right)))
        for name, value in case.items()
    }
    plain = total_loss(case["new"], case["values"], case)
    np.testing.assert_allclose(
        total_loss(padded["new"], padded["values"], padded), plain, rtol=1e-6
    )


@pytest.mark.parametrize("junk", [3.0, 1e30, np.nan, -np.inf])
def test_masked_entries_change_neither_loss_nor_gradient(junk):
    case = random_case()
    dirty = {
        name: value if name in ("scores", "mask") else np.where(case["mask"] > 0, value, junk)
        for name, value in case.items()
    }
    step = jax.value_and_grad(total_loss, argnums=(0, 1))
    loss, grads = step(case["new"], case["values"], case)
    dirty_loss, dirty_grads = step(dirty["new"], dirty["values"], dirty)
    assert loss == dirty_loss
    for clean, other in zip(grads, dirty_grads, strict=True):
        np.testing.assert_array_equal(clean, other)
        assert not np.any(np.asarray(clean)[case["mask"] == 0])


def test_rows_without_tokens_give_finite_zeros():
    case = random_case()
    case["mask"] = np.zeros_like(case["mask"])
    advantages, returns = advantages_of(case)
    whitened = policy.whiten(advantages, case["mask"])
    actor, stats = policy.clipped_policy_loss(
        case["new"], case["old"], whitened, case["mask"], **CLIP
    )
    for value in (advantages, returns, whitened, actor, *stats.values()):
        np.testing.assert_array_equal(value, np.zeros_like(value))


def test_equal_policies_have_zero_kl_and_ratio_one():
    case = random_case()
    for estimate in policy.kl_estimates(case["old"], case["old"]):
        np.testing.assert_array_equal(estimate, np.zeros_like(case["old"]))
    advantages, _ = advantages_of(case)
    loss, stats = policy.clipped_policy_loss(
        case["old"], case["old"], advantages, case["mask"], **CLIP
    )
    np.testing.assert_allclose(loss, -advantages.sum(), rtol=1e-6)
    assert stats["ratio"] == case["mask"].sum()
    assert {float(stats[name]) for name in ("clipped", "approx_kl", "max_abs_log_ratio")} == {0.0}


def test_kl_estimates_agree_with_the_exact_divergence():
    p, q = np.array([0.5, 0.3, 0.2], np.float32), np.array([0.4, 0.4, 0.2], np.float32)
    exact = float((p * np.log(p / q)).sum())
    k1, k2, k3 = policy.kl_estimates(jnp.log(p), jnp.log(q))
    np.testing.assert_allclose((p * k1).sum(), exact, rtol=1e-5)
    np.testing.assert_allclose((p * k3).sum(), exact, rtol=1e-5)
    np.testing.assert_allclose((p * k2).sum(), exact, rtol=0.2)
    assert np.all(np.asarray(k3) >= 0)


@pytest.mark.parametrize("gap", [-1e4, -50.0, 50.0, 1e4])
def test_k3_and_the_ratio_survive_huge_log_ratios(gap):
    k3 = lambda x: policy.kl_estimates(x, jnp.float32(0.0))[2]  # noqa: E731
    surrogate = lambda x: policy.clipped_policy_loss(  # noqa: E731
        x[None, None], jnp.zeros((1, 1)), -jnp.ones((1, 1)), jnp.ones((1, 1)), **CLIP
    )[0]
    for function in (k3, surrogate):
        value, grad = jax.value_and_grad(function)(jnp.float32(gap))
        assert np.isfinite(value) and np.isfinite(grad)


@pytest.mark.parametrize("score", [1.0, -0.25, -0.5, -0.8, -1.0, -1.3, -1.5, -1.8, -2.0])
def test_fractional_scores_survive_in_float32(score):
    half = jnp.zeros((1, 3), jnp.bfloat16)
    rewards = policy.token_rewards(
        np.array([score], np.float32),
        half,
        half,
        jnp.array([[1, 1, 0]]),
        kl_coef=0.1,
        reward_clip=5,
    )
    assert rewards.dtype == jnp.float32
    np.testing.assert_array_equal(rewards, np.array([[0, score, 0]], np.float32))


def test_scores_are_clipped_and_kl_is_charged_at_every_sampled_token():
    rewards = policy.token_rewards(
        jnp.array([9.0]),
        jnp.array([[0.0, -1.0, -1.0]]),
        jnp.array([[0.0, -2.0, -3.0]]),
        jnp.array([[0.0, 1.0, 1.0]]),
        kl_coef=0.5,
        reward_clip=2.0,
    )
    np.testing.assert_allclose(rewards, [[0.0, -0.5, 1.0]])


def test_whitening_is_over_the_whole_array_and_guards_a_single_entry():
    case = random_case()
    white = np.asarray(policy.whiten(case["new"], case["mask"]))
    kept = white[case["mask"] > 0]
    np.testing.assert_allclose([kept.mean(), kept.var()], [0, 1], atol=1e-5)
    assert not white[case["mask"] == 0].any()
    order = np.argsort(case["new"][case["mask"] > 0])
    np.testing.assert_array_equal(order, np.argsort(kept))
    np.testing.assert_array_equal(policy.whiten(jnp.array([[3.0]]), jnp.ones((1, 1))), [[0.0]])


@pytest.mark.parametrize("advantage,log_ratio,clipped", [(1, 0.5, 1), (1, -0.5, 0), (-1, -0.5, 1)])
def test_the_clip_stops_the_gradient_only_where_it_would_go_too_far(advantage, log_ratio, clipped):
    new, one = jnp.array([[log_ratio]]), jnp.ones((1, 1))
    loss = lambda x: policy.clipped_policy_loss(  # noqa: E731
        x, 0 * one, advantage * one, one, **CLIP
    )
    grad, stats = jax.grad(loss, has_aux=True)(new)
    assert stats["clipped"] == clipped
    assert (float(grad[0, 0]) == 0.0) == bool(clipped)
    np.testing.assert_allclose(stats["max_abs_log_ratio"], abs(log_ratio))


def surrogate(advantage, log_ratio, **clips):
    one = jnp.ones((1, 1))
    loss = lambda x: policy.clipped_policy_loss(  # noqa: E731
        x, 0 * one, advantage * one, one, **(CLIP | clips)
    )
    (value, stats), grad = jax.value_and_grad(loss, has_aux=True)(log_ratio * one)
    return float(value), float(grad[0, 0]), float(stats["clipped"])


def test_low_and_high_clip_bound_their_own_side():
    assert surrogate(1, 0.3, clip_high=0.2)[1] == 0 != surrogate(1, 0.3, clip_high=0.4)[1]
    assert surrogate(-1, -0.3, clip_low=0.2)[1] == 0 != surrogate(-1, -0.3, clip_low=0.4)[1]
    assert surrogate(1, 0.3, clip_low=0.9) == surrogate(1, 0.3)
    assert surrogate(-1, -0.3, clip_high=0.9) == surrogate(-1, -0.3)


def test_the_dual_clip_bounds_the_loss_of_negative_advantages_only():
    value, grad, clipped = surrogate(-1, 2.0, dual_clip=3.0)
    assert (value, grad, clipped) == (3.0, 0.0, 1.0)
    assert surrogate(-1, 2.0)[0] > 3.0 and surrogate(-1, 2.0)[1] != 0
    assert surrogate(-1, 0.5, dual_clip=3.0) == surrogate(-1, 0.5)
    assert surrogate(1, 2.0, dual_clip=3.0) == surrogate(1, 2.0)


def test_a_sequence_mean_gives_every_sample_the_same_weight():
    mask = random_case()["mask"]
    np.testing.assert_allclose(policy.loss_weights(mask, "sequence_mean").sum(axis=1), np.ones(3))
    np.testing.assert_array_equal(policy.loss_weights(mask, "token_mean"), mask)
    assert not policy.loss_weights(0 * mask, "sequence_mean").any()
    with pytest.raises(ValueError, match="unknown aggregation 'mean'"):
        policy.loss_weights(mask, "mean")


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_a_divergence_loss_pulls_to_the_reference_and_is_zero_there(estimator):
    case = random_case()
    loss = lambda new: policy.kl_loss(  # noqa: E731
        new, case["ref"], case["mask"], estimator=estimator
    )
    value, grad = jax.value_and_grad(loss)(jnp.asarray(case["ref"]))
    assert value == 0 and not np.any(grad)
    grad = jax.grad(loss)(jnp.asarray(case["new"]))
    towards = np.sign(case["new"] - case["ref"]) * case["mask"]
    np.testing.assert_array_equal(np.sign(grad), towards)


def test_the_gradient_of_k2_is_that_of_the_divergence():
    logits, ref = jnp.array([0.3, -0.2, 0.8]), jax.nn.log_softmax(jnp.array([0.1, 0.5, -0.4]))

    def exact(x):
        logprobs = jax.nn.log_softmax(x)
        return jnp.sum(jnp.exp(logprobs) * (logprobs - ref))

    def sampled(x):  # every arm once, weighed by how often the policy would sample it
        weights = jax.lax.stop_gradient(jax.nn.softmax(x))
        return policy.kl_loss(jax.nn.log_softmax(x), ref, weights, estimator="k2")

    np.testing.assert_allclose(jax.grad(sampled)(logits), jax.grad(exact)(logits), rtol=1e-5)


def test_group_baselines_by_hand():
    returns, kept = jnp.array([1.0, -1.0, 3.0, 2.0, 2.0, 2.0]), jnp.ones(6, bool)
    compare = lambda **kind: policy.group_advantages(returns, kept, 3, **kind)  # noqa: E731
    plain = compare(leave_one_out=False)
    np.testing.assert_allclose(plain, [0, -2, 2, 0, 0, 0], atol=1e-6)
    # The others of 3.0 have the mean 0.
    left = compare(leave_one_out=True)
    np.testing.assert_allclose(left, [0, -3, 3, 0, 0, 0], atol=1e-6)
    scaled = compare(leave_one_out=False, scale_by_B=returns)
    np.testing.assert_allclose(scaled[:3].var(), 1.0, rtol=1e-4)
    # A group whose rewards agree keeps what else differs at its size.
    scaled = compare(leave_one_out=False, scale_by_B=jnp.array([0.1] * 3 + [1.0, 0.0, 0.0]))
    np.testing.assert_allclose(scaled[:3], plain[:3], atol=1e-6)


def test_samples_left_out_change_no_group_baseline():
    kept = jnp.array([True, False, True, True, False, False])
    for junk in (0.0, 50.0):
        returns = jnp.array([1.0, junk, 3.0, 2.0, junk, junk])
        found = policy.group_advantages(returns, kept, 3, leave_one_out=True)
        np.testing.assert_allclose(found, [-2, 0, 2, 0, 0, 0], atol=1e-6)


def test_values_outside_the_clip_range_keep_the_larger_error():
    one = jnp.ones((1, 1))
    loss = lambda v: policy.clipped_value_loss(v * one, 0 * one, one, one, clip=0.2)  # noqa: E731
    np.testing.assert_allclose(loss(0.9), 0.5 * 0.8**2, rtol=1e-6)
    np.testing.assert_allclose(loss(0.1), 0.5 * 0.9**2, rtol=1e-6)
    assert jax.grad(loss)(0.9) == 0.0


def test_ppo_solves_a_contextual_bandit():
    contexts, arms, rows = 4, 3, 64
    best = jnp.array([2, 0, 1, 2])
    optimiser = optax.adam(0.05)

    def loss_fn(params, context, arm, old, advantages, returns, old_values):
        logprobs = jax.nn.log_softmax(params["logits"][context])
        new = jnp.take_along_axis(logprobs, arm[:, None], axis=1)
        mask = jnp.ones_like(new)
        actor, stats = policy.clipped_policy_loss(new, old, advantages, mask, **CLIP)
        values = params["values"][context][:, None]
        critic = policy.clipped_value_loss(values, old_values, returns, mask, clip=0.2)
        return (actor + critic) / mask.sum(), stats

    @jax.jit
    def iterate(params, opt_state, key):
        context_key, arm_key = jax.random.split(key)
        context = jax.random.randint(context_key, (rows,), 0, contexts)
        logprobs = jax.nn.log_softmax(params["logits"][context])
        arm = jax.random.categorical(arm_key, logprobs)
        old = jnp.take_along_axis(logprobs, arm[:, None], axis=1)
        score = jnp.where(arm == best[context], 1.0, -0.25)
        mask = jnp.ones_like(old)
        rewards = policy.token_rewards(
            score, old, jnp.full_like(old, -jnp.log(arms)), mask, kl_coef=0.01, reward_clip=5.0
        )
        old_values = params["values"][context][:, None]
        advantages, returns = policy.gae(rewards, old_values, mask, gamma=1.0, lam=0.95)
        advantages = policy.whiten(advantages, mask)
        for _ in range(2):
            grads, _ = jax.grad(loss_fn, has_aux=True)(
                params, context, arm, old, advantages, returns, old_values
            )
            updates, opt_state = optimiser.update(grads, opt_state)
            params = optax.apply_updates(params, updates)
        return params, opt_state, jnp.mean(score)

    params = {"logits": jnp.zeros((contexts, arms)), "values": jnp.zeros(contexts)}
    opt_state = optimiser.init(params)
    for step in range(150):
        params, opt_state, reward = iterate(params, opt_state, jax.random.key(step))
    right = jax.nn.softmax(params["logits"])[jnp.arange(contexts), best]
    assert reward > 0.95
    assert float(right.min()) > 0.95
