"""Properties of rollouts on a tiny random model whose tokens are single characters."""

import contextlib
import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import EnvironmentConfig, ModelConfig, PpoConfig, RewardConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.models import functional
from tl_jax.ops import policy
from tl_jax.ops.cross_entropy import token_logprobs
from tl_jax.rewards import taxonomy
from tl_jax.rl import logprobs
from tl_jax.rl import rollout as rl
from tl_jax.rl.episode import Feedback
from tl_jax.rl.prompts import select_prompts
from tl_jax.rl.rows import SharedRows
from tl_jax.sampling import sampler
from tl_jax.sampling.next_token import SampleConfig
from tl_jax.sampling.sampler import Generation

MODEL = ModelConfig(
    vocab_size=64,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
)
EOS = 0  # also the padding value of every array
LETTERS = "?()=' ,abcdefghijklmnopqrstuvwxyz0123456789_:.ABCDEFGHIJKLMNOPQR"
TOOLS = (
    ToolSpec("add", "", (Parameter("x", "string"), Parameter("y", "string"))),
    ToolSpec("sub", "", (Parameter("x", "string"),)),
)
GOLD = ToolCall("add", {"x": "a"})
PPO = PpoConfig(samples_per_prompt=3, max_new_tokens=6, temperature=0.8, kl_coef=0.2)


class LetterTokenizer:
    def decode(self, ids, *, keep_control):
        assert keep_control
        return "".join(LETTERS[i] for i in ids)


LETTER_RENDERER = Renderer(LetterTokenizer(), "released", "per_turn", None)


def encode(text):
    return [LETTERS.index(letter) for letter in text]


def prompt(name, text):
    return Prompt(id=name, ids=encode(text), text=text, tools=TOOLS, golds=(GOLD,), tags={})


PROMPTS = [prompt("one", "Call: f"), prompt("two", "abc")]


def make_params(seed=0):
    params = functional.init(MODEL, jax.random.key(seed), value_head=True)
    params = jax.tree.map(lambda x: 2.0 * x, params)
    head = {"kernel": jnp.full((32, 1), 0.1), "bias": jnp.full((1,), 0.3)}
    return params | {"value_head": head}


def without_head(params):
    return {name: value for name, value in params.items() if name != "value_head"}


@pytest.fixture(scope="module")
def params():
    return make_params()


@pytest.fixture(scope="module")
def logprob_step():
    return logprobs.make_logprob_step(MODEL, temperature=PPO.temperature, chunk=16)


@pytest.fixture(scope="module")
def sample():
    return sampler.make_sampler(
        MODEL, SampleConfig(PPO.max_new_tokens, PPO.temperature, stop_ids=(EOS, 9, 30, 40))
    )


@pytest.fixture(scope="module")
def collect(params, logprob_step, sample):
    def collect(
        ref_params=params,
        prompts=PROMPTS,
        ppo=PPO,
        seed=0,
        step=0,
        batch_prompts=2,
        tools=None,
        function=None,
        rows=None,
    ):
        plan = rl.RolloutPlan(
            ppo=dataclasses.replace(ppo, prompts_per_step=batch_prompts),
            reward=RewardConfig(),
            seed=seed,
            sample=sample,
            logprob_step=logprob_step,
            renderer=LETTER_RENDERER,
            prompt_length=32,
            tools=tools,
            function=function,
            rows=rows,
        )
        return rl.rollout(plan, params, ref_params, prompts, step=step, kl_coef=ppo.kl_coef)

    return collect


@pytest.fixture(scope="module")
def result(collect):
    return collect()


