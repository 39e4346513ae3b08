"""The train step: one loss whatever the padding, packing, chunks, micro-batches or mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding

from tl_jax.aot import hlo
from tl_jax.config import MeshConfig, ModelConfig, OptimConfig, PpoConfig
from tl_jax.models import functional
from tl_jax.parallel import mesh as mesh_lib
from tl_jax.parallel import sharding
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch, Rollout

MODEL = ModelConfig(
    vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64
)
SFT = step_lib.LossConfig(ce_chunk=0)
LENGTHS = (5, 9, 7, 12, 4, 8, 11, 6)


@pytest.fixture(scope="module")
def params():
    return functional.init(MODEL, jax.random.key(0), value_head=True)


def samples():
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 64, n), rng.integers(0, 64, n), rng.choice([0.0, 1.0, 9.0], n))
        for n in LENGTHS
    ]


def rows_of(groups, length):
    """One row per group of samples, one sample behind the other."""
    shape = (len(groups), length)
    out = {
        "tokens": np.zeros(shape, np.int32),
        "targets": np.zeros(shape, np.int32),
        "weights": np.zeros(shape, np.float32),
        "positions": np.zeros(shape, np.int32),
        "visible_until": np.zeros(shape, np.int32),
    }
    for row, group in enumerate(groups):
        at = 0
        for tokens, targets, weights in group:
            end = at + len(tokens)
            out["tokens"][row, at:end] = tokens
            out["targets"][row, at:end] = targets
            out["weights"][row, at:end] = weights
            out["positions"][row, at:end] = np.arange(len(tokens))
            out["visible_until"][row, at:end] = end
            at = end
    return Batch(**{key: jnp.asarray(value) for key, value in out.items()})


def one_per_row(length=16):
    return rows_of([[s] for s in samples()], length)


def packed():
    """Four rows of 32 tokens."""
    s = samples()
    return rows_of([[s[0], s[1]], [s[2], s[3], s[4]], [s[5], s[6]], [s[7]]], 32)


def reward_batch(batch=None):
    batch = one_per_row() if batch is None else batch
    rng = np.random.default_rng(1)
    noise = [jnp.asarray(rng.normal(size=batch.tokens.shape), jnp.float32) for _ in range(5)]
    mask = (batch.visible_until > 0) & (batch.positions >= 2)
    weights = jnp.where(mask, 1 / (1 + batch.positions % 3), 0.0).astype(jnp.float32)
    return batch.replace(
        rollout=Rollout(weights, noise[0] * 0.1 - 4, *noise[1:4], noise[4] * 0.1 - 4)
    )


def loss_and_grads(params, batch, loss=SFT, model=MODEL):
    def objective(p):
        totals = step_lib.denominators(batch, loss)
        sums = step_lib.loss_sums(p, batch, model, loss)
        return sums["ce"] / totals[0]

    return jax.jit(jax.value_and_grad(objective))(params)


def assert_close(a, b, rtol=2e-4, atol=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_loss_and_gradient_do_not_depend_on_padding(params):
    assert_close(loss_and_grads(params, one_per_row(16)), loss_and_grads(params, one_per_row(23)))


def test_loss_and_gradient_do_not_depend_on_packing(params):
    assert_close(loss_and_grads(params, one_per_row()), loss_and_grads(params, packed()))


@pytest.mark.parametrize("chunk", [5, 8])
def test_loss_and_gradient_do_not_depend_on_the_chunk(params, chunk):
    chunked = step_lib.LossConfig(ce_chunk=chunk)
    whole = loss_and_grads(params, one_per_row())
    assert_close(whole, loss_and_grads(params, one_per_row(), chunked))


@pytest.mark.parametrize(
    "change",
    [{"remat": name} for name in ("none", "qkv", "full", "attention_offload")]
    + [{"attention": "dense"}],
)
def test_remat_and_attention_chunks_change_nothing(params, change):
    model = dataclasses.replace(MODEL, **change)
    assert_close(
        loss_and_grads(params, one_per_row()), loss_and_grads(params, one_per_row(), model=model)
    )


def run_step(params, batch, loss, mesh_sizes=None, accumulation=1, steps=2):
    config = OptimConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant", eps=1e-3)
    optimizer = optim.make_optimizer(config, 10, value_learning_rate=1e-2)
    step = step_lib.make_train_step(MODEL, loss, optimizer, accumulation=accumulation)
    state = step_lib.init_state(jax.tree.map(jnp.copy, params), optimizer, kl_coef=KL_COEF)
    if mesh_sizes is None:
        jitted = jax.jit(step, donate_argnums=0)
        for _ in range(steps):
            state, metrics = jitted(state, batch)
        return state, metrics, jitted
    config = MeshConfig(*mesh_sizes)
    mesh = mesh_lib.make_mesh(config, jax.devices()[: int(np.prod(mesh_sizes))])
    declared = functional.abstract_params(MODEL, value_head=True)
    layout = step_lib.state_shardings(state, declared, mesh)
    rows = jax.tree.map(lambda _: sharding.batch_sharding(mesh), batch)
    with jax.set_mesh(mesh):
        jitted = step_lib.jit_train_step(step, layout, rows, {})
        state, batch = jax.device_put(state, layout), jax.device_put(batch, rows)
        for _ in range(steps):
            before = state
            state, metrics = jitted(before, batch, {})
            # The new state takes the memory of the old one.
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert jax.tree.map(lambda x: x.sharding, state) == layout
    return state, metrics, jitted


# Every term at once.
JOINT = step_lib.LossConfig(
    ce_coef=0.5,
    reward_coef=1.0,
    value_coef=0.5,
    ce_chunk=0,
    kl_estimator="k2",
    ppo=PpoConfig(entropy_coef=0.1),
)
KL_COEF = 0.3


_single_device = {}


def single_device(params, batch, loss):
    if loss not in _single_device:
        _single_device[loss] = run_step(params, batch, loss)
    return _single_device[loss]


@pytest.mark.parametrize("accumulation", [2, 8])
def test_a_step_does_not_depend_on_accumulation(params, accumulation, loss=JOINT):
    batch = reward_batch()
    state, metrics, _ = single_device(params, batch, loss)
    again, metrics_again, _ = run_step(params, batch, loss, accumulation=accumulation)
    assert_close(state.params, again.params, rtol=1e-3, atol=2e-5)
    assert_close(metrics, metrics_again, rtol=1e-3, atol=2e-5)


def test_gradients_of_half_precision_parameters_add_up_in_float32():
    model = dataclasses.replace(MODEL, param_dtype="bfloat16")
    half = functional.init(model, jax.random.key(0))
    # Leaves the parameters alone and keeps the gradient as its state.
    keeper = optax.GradientTransformation(
        lambda params: params, lambda grads, _, params: (jax.tree.map(jnp.zeros_like, grads), grads)
    )
    step = step_lib.make_train_step(model, SFT, keeper, accumulation=8)
    state, _ = jax.jit(step)(step_lib.init_state(half, keeper), one_per_row())
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    for grad in jax.tree.leaves(state.opt_state):
        assert grad.dtype == jnp.float32
        # A sum that was rounded on the way would be a number of bfloat16.
        assert (grad != grad.astype(jnp.bfloat16)).any()


@pytest.mark.parametrize(
    ("loss", "sizes"),
    [(SFT, (2, 2, 2)), (JOINT, (1, 1, 1)), (JOINT, (8, 1, 1)), (JOINT, (2, 2, 2))],
)
def test_a_step_does_not_depend_on_the_mesh_and_compiles_once(params, loss, sizes):
    batch = reward_batch()
    state, metrics, _ = single_device(params, batch, loss)
    again, metrics_again, jitted = run_step(params, batch, loss, mesh_sizes=sizes)
    assert_close(state.params, again.params, rtol=1e-3, atol=2e-5)
    assert_close(metrics, metrics_again, rtol=1e-3, atol=2e-5)
    assert jitted._cache_size() == 1


@pytest.fixture(scope="module")
def packed_step(params):
    return run_step(params, reward_batch(packed()), JOINT)


@pytest.mark.parametrize("sizes", [(1, 2, 1, 4), (2, 1, 2, 2)])
def test_a_step_does_not_depend_on_how_devices_share_rows(params, packed_step, sizes):
    """Segments and chunks of the cross-entropy reach over the borders of their parts."""
    state, metrics, _ = packed_step
    chunked = dataclasses.replace(JOINT, ce_chunk=12)
    batch = reward_batch(packed())
    again, metrics_again, jitted = run_step(params, batch, chunked, mesh_sizes=sizes)
    assert_close(state.params, again.params, rtol=1e-3, atol=2e-5)
    assert_close(metrics, metrics_again, rtol=1e-3, atol=2e-5)
    assert jitted._cache_size() == 1


def test_devices_that_share_rows_exchange_keys_and_values_and_no_hidden_states(params):
    mesh = mesh_lib.make_mesh(MeshConfig(1, 2, 1, 4))
    declared = functional.abstract_params(MODEL, value_head=True)
    placed = sharding.placed(declared, mesh)
    rows, length = 4, 96
    whole = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=sharding.batch_sharding(mesh))
    batch = Batch(*(whole,) * 5)
    with jax.set_mesh(mesh):
        forward = jax.jit(lambda p, b: functional.hidden_states(p, b, MODEL))
        compiled = forward.lower(placed, batch).compile()
    where = NamedSharding(mesh, sharding.spec(("batch", "length", None)))
    assert compiled.output_shardings.is_equivalent_to(where, 3)
    found = hlo.collectives(compiled.as_text())
    outside = max(one.elements for one in found if not one.in_loop)
    assert outside <= MODEL.vocab_size * MODEL.embed_dim
    found = [one for one in found if one.in_loop]
    matrix = MODEL.embed_dim * MODEL.mlp_dim
    keys = rows // 2 * length * MODEL.num_kv_heads * MODEL.head_dim
    gathered = sorted(one.elements for one in found if one.kind == "all-gather")
    assert gathered[-2:] == [keys, keys] and gathered[-3] <= matrix < keys
    assert {one.kind for one in found} == {"all-gather"}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_gradient_lies_as_its_parameter_does(params, accumulation):
    """Nobody asks for it but the step itself: the layout of what comes out is left open."""
    mesh = mesh_lib.make_mesh(MeshConfig(1, 2, 2), jax.devices()[:4])
    layout = sharding.param_shardings(functional.abstract_params(MODEL, value_head=True), mesh)
    keeper = optax.GradientTransformation(
        lambda params: (), lambda grads, _, params: (jax.tree.map(jnp.zeros_like, grads), grads)
    )
    step = step_lib.make_train_step(MODEL, JOINT, keeper, accumulation=accumulation)
    state = step_lib.init_state(jax.device_put(params, layout), keeper, kl_coef=KL_COEF)
    state = state.replace(opt_state=state.params)
    batch = jax.device_put(reward_batch(), sharding.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        compiled = jax.jit(step).lower(state, batch).compile()
    found = compiled.output_shardings[0].opt_state
    same = jax.tree.map(lambda a, b, x: a.is_equivalent_to(b, x.ndim), found, layout, params)
    assert jax.tree.all(same), same


def reward_term(sums, loss):
    if not loss.reward_coef:
        return 0.0
    return sums["policy"] - loss.ppo.entropy_coef * sums["entropy"] + KL_COEF * sums["kl_loss"]


def test_the_joint_gradient_is_the_sum_of_its_terms(params):
    batch = reward_batch()

    def grads(loss):
        def objective(p):
            weight, sampled = step_lib.denominators(batch, loss)
            sums = step_lib.loss_sums(p, batch, MODEL, loss)
            terms = (
                loss.ce_coef * sums.get("ce", 0.0) / weight,
                loss.reward_coef * reward_term(sums, loss) / sampled,
                loss.value_coef * sums.get("value", 0.0) / sampled,
            )
            return sum(terms)

        return jax.grad(objective)(params)

    alone = [
        grads(dataclasses.replace(JOINT, ce_coef=ce, reward_coef=reward, value_coef=value))
        for ce, reward, value in ((0.5, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.5))
    ]
    together = grads(JOINT)
    assert_close(jax.tree.map(lambda *terms: sum(terms), *alone), together)
    # The step moves by that gradient and no other.
    keeper = optax.GradientTransformation(
        lambda params: params, lambda grads, _, params: (jax.tree.map(jnp.zeros_like, grads), grads)
    )
    step = jax.jit(step_lib.make_train_step(MODEL, JOINT, keeper))
    state, _ = step(step_lib.init_state(params, keeper, kl_coef=KL_COEF), batch)
    assert_close(state.opt_state, together)
    assert float(state.kl_coef) == np.float32(KL_COEF)


def test_a_zero_coefficient_removes_the_term_from_the_program(params):
    loss = step_lib.LossConfig(ce_coef=1.0, reward_coef=0.0, value_coef=0.0, ce_chunk=0)
    assert set(step_lib.loss_sums(params, one_per_row(), MODEL, loss)) == {"ce"}
    reward = step_lib.LossConfig(ce_coef=0.0, reward_coef=1.0, ce_chunk=0)
    assert "ce" not in step_lib.loss_sums(params, reward_batch(), MODEL, reward)


def test_tokens_of_weight_zero_do_not_move_the_loss(params):
    batch = one_per_row()
    other = batch.replace(targets=jnp.where(batch.weights > 0, batch.targets, 63))
    assert_close(loss_and_grads(params, batch), loss_and_grads(params, other))


def test_a_step_that_is_not_finite_is_skipped_and_counted(params):
    batch = one_per_row()
    bad = batch.replace(weights=batch.weights.at[0, 0].set(jnp.nan))
    state, metrics, _ = run_step(params, bad, SFT, steps=1)
    assert_close(state.params, params, rtol=0, atol=0)
    assert int(state.skipped) == 1 and int(state.step) == 1
    state, _, _ = run_step(params, batch, SFT, steps=1)
    assert int(state.skipped) == 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, params)
    assert max(jax.tree.leaves(moved)) > 0


def test_a_step_that_starts_too_far_from_the_sampling_policy_changes_nothing(params):
    loss = step_lib.LossConfig(ce_coef=0.0, reward_coef=1.0, ce_chunk=0)
    batch = reward_batch()
    free, metrics, _ = run_step(params, batch, loss, steps=1)
    moved = float(metrics.approx_kl)
    assert moved > 0

    def stopping(at):
        return dataclasses.replace(loss, ppo=PpoConfig(stop_kl=at))

    near, _, _ = run_step(params, batch, stopping(1.01 * moved), steps=1)
    assert_close(near.params, free.params, rtol=0, atol=0)
    far, metrics, _ = run_step(params, batch, stopping(0.99 * moved), steps=1)
    assert_close(far.params, params, rtol=0, atol=0)
    assert float(metrics.approx_kl) == pytest.approx(moved)
    assert int(far.skipped) == int(far.step) == 0 and int(near.step) == 1


def test_the_rate_that_is_told_is_the_one_that_was_taken(params):
    rate = lambda count: 1e-3 / (1.0 + count)  # noqa: E731
    optimizer = optax.sgd(rate)
    step = jax.jit(step_lib.make_train_step(MODEL, SFT, optimizer, schedule=rate))
    state = step_lib.init_state(params, optimizer)
    bad = one_per_row().replace(weights=jnp.full_like(one_per_row().weights, jnp.nan))
    for batch in (one_per_row(), bad, one_per_row()):
        before = state.params
        state, metrics = step(state, batch)
    change = optax.tree.norm(jax.tree.map(jnp.subtract, state.params, before))
    assert float(metrics.learning_rate) == pytest.approx(1e-3 / 2)
    assert float(change / metrics.grad_norm) == pytest.approx(1e-3 / 2, rel=1e-3)


def test_values_with_stopped_gradient_train_the_head_alone(params):
    loss = step_lib.LossConfig(ce_coef=0.0, value_coef=1.0, ce_chunk=0)
    grads = jax.grad(lambda p: step_lib.loss_sums(p, reward_batch(), MODEL, loss)["value"])(params)
    head = grads.pop("value_head")
    assert optax.tree.norm(head) > 0 and optax.tree.norm(grads) == 0


def test_training_lowers_the_loss(params):
    batch = one_per_row()
    before, _ = loss_and_grads(params, batch)
    state, _, _ = run_step(params, batch, SFT, steps=20)
    after, _ = loss_and_grads(state.params, batch)
    assert after < 0.7 * before
