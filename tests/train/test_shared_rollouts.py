"""An update on rows that samples share is the update on the same samples apart, to rounding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, OptimConfig, PpoConfig
from tl_jax.models import critic
from tl_jax.parallel import mesh as mesh_lib
from tl_jax.parallel import sharding
from tl_jax.rl import advantages
from tl_jax.rl.batch import build_batch
from tl_jax.rl.gold_rows import with_gold
from tl_jax.rl.rows import SharedRows, share
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib

# With adapters, and everything is trained.
MODEL = ModelConfig(
    vocab_size=48,
    embed_dim=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=16,
    lora=LoraConfig(rank=2, alpha=4.0),
)
GROUP, LENGTH, GOLD = 4, 40, 2
OPTIM = OptimConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant", eps=1e-3)
# Every term at once.
LOSS = step_lib.LossConfig(
    ce_coef=0.5,
    reward_coef=1.0,
    value_coef=0.5,
    kl_estimator="k3",
    temperature=0.8,
    ce_chunk=0,
    ppo=PpoConfig(entropy_coef=0.1, dual_clip=3.0, value_stop_gradient=False),
)


@functools.cache
def rollout(method, aggregation="token_mean"):
    """Samples of three prompts: two are equal, one is a dialogue, and one is left out."""
    rng = np.random.default_rng(0)
    manual = rng.integers(1, 48, 9).tolist()
    prompts, replies, sampled = [], [], []
    for end in ([3], [4, 5, 6], [7]):
        same = rng.integers(1, 48, 5).tolist()
        dialogue = [*same, *rng.integers(1, 48, 7).tolist()]
        other = rng.integers(1, 48, 9).tolist()
        replies += [same, same, dialogue, other]
        sampled += [[True] * 5, [True] * 5, [True] * 5 + [False] * 4 + [True] * 3, [True] * 9]
        prompts += [[*manual, *end]] * GROUP
    batch, mask = build_batch(prompts, replies, sampled, length=LENGTH)
    scores = rng.normal(size=len(prompts)).astype(np.float32)
    old, ref, values = rng.normal(size=(3, *mask.shape)).astype(np.float32)
    mask[5] = 0
    filled = advantages.estimate(
        *(scores, 0.3 * old - 4, 0.3 * ref - 4, values, mask),
        kl_coef=0.1,
        reward_clip=5.0,
        gamma=0.9,
        gae_lambda=0.8,
        whiten=True,
        method=method,
        group_size=GROUP,
        scale_groups=method == "grpo",
        aggregation=aggregation,
    )
    return batch.replace(rollout=jax.device_get(filled))


def joined(batch):
    """The batch with two gold rows, each of one text."""
    rng = np.random.default_rng(1)
    shape = (GOLD, LENGTH)
    gold = {name: rng.integers(1, 48, shape).astype(np.int32) for name in ("tokens", "targets")}
    gold["weights"] = rng.choice([0.0, 1.0, 9.0], shape).astype(np.float32)
    gold["positions"] = np.tile(np.arange(LENGTH, dtype=np.int32), (GOLD, 1))
    gold["visible_until"] = np.full(shape, LENGTH, np.int32)
    return with_gold(batch, gold)


def shared(batch, shape):
    rows, _ = share(batch, batch.rollout.weights, shape, beside=GOLD)
    assert (rows.visible_until > 0).sum() < 0.75 * (batch.visible_until > 0).sum()
    return joined(rows)


@pytest.fixture(scope="module")
def params():
    """Parameters of which none is zero."""
    declared = critic.abstract_params(MODEL, separate=False)
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda info: jnp.asarray(rng.normal(size=info.shape) * 0.3, jnp.float32),
        declared,
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )


OPTIMIZER = optim.make_optimizer(OPTIM, 10, value_learning_rate=1e-2)
STEP = jax.jit(step_lib.make_train_step(MODEL, LOSS, OPTIMIZER))


def on_eight_devices(state, batch):
    """The step with two micro-batches on a mesh."""
    mesh = mesh_lib.make_mesh(MeshConfig(8, 1, 1), jax.devices()[:8])
    layout = step_lib.state_shardings(state, critic.abstract_params(MODEL, separate=False), mesh)
    rows = sharding.batch_sharding(mesh)
    step = step_lib.make_train_step(MODEL, LOSS, OPTIMIZER, accumulation=2)
    with jax.set_mesh(mesh):
        compiled = step_lib.jit_train_step(step, layout, rows, {})
        return compiled(jax.device_put(state, layout), jax.device_put(batch, rows), {})


def one_update(params, batch, step=STEP):
    """Parameters and optimizer after an update, and its metrics."""
    copied = jax.tree.map(jnp.copy, params)
    state, metrics = step(step_lib.init_state(copied, OPTIMIZER, kl_coef=0.3), batch)
    # Its first moments are the gradients.
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    return jax.device_get((state.params, moments, dataclasses.asdict(metrics)))


def assert_equal_to_rounding(found, expected):
    """Within 1e-5 of the largest number of each array."""

    def check(path, a, b):
        atol = 1e-5 * np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, found, expected)


CUT = SharedRows(LENGTH, shards=2)
"""Rows that hold two or three samples, so that groups are cut."""


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("method", ["gae", "grpo", "rloo"])
def test_an_update_on_shared_rows_is_that_on_samples_apart(params, method, aggregation):
    batch = rollout(method, aggregation)
    expected = one_update(params, joined(batch))
    names = ("ce_loss", "policy_loss", "value_loss", "kl_loss", "approx_kl", "clip_fraction")
    assert all(expected[2][name] for name in names), "nothing to compare"
    assert_equal_to_rounding(one_update(params, shared(batch, CUT)), expected)


@pytest.mark.slow
def test_an_update_does_not_depend_on_meshes_and_accumulation(params):
    batch = rollout("gae", "sequence_mean")
    rows = shared(batch, SharedRows(128, shards=16))
    found = one_update(params, rows, on_eight_devices)
    assert_equal_to_rounding(found, one_update(params, joined(batch)))
