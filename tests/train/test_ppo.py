"""The reward phase: a critic that learns alone first, rows that fit, prompts that are counted."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.render import render_call
from tl_jax.config import (
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    PpoConfig,
    RewardConfig,
    RunConfig,
)
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.prepare.files import PROMPTS
from tl_jax.errors import ConfigError
from tl_jax.models import critic, functional
from tl_jax.parallel import memory
from tl_jax.parallel.mesh import make_mesh
from tl_jax.rl.prompts import choose_prompts
from tl_jax.run.directory import Run
from tl_jax.sampling.sampler import Generation
from tl_jax.train import optimizer as optim
from tl_jax.train import ppo as ppo_lib
from tl_jax.train import ppo_step
from tl_jax.train import prompt_pools as prompts_lib
from tl_jax.train import step as step_lib
from tl_jax.types import Batch, Rollout

MODEL = ModelConfig(
    vocab_size=32, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32
)


def rollout_batch():
    rng = np.random.default_rng(0)
    shape = (4, 8)
    tokens = rng.integers(0, 32, shape).astype(np.int32)
    ones = np.ones(shape, np.int32)
    positions = np.broadcast_to(np.arange(8, dtype=np.int32), shape)
    noise = rng.normal(size=(5, *shape)).astype(np.float32)
    rollout = Rollout(np.ones(shape, np.float32), noise[0] * 0.1 - 3, *noise[1:])
    return Batch(tokens, tokens, np.zeros(shape, np.float32), positions, ones, rollout)


@pytest.mark.parametrize("separate", [False, True])
def test_while_the_critic_learns_alone_the_policy_and_its_optimiser_stand_still(separate):
    config = OptimConfig(learning_rate=1e-2, warmup_steps=2, weight_decay=0.5)
    optimizer = optim.make_optimizer(
        config, 10, value_learning_rate=1e-2, critic_learning_rate=1e-3
    )
    loss = step_lib.LossConfig(ce_coef=0, reward_coef=0, value_coef=1, ce_chunk=0)
    step = jax.jit(step_lib.make_train_step(MODEL, loss, ppo_step.critic_only(optimizer)))
    params = functional.init(MODEL, jax.random.key(0))
    head = jax.eval_shape(lambda: functional.init(MODEL, jax.random.key(0), value_head=True))
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    head = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), head["value_head"]
    )
    params = critic.attach(params, head, separate=separate)
    start = step_lib.init_state(params, optimizer)
    state = start
    for _ in range(3):
        state, _ = step(state, rollout_batch())

    moved = {
        jax.tree_util.keystr(path)
        for path, (old, new) in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda old, new: (old, new), start, state),
            is_leaf=lambda x: isinstance(x, tuple) and len(x) == 2 and hasattr(x[0], "dtype"),
        )
        if not np.array_equal(old, new)
    }
    assert any("value_head" in name and name.startswith(".params") for name in moved)
    assert any("'value'" in name and "count" in name for name in moved)
    assert not [name for name in moved if "'policy'" in name]
    trunk = [name for name in moved if name.startswith(".params['critic']")]
    assert bool(trunk) == separate
    policy = [name for name in moved if name.startswith(".params") and name not in trunk]
    assert all("value_head" in name for name in policy)


def test_the_warm_up_is_left_out_where_no_value_loss_is_trained():
    ppo = PpoConfig(steps=10, critic_warmup_steps=3, epochs=2, minibatches=2)
    assert ppo_step.warmup_rollouts(ppo) == 3 and ppo_step.policy_updates(ppo) == 28
    without = dataclasses.replace(ppo, value_coef=0.0)
    assert ppo_step.warmup_rollouts(without) == 0 and ppo_step.policy_updates(without) == 40


ROWS = PpoConfig(prompts_per_step=4, samples_per_prompt=2, critic_warmup_steps=0)


@pytest.mark.parametrize(
    "ppo,data_rows,message",
    [
        (dict(minibatches=3), 8, "minibatches is not a whole number of rows"),
        (dict(minibatches=4), 8, r"minibatches = 2 rows is not divisible by 4 mesh rows"),
        (dict(ce_coef=0.5), 2, r"\+ config.data.batch_size = 10 rows is not divisible by 4"),
        (
            dict(ce_coef=0.5, minibatches=4, critic_warmup_steps=1),
            2,
            r"minibatches = 2 rows is not divisible by 4",
        ),
    ],
)
def test_rows_that_the_mesh_does_not_divide_are_refused_before_the_first_rollout(
    ppo, data_rows, message
):
    config = RunConfig(ppo=dataclasses.replace(ROWS, **ppo), data=DataConfig(batch_size=data_rows))
    with pytest.raises(ConfigError, match=message):
        ppo_lib.check_rows(config, {"data": 2, "fsdp": 2, "sequence": 1})


def test_rows_that_fit_are_accepted():
    mesh = {"data": 2, "fsdp": 2, "sequence": 2}
    ppo_lib.check_rows(RunConfig(ppo=ROWS), mesh)
    joint = dataclasses.replace(ROWS, ce_coef=0.5, minibatches=4)
    ppo_lib.check_rows(RunConfig(ppo=joint, data=DataConfig(batch_size=2)), mesh)


def test_samples_share_rows_where_attention_takes_trees_and_nobody_turned_it_off():
    mesh = make_mesh(MeshConfig(4, 1, 1, 2), jax.devices()[:8])
    lengths = {"prompt_length": 64, "reply_length": 16}
    config = RunConfig(ppo=ROWS)
    rows = ppo_lib.shared_rows(config, MODEL, mesh, **lengths)
    assert rows is not None and (rows.length, rows.shards, rows.samples) == (128, 4, 2)
    joint = RunConfig(ppo=dataclasses.replace(ROWS, ce_coef=0.5), data=DataConfig(max_length=512))
    found = ppo_lib.shared_rows(joint, MODEL, mesh, **lengths)
    assert found is not None and found.length == 512, "gold rows would be padded, or these"
    off = dataclasses.replace(config, data=DataConfig(shared_prefixes=False))
    assert ppo_lib.shared_rows(off, MODEL, mesh, **lengths) is None
    splash = dataclasses.replace(MODEL, attention="splash")
    assert ppo_lib.shared_rows(config, splash, mesh, **lengths) is None


def test_prompts_left_out_are_counted_by_reason(tmp_path, capsys):
    call = ToolCall("f")
    prompts = [
        Prompt(str(n), [1] * length, "", (), (call,) * golds, {}, reply)
        for n, (length, golds, reply) in enumerate(
            [(9, 1, 2), (4, 1, 64), (4, 2, 2), (5, 1, 0), (5, 1, 65)]
        )
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PROMPTS).write_text("".join(prompt_lines(prompts)))
    limits, published = PpoConfig(max_prompt_length=8), RewardConfig(mode="reference")
    workspace = Run(RunConfig(run_dir=str(tmp_path), ppo=limits, reward=published))
    usable = prompts_lib.usable_prompts(workspace)
    assert list(usable) == [prompts[1], prompts[3]] and usable.longest == 5
    assert json.loads((tmp_path / "results" / "prompts.json").read_text()) == {
        "used": 2,
        "left_out": {
            "longer than 8 tokens": 1,
            "not exactly one gold call": 1,
            "right answer longer than 64 tokens": 1,
        },
    }
    assert "uses 2 prompts; left out (60%): 1 longer than 8 tokens" in capsys.readouterr().out
    strict = Run(RunConfig(run_dir=str(tmp_path), ppo=limits))
    assert list(prompts_lib.usable_prompts(strict)) == prompts[1:4]
    with pytest.raises(ConfigError, match="no prompt can be used"):
        ppo = PpoConfig(max_prompt_length=3)
        prompts_lib.usable_prompts(Run(RunConfig(run_dir=str(tmp_path), ppo=ppo)))


def test_every_step_visits_other_prompts_until_all_were_seen():
    prompts = [Prompt(str(n), [1], "", (), (), {}) for n in range(6)]
    first, second, third = (choose_prompts(prompts, 3, 0, step) for step in range(3))
    assert {prompt.id for prompt in first + second} == set("012345")
    assert len(third) == 3 and all(prompt in prompts for prompt in third)


def test_calls_that_the_published_reward_cannot_read_are_refused_here_too(tmp_path):
    data, mode = DataConfig(template="script"), RewardConfig(mode="reference")
    config = RunConfig(run_dir=str(tmp_path), data=data, reward=mode)
    with pytest.raises(ConfigError, match="single-quoted.*'script' does not write"):
        ppo_lib.train(Run(config))


def test_the_learning_rate_of_a_rollout_is_that_of_its_last_update():
    from tl_jax.types import StepMetrics

    values = [
        StepMetrics(**{f.name: jnp.float32(n) for f in dataclasses.fields(StepMetrics)})
        for n in (1, 3)
    ]
    found = ppo_lib.summary(values)
    assert found["learning_rate"] == 3 and found["first_max_abs_log_ratio"] == 1
    assert found["loss"] == 2 and found["tokens"] == 4 and found["updates"] == 2


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(advantage="rloo", samples_per_prompt=1, value_coef=0.0), "samples_per_prompt to 2"),
        (dict(advantage="grpo", samples_per_prompt=2), "value_coef to 0"),
        (dict(dual_clip=0.5), "dual_clip must be 0 or above 1"),
        (dict(steps=2), "ppo.steps=2 would leave the policy as it is"),
        (dict(kl_target=0.1, kl_coef=0.0), "kl_coef to a first value"),
        (dict(missed_share=0.5, prompts_per_step=1), "prompts_per_step to 2 or more"),
    ],
)
def test_settings_of_the_objective_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ppo_lib.check_objective(PpoConfig(**changes))
    ppo_lib.check_objective(PpoConfig(advantage="rloo", samples_per_prompt=2, value_coef=0.0))


def test_a_log_ratio_before_any_change_stops_the_run():
    ppo_lib.check_first_update(9e-4, 1e-3)
    ppo_lib.check_first_update(5.0, 0.0)
    for found in (2e-3, float("nan")):
        with pytest.raises(ppo_lib.ScoringMismatch, match="the policy has not moved yet"):
            ppo_lib.check_first_update(found, 1e-3)


def test_the_price_of_divergence_follows_what_was_measured():
    assert ppo_lib.adapted_kl_coef(0.1, 0.02, 0.02) == 0.1
    assert 0.1 < ppo_lib.adapted_kl_coef(0.1, 0.021, 0.02) < ppo_lib.adapted_kl_coef(0.1, 9.0, 0.02)
    assert ppo_lib.adapted_kl_coef(0.1, -9.0, 0.02) == pytest.approx(0.1 * 0.98)


def test_a_share_of_a_rollout_takes_prompts_that_go_wrong_at_first(tmp_path, monkeypatch):
    call, other = ToolCall("f"), ToolCall("g")
    stored = [
        Prompt(str(n), [n + 1], "", (ToolSpec("f"), ToolSpec("g")), (call,), {}) for n in range(8)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PROMPTS).write_text("".join(prompt_lines(stored)))
    ppo = PpoConfig(missed_share=0.75, prompts_per_step=4)
    workspace = Run(RunConfig(run_dir=str(tmp_path), ppo=ppo))
    wrong = {2, 3, 5}

    def generate(sample, params, prompts, row_keys, **_):
        assert sample == "greedy" and params["w"].sharding.memory_kind == memory.DEVICE
        calls = [other if ids[0] - 1 in wrong else call for ids in prompts]
        tokenizer = workspace.tokenizer
        replies = [tokenizer.encode_continuation(" " + render_call(c))[0] for c in calls]
        return [Generation([*reply, tokenizer.eos_id], [], True) for reply in replies]

    monkeypatch.setattr(prompts_lib, "generate", generate)
    monkeypatch.setattr(Run, "sampler", lambda *_: "greedy")
    waiting = {"w": memory.held_in(memory.HOST, jnp.ones(2))}
    pools = prompts_lib.prompt_pools(workspace, waiting, prompts_lib.usable_prompts(workspace))
    visited = [prompts_lib.chosen(pools, 0, step) for step in range(5)]
    for prompts in visited:
        assert [int(prompt.id) in wrong for prompt in prompts] == [True, True, True, False]
    assert {p.id for prompts in visited for p in prompts} == {prompt.id for prompt in stored}
    counts = json.loads((tmp_path / "results" / "prompts.json").read_text())
    assert (counts["used"], counts["missed"]) == (8, 3)


@pytest.mark.parametrize(("missed", "others", "count"), [(5, 5, 3), (0, 5, 0), (5, 0, 4)])
def test_what_one_kind_of_prompts_lacks_the_other_gives(missed, others, count):
    ppo = PpoConfig(missed_share=0.75, prompts_per_step=4)
    assert prompts_lib.share_of_missed(ppo, missed, others) == count


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.99, 3), (1.0, 4)])
def test_no_kind_of_prompts_is_lost_by_rounding(share, count):
    ppo = PpoConfig(missed_share=share, prompts_per_step=4)
    assert prompts_lib.share_of_missed(ppo, 5, 5) == count


def test_a_prompt_whose_dialogue_ends_in_a_long_call_is_left_out(tmp_path):
    short, long = ToolCall("f"), ToolCall("f", {"a": "one word and another " * 20})
    stored = [
        Prompt(str(n), [1], "", (ToolSpec("f"),), (short,), {}, 5, goal)
        for n, goal in enumerate([(short,), (long,), ()])
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PROMPTS).write_text("".join(prompt_lines(stored)))
    config = RunConfig(run_dir=str(tmp_path), ppo=PpoConfig(max_new_tokens=20))
    assert len(prompts_lib.usable_prompts(Run(config))) == 3
    tools = dataclasses.replace(config.environment, path="tools.py")
    config = dataclasses.replace(config, environment=tools)
    kept = prompts_lib.usable_prompts(Run(config))
    assert [prompt.id for prompt in kept] == ["0", "2"]


def test_dialogues_are_not_judged_by_their_first_reply():
    with pytest.raises(ConfigError, match="missed_share judges a reply by itself"):
        ppo_lib.check_objective(PpoConfig(missed_share=0.5), "tools.py")
