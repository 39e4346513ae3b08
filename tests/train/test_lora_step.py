"""The train step with adapters: the gradient of the merged model, of the adapters alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, OptimConfig
from tl_jax.convert import names
from tl_jax.models import functional, lora
from tl_jax.parallel import mesh as mesh_lib
from tl_jax.parallel import sharding
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch, Rollout

LORA = LoraConfig(rank=4, alpha=8.0)
BASE = ModelConfig(
    vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=80
)
MODEL = dataclasses.replace(BASE, lora=LORA)
# Supervised and reward training at once.
LOSS = step_lib.LossConfig(
    ce_coef=0.5, reward_coef=1.0, value_coef=0.5, ce_chunk=0, kl_estimator="k3"
)
KL_COEF = 0.3


@pytest.fixture(scope="module")
def params():
    """Trained adapters, so that both factors have a gradient, and a value head."""
    init = jax.jit(lambda key: functional.init(MODEL, key, value_head=True))
    fresh = init(jax.random.key(0))
    rng = np.random.default_rng(0)
    for path, leaf in names.flatten(lora.split(fresh, LORA)[0]):
        module = fresh
        for key in path[:-1]:
            module = module[key]
        module[path[-1]] = leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.1, jnp.float32)
    return fresh


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    shape = (8, 12)
    tokens = rng.integers(0, 64, (2, *shape)).astype(np.int32)
    noise = rng.normal(size=(5, *shape)).astype(np.float32)
    mask = (rng.random(shape) < 0.5).astype(np.float32)
    rollout = Rollout(mask, noise[0] * 0.1 - 4, *noise[1:4], noise[4] * 0.1 - 4)
    positions = np.tile(np.arange(12, dtype=np.int32), (8, 1))
    weights = rng.choice([0.0, 1.0, 9.0], shape).astype(np.float32)
    until = np.full(shape, shape[1], np.int32)
    return jax.device_put(Batch(*tokens, weights, positions, until, rollout))


# Leaves the parameters alone and keeps the gradient as its state.
KEEPER = optax.GradientTransformation(
    lambda params: params, lambda grads, _, params: (jax.tree.map(jnp.zeros_like, grads), grads)
)


def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def merged(trained, frozen):
    """The plain model with the same effect, made so that gradients reach the factors."""
    leaves = dict(names.flatten(frozen))
    factors = dict(names.flatten(trained))
    for path, a in factors.items():
        if path[-1] == lora.A:
            product = jnp.einsum("lir,lro->lio", a, factors[(*path[:-1], lora.B)])
            leaves[(*path[:-1], "kernel")] += product * lora.scale(LORA)
    plain = names.unflatten(leaves)
    return {**plain, "value_head": trained["value_head"]}


def test_the_gradient_is_that_of_the_merged_model(params, batch):
    trained, frozen = lora.split(params, LORA)

    def objective(trained):
        weight, sampled = step_lib.denominators(batch, LOSS)
        sums = step_lib.loss_sums(merged(trained, frozen), batch, BASE, LOSS)
        reward = sums["policy"] + KL_COEF * sums["kl_loss"]
        return 0.5 * sums["ce"] / weight + (reward + 0.5 * sums["value"]) / sampled

    expected_loss, expected = jax.jit(jax.value_and_grad(objective))(trained)
    step = jax.jit(step_lib.make_train_step(MODEL, LOSS, KEEPER))
    state, metrics = step(step_lib.init_state(trained, KEEPER, kl_coef=KL_COEF), batch, frozen)
    assert float(metrics.loss) == pytest.approx(float(expected_loss), rel=1e-5)
    for (path, found), (_, wanted) in zip(
        names.flatten(state.opt_state), names.flatten(expected), strict=True
    ):
        assert np.any(wanted), path
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=str(path))


def test_no_gradient_and_no_moment_of_a_frozen_parameter_exists(params, batch):
    trained, frozen = lora.split(params, LORA)
    optimizer = optim.make_optimizer(OptimConfig(), 20, value_learning_rate=1e-2)
    state = step_lib.init_state(trained, optimizer, kl_coef=KL_COEF)
    held = {leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim}
    assert held == {leaf.shape for leaf in jax.tree.leaves(trained)}
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert moments == 2 * sum(leaf.size for leaf in jax.tree.leaves(trained))

    kernels = {leaf.shape[-2:] for path, leaf in names.flatten(frozen) if path[-1] == "kernel"} | {
        frozen["embed"]["embedding"].shape
    }
    step = step_lib.make_train_step(MODEL, LOSS, optimizer)
    assert not kernels & products(jax.make_jaxpr(step)(state, batch, frozen).jaxpr)
    whole_model = step_lib.make_train_step(BASE, LOSS, optimizer)
    plain = {**frozen, "value_head": trained["value_head"]}
    whole = jax.make_jaxpr(whole_model)(
        step_lib.init_state(plain, optimizer, kl_coef=KL_COEF), batch
    )
    assert len(kernels & products(whole.jaxpr)) == len(kernels)


def products(jaxpr):
    """Shapes of the results of all matrix products, in either order."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shape = equation.outvars[0].aval.shape
            found |= {shape, shape[::-1]}
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    found |= products(inner)
    return found


