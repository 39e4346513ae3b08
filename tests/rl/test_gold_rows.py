"""Joint batches: gold rows add cross-entropy and leave the policy term alone."""

import jax
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.rl.gold_rows import with_gold
from tl_jax.train import step as step_lib
from tl_jax.types import Batch, Rollout

MODEL = ModelConfig(
    vocab_size=32, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32
)
LOSS = step_lib.LossConfig(ce_coef=1.0, reward_coef=1.0, value_coef=1.0, ce_chunk=0)


def rows(seed, count, length):
    rng = np.random.default_rng(seed)
    return {
        "tokens": rng.integers(0, 32, (count, length)).astype(np.int32),
        "targets": rng.integers(0, 32, (count, length)).astype(np.int32),
        "weights": rng.choice([0.0, 1.0, 9.0], (count, length)).astype(np.float32),
        "positions": np.tile(np.arange(length, dtype=np.int32), (count, 1)),
        "visible_until": np.full((count, length), length, np.int32),
    }


def rollout_batch(length):
    plain = rows(0, 3, length)
    plain["weights"][:] = 0
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=(3, length)).astype(np.float32) for _ in range(5)]
    mask = np.zeros((3, length), np.float32)
    mask[:, 4:] = 1
    return Batch(**plain, rollout=Rollout(mask, noise[0] * 0.1 - 3, *noise[1:]))


def test_each_term_of_a_joint_batch_equals_the_term_of_its_part_alone():
    params = functional.init(MODEL, jax.random.key(0), value_head=True)
    for length, gold_length in ((9, 14), (14, 9)):
        sampled, gold = rollout_batch(length), rows(2, 2, gold_length)
        joint = with_gold(sampled, gold)
        assert joint.tokens.shape == (5, max(length, gold_length))
        sums = step_lib.loss_sums(params, joint, MODEL, LOSS)
        alone = step_lib.loss_sums(params, sampled, MODEL, LOSS)
        ce_only = step_lib.LossConfig(ce_chunk=0)
        ce = step_lib.loss_sums(params, Batch(**gold), MODEL, ce_only)["ce"]
        np.testing.assert_allclose(sums["policy"], alone["policy"], rtol=1e-5)
        np.testing.assert_allclose(sums["value"], alone["value"], rtol=1e-5)
        np.testing.assert_allclose(sums["ce"], ce, rtol=1e-5)
        assert step_lib.denominators(joint, LOSS)[1] == alone_mask(sampled)


def alone_mask(batch):
    return float(batch.rollout.mask.sum())