def test_the_mask_covers_the_stop_token_even_if_padding_has_the_same_id():
    prompts, replies = [[5, 6, 0], [7]], [[8, EOS], [9, 10, 11]]
    batch, mask = rl.build_batch(prompts, replies, [[True] * len(reply) for reply in replies])
    np.testing.assert_array_equal(batch.tokens[:, :5], [[5, 6, 0, 8, 0], [7, 9, 10, 0, 0]])
    np.testing.assert_array_equal(batch.targets[:, :5], [[6, 0, 8, 0, 0], [9, 10, 11, 0, 0]])
    np.testing.assert_array_equal(mask[:, :5], [[0, 0, 1, 1, 0], [1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(batch.visible_until[:, :5], [[4, 4, 4, 4, 0], [3, 3, 3, 0, 0]])
    np.testing.assert_array_equal(batch.positions[:, :5], [[0, 1, 2, 3, 0], [0, 1, 2, 0, 0]])
    assert mask.dtype == np.float32 and not batch.weights.any()
    assert not mask[:, 5:].any() and not batch.visible_until[:, 5:].any()


def test_a_truncated_row_trains_its_last_token_and_no_stop_token(result):
    batch = result.batch
    truncated = 0
    for row in range(6):
        targets = batch.targets[row][np.asarray(batch.rollout.weights[row]) > 0]
        ended = targets[-1] in (EOS, 9, 30, 40)
        assert ended or len(targets) == PPO.max_new_tokens
        assert not set(targets[:-1]) & {EOS, 9, 30, 40}
        truncated += not ended
    assert 0 < truncated < 6
    assert result.metrics["truncated_share"] == pytest.approx(truncated / 6)
    np.testing.assert_allclose(
        result.metrics["response_length"], np.sum(batch.rollout.weights) / 6, rtol=1e-6
    )


def test_samples_cut_off_can_be_left_out_of_the_losses_but_not_of_the_log(collect, result):
    left_out = collect(ppo=dataclasses.replace(PPO, truncated="mask"))
    ended = np.array(["not ended" not in str(record["details"]) for record in result.records])
    assert 0 < ended.sum() < 6
    np.testing.assert_array_equal(left_out.batch.rollout.weights.any(axis=1), ended)
    assert [r["category"] for r in left_out.records] == [r["category"] for r in result.records]
    assert left_out.metrics["entropy"] == result.metrics["entropy"]
    assert [r["advantage"] == 0 for r in left_out.records] == list(~ended)


@pytest.mark.parametrize("advantage", ["grpo", "rloo"])
def test_a_comparison_within_the_group_gives_a_sample_one_advantage(collect, advantage):
    compared = collect(ppo=dataclasses.replace(PPO, advantage=advantage, whiten_advantages=False))
    rollout = compared.batch.rollout
    rewards = np.array([record["reward"] for record in compared.records]).reshape(2, 3)
    due = rewards - rewards.mean(axis=1, keepdims=True)  # the reference is the policy: no price
    due *= 1.5 if advantage == "rloo" else 1.0
    for row, value in enumerate(due.ravel()):
        found = np.asarray(rollout.advantages[row])[np.asarray(rollout.weights[row]) > 0]
        np.testing.assert_allclose(found, value, atol=1e-5)
    assert compared.metrics["equal_groups_share"] == np.mean(np.ptp(rewards, axis=1) == 0)


@pytest.mark.parametrize("with_head", [True, False])
def test_divergence_from_itself_is_exactly_zero(collect, params, with_head):
    metrics = collect(ref_params=params if with_head else without_head(params)).metrics
    assert metrics["kl_k1"] == 0.0 and metrics["kl_k3"] == 0.0


def test_divergence_from_another_model_is_charged_in_the_returns(collect, result):
    other = collect(ref_params=make_params(1))
    assert other.metrics["kl_k3"] > 0.01
    assert np.abs(other.batch.rollout.returns - result.batch.rollout.returns).max() > 0.01
    np.testing.assert_array_equal(other.batch.tokens, result.batch.tokens)


def test_the_ratio_is_one_at_the_first_step(params, result):
    batch, old = result.batch, result.batch.rollout

    def loss(params):
        hidden = functional.hidden_states(params, batch, MODEL)
        new, _ = token_logprobs(
            hidden,
            functional.head_kernel(params, MODEL),
            batch.targets,
            old.weights,
            chunk=16,
            temperature=PPO.temperature,
        )
        return policy.clipped_policy_loss(
            new, old.old_logprobs, old.advantages, old.weights, clip_low=0.2, clip_high=0.2
        )

    _, stats = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert stats["max_abs_log_ratio"] < 1e-5
    assert stats["clipped"] == 0


def test_dialogues_in_shared_rows_are_scored_as_in_rows_of_their_own(collect, dialogues):
    shared = collect(rows=SharedRows(64), tools=Talking())
    for ours, theirs in zip(
        jax.tree.leaves(shared.batch), jax.tree.leaves(dialogues.batch), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    metrics, expected = dict(shared.metrics), dict(dialogues.metrics)
    # Rounding alone parts the sampler from the scoring, and by how much depends on the processor.
    assert max(found.pop("sampler_logprob_gap") for found in (metrics, expected)) < 1e-4
    assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for ours, theirs in zip(shared.records, dialogues.records, strict=True):
        assert ours | {"advantage": 0} == theirs | {"advantage": 0}


def test_sampler_and_training_forward_agree(result):
    assert 0 <= result.metrics["sampler_logprob_gap"] < 1e-4


def test_samples_depend_on_seed_step_and_prompt_but_not_on_the_batch(collect, result):
    texts = [record["sampled"] for record in result.records]
    assert len(set(texts[:3])) > 1
    assert texts != [record["sampled"] for record in collect(step=1).records]
    assert texts != [record["sampled"] for record in collect(seed=1).records]
    swapped = collect(prompts=PROMPTS[::-1], batch_prompts=1)
    assert [record["sampled"] for record in swapped.records] == texts[3:] + texts[:3]


def test_a_prompt_that_comes_twice_gets_other_samples_the_second_time(collect):
    once = collect(prompts=PROMPTS[:1])
    twice = collect(prompts=[PROMPTS[0], PROMPTS[0]])
    sampled = [record["sampled"] for record in twice.records]
    half = len(once.records)
    assert sampled[:half] == [record["sampled"] for record in once.records]
    assert sampled[half:] != sampled[:half]


def test_records_name_prompt_gold_category_and_reward(result):
    assert [record["prompt_id"] for record in result.records] == ["one"] * 3 + ["two"] * 3
    for record in result.records:
        assert list(record) == [
            *("step", "prompt_id", "sampled", "gold", "category", "reward", "details"),
            "advantage",
        ]
        assert record["gold"] == "add(x = 'a')"
        json.dumps(record)
    shares = [result.metrics[f"category/{name}"] for name in taxonomy.CATEGORIES]
    assert sum(shares) == pytest.approx(1.0)


def test_every_array_of_a_rollout_is_float32_and_zero_where_masked(result):
    for field in dataclasses.fields(result.batch.rollout):
        array = np.asarray(getattr(result.batch.rollout, field.name))
        assert array.dtype == np.float32, field.name
        assert not array[np.asarray(result.batch.rollout.weights) == 0].any(), field.name
        assert np.isfinite(array).all(), field.name


class Talking:
    """Tools that answer every reply that has ended, with as many letters as the row's number."""

    environment = types.SimpleNamespace(config=EnvironmentConfig(max_turns=3, max_tokens=38))

    @contextlib.contextmanager
    def responses(self, prompts):
        yield lambda rows, generations: [
            Feedback(("",), [5] * (row + 1)) if generation.finished else None
            for row, generation in zip(rows, generations, strict=True)
        ]

    def counted(self, episode, tools):
        return episode.last

    def log(self, episode):
        return [turn.generation.ids for turn in episode.turns]


@pytest.fixture(scope="module")
def dialogues(collect):
    return collect(tools=Talking())


def test_a_dialogue_begins_with_the_reply_that_would_be_sampled_alone(dialogues, result):
    turns = [len(record["dialogue"]) for record in dialogues.records]
    assert max(turns) == 3 and min(turns) < 3
    assert dialogues.metrics["turns"] == np.mean(turns)
    for row, record in enumerate(dialogues.records):
        alone = np.asarray(result.batch.targets[row])[
            np.asarray(result.batch.rollout.weights[row]) > 0
        ]
        assert record["dialogue"][0] == alone.tolist()
        mask = np.asarray(dialogues.batch.rollout.weights[row]) > 0
        replies = sum(record["dialogue"], [])
        assert np.asarray(dialogues.batch.targets[row])[mask].tolist() == replies
        between = np.diff(np.flatnonzero(mask)) - 1
        assert between[between > 0].tolist() == [row + 1] * (turns[row] - 1)


def test_sampler_and_training_forward_agree_in_later_turns(dialogues):
    assert 0 <= dialogues.metrics["sampler_logprob_gap"] < 1e-4
    assert dialogues.metrics["kl_k1"] == 0.0
    assert dialogues.sampled_tokens == int(dialogues.batch.rollout.weights.sum())


def score_one(ids, *, finished, mode="strict", golds=(GOLD,)):
    return rl.score_samples(
        [dataclasses.replace(PROMPTS[0], golds=golds)],
        [Generation(ids, [0.0] * len(ids), finished)],
        renderer=LETTER_RENDERER,
        reward=RewardConfig(mode=mode),
        step=7,
    )


def test_a_function_rewards_the_samples_in_place_of_the_rules(collect, result):
    asked = []

    def reward(reply, prompt):
        asked.append((reply, prompt.id))
        return 0.25 + len(asked) / 100

    found = collect(function=reward)
    assert [record["sampled"] for record in found.records] == [
        record["sampled"] for record in result.records
    ]
    ended = [record for record in found.records if record["category"] == "custom"]
    assert asked == [(record["sampled"], record["prompt_id"]) for record in ended] != []
    assert [record["reward"] for record in ended] == [
        0.25 + number / 100 for number in range(1, len(ended) + 1)
    ]
    assert {record["category"] for record in found.records} <= {"custom", "format_error"}
    assert found.metrics["category/custom"] == len(ended) / len(found.records)
    assert "category/custom" not in result.metrics


class Characters:
    """Every token is the character with its number."""

    def decode(self, ids, *, keep_control=False):
        return "".join(map(chr, ids))


def characters(style):
    """A renderer for these tokens that writes and reads calls in a style."""
    if style == "python":
        return Renderer(Characters(), "released", "per_turn", None)
    return Renderer(Characters(), "chat", "per_turn", types.SimpleNamespace(call_style=style))


def test_replies_and_gold_calls_are_in_the_style_of_the_run():
    written = '{"name": "add", "parameters": {"x": "a"}}'
    generation = Generation([*map(ord, written), 0], [0.0], True)
    found = {}
    for style in ("llama_json", "python"):
        _, (found[style],) = rl.score_samples(
            [PROMPTS[0]],
            [generation],
            renderer=characters(style),
            reward=RewardConfig(),
            step=0,
        )
    assert found["llama_json"]["category"] == "all_right"
    assert found["llama_json"]["gold"] == found["llama_json"]["sampled"] == written
    assert found["python"]["category"] == "format_error"


def test_a_thought_before_a_marked_call_is_not_scored_but_logged():
    call = '<tool_call>\n{"name": "add", "arguments": {"x": "a"}}\n</tool_call>'
    written = [f"I add.\n{call}", f"{call}\nI added."]
    _, records = rl.score_samples(
        [PROMPTS[0]] * 2,
        [Generation([*map(ord, reply), 0], [0.0], True) for reply in written],
        renderer=characters("hermes"),
        reward=RewardConfig(),
        step=0,
    )
    assert [record["category"] for record in records] == ["all_right", "format_error"]
    assert [record["sampled"] for record in records] == written


@pytest.mark.parametrize(
    "reply,reward,category",
    [
        (" add(x = 'a')", 1.0, "all_right"),
        (" add(x = 'b')", -0.25, "content_filling"),
        (" add(x = 'a', z = 'a')", -0.8, "parameter_hallucination"),
        (" add(y = 'a')", -1.0, "parameter_redundancy"),
        (" sub(x = 'a')", -1.5, "wrong_tool"),
        (" add(x = 'a", -2.0, "format_error"),
    ],
)
def test_rewards_keep_their_fractions(reply, reward, category):
    scores, records = score_one(encode(reply) + [EOS], finished=True)
    assert scores.dtype == np.float32
    assert scores[0] == np.float32(reward)
    assert (records[0]["category"], records[0]["sampled"]) == (category, reply)
    assert records[0]["step"] == 7


@pytest.mark.parametrize(
    "mode,reward,category", [("strict", -2.0, "format_error"), ("reference", 1.0, "all_right")]
)
def test_a_right_call_that_was_cut_off_is_right_by_the_published_reward_only(
    mode, reward, category
):
    scores, records = score_one(encode(" add(x = 'a')"), finished=False, mode=mode)
    assert scores[0] == reward and records[0]["category"] == category
    assert records[0]["sampled"] == " add(x = 'a')"
    assert records[0]["details"] == (["format_error: not ended"] if mode == "strict" else [])


def test_the_logged_advantage_is_that_of_the_last_sampled_token(result):
    for row, record in enumerate(result.records):
        last = np.flatnonzero(result.batch.rollout.weights[row])[-1]
        assert record["advantage"] == float(result.batch.rollout.advantages[row, last])
    assert len({record["advantage"] for record in result.records}) > 1


def test_prompts_are_selected_by_length_and_by_what_the_reward_can_read():
    several = dataclasses.replace(PROMPTS[0], golds=(GOLD, GOLD))
    none = dataclasses.replace(PROMPTS[0], golds=())
    prompts = [several, *PROMPTS, none]
    length = len(PROMPTS[1].ids)
    reply = {"max_reply": 9, "reply_tokens": lambda prompt: prompt.reply_tokens}
    kept, dropped = select_prompts(prompts, max_length=length, mode="reference", **reply)
    assert kept == {2: 3}
    assert dropped == {"not exactly one gold call": 2, "longer than 3 tokens": 1}
    for mode in ("strict", "graded"):
        kept, dropped = select_prompts(prompts, max_length=100, mode=mode, **reply)
        assert list(kept) == [0, 1, 2, 3] and not dropped


@pytest.mark.parametrize("golds", [(), (GOLD, GOLD)])
def test_the_published_reward_refuses_a_prompt_without_exactly_one_gold_call(golds):
    with pytest.raises(ValueError, match=f"one call only, not of {len(golds)}"):
        score_one(encode(" add(x = 'a')"), finished=False, mode="reference", golds=golds)


OTHER = ToolCall("sub", {"x": "b"})


@pytest.mark.parametrize(
    "golds,reply,category",
    [
        ((GOLD, OTHER), " sub(x = 'b')?add(x = 'a')", "all_right"),
        ((GOLD, OTHER), " add(x = 'a')", "missing_call"),
        ((GOLD,), " add(x = 'a')?sub(x = 'b')", "extra_call"),
        ((), " I need no call.", "all_right"),
        ((), " add(x = 'a')", "extra_call"),
    ],
)
def test_several_gold_calls_and_none_are_scored(golds, reply, category):
    ids = [*map(ord, reply.replace("?", "\n")), 0]
    _, (record,) = rl.score_samples(
        [dataclasses.replace(PROMPTS[0], golds=golds)],
        [Generation(ids, [0.0], True)],
        renderer=characters("python"),
        reward=RewardConfig(),
        step=0,
    )
    assert record["category"] == category
    assert record["gold"].splitlines() == [
        f"{gold.name}(x = '{gold.arguments['x']}')" for gold in golds
    ]


def test_reward_settings_reach_the_score():
    one_wrong = encode(" add(x = 'a', y = 'b')") + [EOS]
    golds = (ToolCall("add", {"x": "a", "y": "a"}),)
    strict, graded = (
        score_one(one_wrong, finished=True, mode=mode, golds=golds)[0][0]
        for mode in ("strict", "graded")
    )
    assert (strict, graded) == (np.float32(-0.25), np.float32(0.375))


def test_greedy_sampling_is_scored_at_temperature_one(params):
    batch, mask = rl.build_batch([[3, 4]], [[5, 6]], [[True, True]])
    batch = batch.replace(weights=mask)
    greedy = logprobs.make_logprob_step(MODEL, temperature=0.0, chunk=16)(params, batch)
    plain = logprobs.make_logprob_step(MODEL, temperature=1.0, chunk=16)(params, batch)
    for a, b in zip(greedy, plain, strict=True):
        np.testing.assert_array_equal(a, b)