OPTIM = OptimConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant", eps=1e-3)


def trained_for(params, batch, *, mesh=None, accumulation=1):
    trained, frozen = lora.split(params, LORA)
    trained = {"layers": trained["layers"]}
    optimizer = optim.make_optimizer(OPTIM, 10)
    loss = step_lib.LossConfig(ce_chunk=0)
    step = step_lib.make_train_step(MODEL, loss, optimizer, accumulation=accumulation)
    state = step_lib.init_state(copied(trained), optimizer)
    if mesh is None:
        jitted = jax.jit(step, donate_argnums=0)
        for _ in range(2):
            state, _ = jitted(state, batch, frozen)
        return state
    declared = functional.abstract_params(MODEL)
    declared_trained, declared_frozen = lora.split(declared, LORA)
    layout = step_lib.state_shardings(state, declared_trained, mesh)
    rows = jax.tree.map(lambda _: sharding.batch_sharding(mesh), batch)
    with jax.set_mesh(mesh):
        frozen = jax.device_put(frozen, sharding.param_shardings(declared_frozen, mesh))
        before = buffers(frozen)
        jitted = step_lib.jit_train_step(step, layout, rows, frozen)
        state, batch = jax.device_put(state, layout), jax.device_put(batch, rows)
        for _ in range(2):
            state, _ = jitted(state, batch, frozen)
    assert jitted._cache_size() == 1
    assert buffers(frozen) == before
    assert jax.tree.map(lambda x: x.sharding, state.params) == layout.params
    return state


def buffers(tree):
    """Where the values lie; reading a donated array would fail."""
    return [
        s.data.unsafe_buffer_pointer() for x in jax.tree.leaves(tree) for s in x.addressable_shards
    ]


def test_a_step_depends_neither_on_the_mesh_nor_on_micro_batches(params, batch):
    alone = trained_for(params, batch)
    mesh = mesh_lib.make_mesh(MeshConfig(2, 2, 2))
    again = trained_for(params, batch, mesh=mesh, accumulation=2)
    for (path, one), (_, other) in zip(
        names.flatten(alone.params), names.flatten(again.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5, err_msg=str(path))
    start = {"layers": lora.split(params, LORA)[0]["layers"]}
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), start, alone.params)))


def test_what_is_kept_for_the_backward_pass_does_not_grow_by_what_adapters_add(params, batch):
    trained, frozen = lora.split(params, LORA)

    def kept(model, *trees):
        def loss(trained, *rest):
            whole = lora.joined(trained, *rest) if rest else trained
            return step_lib.loss_sums(whole, batch, model, step_lib.LossConfig(ce_chunk=0))["ce"]

        _, pullback = jax.eval_shape(lambda *p: jax.vjp(loss, *p), *trees)
        # Per layer and token: activations are told from parameters by their rows.
        return sum(x.size for x in jax.tree.leaves(pullback) if x.shape[:3] == (2, 8, 12))

    plain = {**frozen, "value_head": trained["value_head"]}
    assert 0 < kept(MODEL, trained, frozen) <= kept(BASE, plain)
