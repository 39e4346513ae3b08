"""Learning rates at their key steps, what is decayed, and the value head's own optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax.config import OptimConfig
from tl_jax.errors import ConfigError
from tl_jax.train import optimizer as optim


def config(**changes):
    return OptimConfig(**{"learning_rate": 1e-3, "warmup_steps": 10, **changes})


def test_cosine_rises_to_the_peak_and_falls_to_its_fraction():
    schedule = optim.make_schedule(config(final_fraction=0.1), 110)
    found = [float(schedule(step)) for step in (0, 5, 10, 60, 110, 500)]
    np.testing.assert_allclose(found, [0, 5e-4, 1e-3, 5.5e-4, 1e-4, 1e-4], rtol=1e-5)


def test_linear_rises_to_the_peak_and_falls_by_the_same_in_each_step():
    schedule = optim.make_schedule(config(schedule="linear", final_fraction=0.1), 110)
    found = [float(schedule(step)) for step in (0, 5, 10, 35, 60, 110, 500)]
    np.testing.assert_allclose(found, [0, 5e-4, 1e-3, 7.75e-4, 5.5e-4, 1e-4, 1e-4], rtol=1e-5)


def test_constant_rises_to_the_peak_and_stays():
    schedule = optim.make_schedule(config(schedule="constant"), 110)
    found = [float(schedule(step)) for step in (0, 5, 10, 60, 500)]
    np.testing.assert_allclose(found, [0, 5e-4, 1e-3, 1e-3, 1e-3], rtol=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_without_warm_up_the_first_step_has_the_peak(kind):
    schedule = optim.make_schedule(config(schedule=kind, warmup_steps=0), 110)
    np.testing.assert_allclose(float(schedule(0)), 1e-3, rtol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 9, 10])
def test_a_warm_up_that_does_not_end_before_the_phase_is_refused(steps, kind):
    with pytest.raises(ConfigError, match=f"warmup_steps 10 must be below the {steps} steps"):
        optim.make_schedule(config(schedule=kind), steps)
    optim.make_schedule(config(schedule=kind), 11)


@pytest.mark.parametrize(
    ("share", "steps", "rise"), [(0.08, 260, 20), (0.29, 100, 29), (0.1, 4, 0)]
)
def test_a_warm_up_below_one_is_a_share_of_the_phase(share, steps, rise):
    for kind in ("cosine", "linear", "constant"):
        found, given = (
            optim.make_schedule(config(schedule=kind, warmup_steps=warmup), steps)
            for warmup in (share, rise)
        )
        assert [found(at) for at in (0, 5, rise)] == [given(at) for at in (0, 5, rise)]


PARAMS = {
    "layers": {
        "attn_norm": {"scale": jnp.full((2, 4), 2.0)},
        "mlp": {"up": {"kernel": jnp.full((2, 4, 3), 2.0)}},
    },
    "embed": {"embedding": jnp.full((5, 4), 2.0)},
}
HEAD = {"value_head": {"kernel": jnp.full((4, 1), 2.0), "bias": jnp.full((1,), 2.0)}}

# A large eps makes AdamW's first step proportional to the gradient: -rate * gradient / eps.
LINEAR = {"warmup_steps": 0, "schedule": "constant", "eps": 1e3, "weight_decay": 0.0}


def first_update(optimizer, params, grads):
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return updates


def filled(params, value):
    return jax.tree.map(lambda x: jnp.full_like(x, value), params)


def test_scales_and_biases_are_not_decayed():
    settings = config(warmup_steps=0, schedule="constant", weight_decay=0.5)
    optimizer = optim.make_optimizer(settings, 10, value_learning_rate=1e-2)
    params = {**PARAMS, **HEAD}
    updates = first_update(optimizer, params, filled(params, 0.0))
    np.testing.assert_array_equal(updates["layers"]["attn_norm"]["scale"], 0)
    np.testing.assert_array_equal(updates["value_head"]["bias"], 0)
    for matrix in (updates["layers"]["mlp"]["up"]["kernel"], updates["embed"]["embedding"]):
        np.testing.assert_allclose(matrix, -1e-3 * 0.5 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(updates["value_head"]["kernel"], -1e-2 * 0.5 * 2.0, rtol=1e-5)


def test_the_value_head_has_its_own_rate():
    params = {**PARAMS, **HEAD}
    grads = filled(params, 0.01)
    kernels = []
    for rate in (1e-2, 4e-2):
        settings = config(**{**LINEAR, "warmup_steps": 5})
        optimizer = optim.make_optimizer(settings, 10, value_learning_rate=rate)
        updates = first_update(optimizer, params, grads)
        kernels.append(updates["value_head"]["kernel"])
        # The policy is still at the start of its warm-up.
        np.testing.assert_array_equal(updates["embed"]["embedding"], 0)
    np.testing.assert_allclose(kernels[0], -1e-2 * 0.01 / 1e3, rtol=1e-3)
    np.testing.assert_allclose(kernels[1], 4 * kernels[0], rtol=1e-5)


def test_the_value_head_is_clipped_apart_from_the_policy():
    params = {**PARAMS, **HEAD}
    optimizer = optim.make_optimizer(config(**LINEAR), 10, value_learning_rate=1e-3)
    grads = filled(params, 0.01)
    wild = {**grads, "value_head": filled(HEAD["value_head"], 1e4)}
    calm_updates = first_update(optimizer, params, grads)
    wild_updates = first_update(optimizer, params, wild)
    for name in PARAMS:
        jax.tree.map(np.testing.assert_array_equal, calm_updates[name], wild_updates[name])
    norm = np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(wild_updates["value_head"])))
    np.testing.assert_allclose(norm, 1e-3 * 1.0 / 1e3, rtol=1e-2)


def test_the_policy_is_clipped_by_its_global_norm():
    optimizer = optim.make_optimizer(config(**LINEAR, clip_norm=0.5), 10)
    updates = first_update(optimizer, PARAMS, filled(PARAMS, 30.0))
    norm = np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(updates)))
    np.testing.assert_allclose(norm, 1e-3 * 0.5 / 1e3, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_are_float32_and_have_the_shape_of_their_parameters(dtype):
    optimizer = optim.make_optimizer(config(), 20, value_learning_rate=1e-2)
    params = jax.tree.map(lambda x: x.astype(dtype), {**PARAMS, **HEAD})
    state = jax.eval_shape(optimizer.init, params)
    shapes = sorted(x.shape for x in jax.tree.leaves(state) if x.ndim)
    assert shapes == sorted(2 * [x.shape for x in jax.tree.leaves(params)])
    assert {x.dtype for x in jax.tree.leaves(state) if x.ndim} == {jnp.dtype("float32")}


def test_half_precision_parameters_are_updated_as_float32_ones_are():
    optimizer = optim.make_optimizer(config(warmup_steps=0), 20)
    whole = jax.tree.map(lambda x: x + 0.125, PARAMS)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), whole)
    states = [optimizer.init(whole), optimizer.init(half)]
    for size in (0.5, 0.25, -0.125):  # exact in bfloat16
        expected, states[0] = optimizer.update(filled(whole, size), states[0], whole)
        found, states[1] = optimizer.update(filled(half, size), states[1], half)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    rounded = optax.apply_updates(half, found)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.bfloat16)}


def moments_of(state):
    adam = optax.tree.get_all_with_path(state, "mu") + optax.tree.get_all_with_path(state, "nu")
    return jax.tree.leaves([tree for _, tree in adam])


def test_moments_in_half_the_memory_follow_those_in_float32():
    def run(moments, steps=40):
        optimizer = optim.make_optimizer(
            config(moments=moments, warmup_steps=0, schedule="constant", clip_norm=100.0), steps
        )
        params, state = PARAMS, optimizer.init(PARAMS)
        rng = np.random.default_rng(0)
        step = jax.jit(optimizer.update)
        for number in range(steps):
            # Late gradients are small, so that second moments have to come down again.
            size = 1.0 if number < 10 else 0.1
            grads = jax.tree.map(
                lambda x, s=size: np.float32(s * (1 + rng.random(x.shape))), params
            )
            updates, state = step(grads, state, params)
            params = optax.apply_updates(params, updates)
        return updates, moments_of(state)

    wide, exact = run("float32")
    narrow, rounded = run("bfloat16")
    assert {leaf.dtype.name for leaf in exact} == {"float32"}
    assert {leaf.dtype.name for leaf in rounded} == {"bfloat16"}
    assert len(exact) == len(rounded) == 2 * len(jax.tree.leaves(PARAMS))
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0.05)
    for a, b in zip(exact, rounded, strict=True):
        np.testing.assert_allclose(a, b.astype(jnp.float32), rtol=0.1)


def test_second_moments_that_bfloat16_would_hold_fast_are_refused():
    with pytest.raises(ConfigError, match="optim.b2 0.999.*at most 0.99"):
        optim.make_optimizer(config(moments="bfloat16", b2=0.999), 20)


def test_half_precision_parameters_move_by_their_updates_on_average():
    """To the nearest number none of them would move at all."""
    start = jnp.asarray(np.linspace(-3, 3, 3000), jnp.bfloat16)
    params = {"a": start, "b": start[::-1], "wide": jnp.ones(3)}
    updates = jax.tree.map(lambda x: jnp.full(x.shape, 1e-4), params)
    apply = jax.jit(optim.apply_updates)
    moved = params
    for step in range(50):
        moved = apply(moved, updates, jnp.int32(step))
    assert moved["a"].dtype == jnp.bfloat16 and moved["wide"].dtype == jnp.float32
    np.testing.assert_allclose(moved["wide"], 1.005, rtol=1e-6)
    for name in ("a", "b"):
        way = (moved[name].astype(jnp.float32) - params[name].astype(jnp.float32)).mean()
        # The standard error of the mean is about 1 % of it.
        np.testing.assert_allclose(way, 0.005, rtol=0.06)
    assert (moved["a"] != moved["b"][::-1]).any(), "no two parameters share their chances"
    same = apply(params, jax.tree.map(jnp.zeros_like, updates), jnp.int32(7))
    assert all((same[name] == params[name]).all() for name in params)
