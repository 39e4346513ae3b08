"""Dialogues with tools: sampled tokens stay as they are, and the outcome is rewarded."""

import dataclasses
import json
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import (
    DataConfig,
    EnvironmentConfig,
    ModelConfig,
    OptimConfig,
    PpoConfig,
    RewardConfig,
)
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.tokenize.tokenizer import train_byte_bpe
from tl_jax.data.trajectory import Message
from tl_jax.models import functional
from tl_jax.rl import rollout as rl
from tl_jax.rl import tool_loop
from tl_jax.rl.episode import Episode, Feedback, Turn, play
from tl_jax.rl.tool_loop import ToolTurns
from tl_jax.rl.tool_process import open_environment
from tl_jax.sampling.sampler import Generation
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib

NUMBER = Parameter("x", "integer", required=True)
TOOLS = (
    ToolSpec("double", "Doubles.", (NUMBER,)),
    ToolSpec("crash", "Fails."),
    ToolSpec("finish", "Ends.", (Parameter("answer", "string", required=True),)),
)
FILE = "import os\n\ndef double(x): return {'is': 2 * x}\n\ndef crash(): os._exit(1)\n"
DOUBLE, FINISH = ToolCall("double", {"x": 21}), ToolCall("finish", {"answer": "42"})
QUERY = (Message("user", "Double 21."),)
CALL, END = " double(x = 21) ", " finish(answer = '42') "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    turns = [*QUERY, Message("assistant", "", (DOUBLE,)), Message("tool", '{"is": 42}')]
    text = render_sample(TOOLS, [*turns, Message("assistant", "", (FINISH,))]).text
    return train_byte_bpe([text] * 3, 300, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tools(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tools") / "mine.py"
    path.write_text(FILE)
    config = EnvironmentConfig(path=str(path), max_turns=3, max_tokens=200, timeout_s=30.0)
    return ToolTurns(open_environment(config), open_renderer(DataConfig(), tokenizer))


@pytest.fixture(scope="module")
def prompt(tools):
    ids = tools.renderer.prompt_ids(TOOLS, QUERY)
    return Prompt("Turn 1: a", ids, "", TOOLS, (DOUBLE,), {}, 0, (FINISH,))


def reply(tokenizer, text, *, by_letter=False, finished=True):
    """The ids of a reply, in the tokenizer's own way or a token per character."""
    ids, _ = tokenizer.encode_continuation(text)
    if by_letter:
        ids = [tokenizer.encode(letter)[0][0] for letter in text]
    ids = [*ids, tokenizer.eos_id] if finished else ids
    return Generation(ids, [-0.5] * len(ids), finished)


def script(tokenizer, *texts, **form):
    """A sampler that gives every row the same replies in turn, and the contexts it was asked."""
    asked = []

    def sample(turn, rows, contexts):
        asked.append((list(rows), contexts))
        return [reply(tokenizer, texts[turn], **form) for _ in rows]

    return sample, asked


def run(tools, prompts, sample, **limits):
    limits = {"max_turns": 3, "max_tokens": 200, "max_reply": 40, **limits}
    with tools.responses(prompts) as respond:
        return play([p.ids for p in prompts], sample, respond, **limits)


def test_a_dialogue_is_the_text_of_training(tools, tokenizer, prompt):
    sample, asked = script(tokenizer, CALL, END)
    (episode,) = run(tools, [prompt], sample)
    assert [turn.feedback and turn.feedback.texts for turn in episode.turns] == [
        ('{"is": 42}',),
        None,
    ]
    turns = [*QUERY, Message("assistant", "", (DOUBLE,)), Message("tool", '{"is": 42}')]
    whole = tools.renderer.prompt_ids(TOOLS, turns)
    assert asked[1][1] == [whole]
    assert prompt.ids + episode.ids == whole + reply(tokenizer, END).ids
    assert tools.counted(episode, TOOLS) == episode.last
    assert tools.log(episode) == [{"reply": CALL, "results": ['{"is": 42}']}, {"reply": END}]


def test_sampled_tokens_are_never_written_anew(tools, tokenizer, prompt):
    sample, asked = script(tokenizer, CALL, END, by_letter=True)
    (episode,) = run(tools, [prompt], sample)
    spelt = [reply(tokenizer, text, by_letter=True).ids for text in (CALL, END)]
    assert spelt[0] != reply(tokenizer, CALL).ids
    feedback = episode.turns[0].feedback.ids
    assert tokenizer.decode(feedback) == '\nOutput: {"is": 42}\nAssistant:'
    assert episode.ids == [*spelt[0], *feedback, *spelt[1]]
    assert asked[1][1] == [[*prompt.ids, *spelt[0], *feedback]]
    flags = [len(spelt[0]), len(feedback), len(spelt[1])]
    assert episode.sampled == [True] * flags[0] + [False] * flags[1] + [True] * flags[2]
    assert len(episode.logprobs) == flags[0] + flags[2]


@pytest.mark.parametrize(
    "text,results",
    [
        (CALL + "\ndouble(x = 1)", ('{"is": 42}', '{"is": 2}')),
        (
            " double(y = 1, x = 'a')",
            ('{"error": "y is no parameter; x: wrong type, not integer"}',),
        ),
        (" double()", ('{"error": "x is missing"}',)),
        (" triple(x = 1)", ('{"error": "no tool triple is offered"}',)),
        (" crash()", ('{"error": "the tool ended its process"}',)),
    ],
)
def test_calls_are_answered_in_order_and_held_against_their_tools(
    tools, tokenizer, prompt, text, results
):
    sample, _ = script(tokenizer, text, END)
    (episode,) = run(tools, [prompt], sample)
    assert episode.turns[0].feedback.texts == results and len(episode.turns) == 2


@pytest.mark.parametrize(
    "text,form",
    [
        (END, {}),
        (CALL + "\nfinish(answer = '42')", {}),
        (" It is 42.", {}),
        (" double(x = ", {}),
        ("", {}),
        (CALL, {"finished": False}),
    ],
)
def test_a_dialogue_ends_with_what_no_tool_can_answer(tools, tokenizer, prompt, text, form):
    sample, asked = script(tokenizer, text, END, **form)
    (episode,) = run(tools, [prompt], sample)
    assert len(episode.turns) == len(asked) == 1 and episode.turns[0].feedback is None
    assert all(episode.sampled)


def test_turns_and_tokens_are_limited(tools, tokenizer, prompt):
    sample, _ = script(tokenizer, CALL, CALL, CALL, CALL)
    (episode,) = run(tools, [prompt], sample)
    assert len(episode.turns) == 3 and episode.turns[-1].feedback is None
    used = len(episode.turns[0].generation.ids) + len(episode.turns[0].feedback.ids)
    for room, turns in ((used + 40, 2), (used + 39, 1)):
        (episode,) = run(tools, [prompt], sample, max_tokens=room)
        assert len(episode.turns) == turns and len(episode.ids) <= room


def test_a_process_runs_the_tools_of_its_rows_and_all_get_all_results(
    tools, tokenizer, prompt, monkeypatch
):
    me, parts, met = threading.local(), {}, threading.Barrier(2, timeout=60)
    opened: dict[int, int] = {0: 0, 1: 0}

    def join_parts(part):
        parts[me.number] = part
        met.wait()
        joined = [*parts[0], *parts[1]]
        met.wait()
        return joined

    def own_part(count):
        return slice(me.number * count // 2, (me.number + 1) * count // 2)

    def of_process(number):
        me.number = number
        with tools.responses([prompt] * 3) as respond:
            # The middle row has ended, as dialogues do each for itself.
            return [respond([0, 1, 2], said), respond([0, 2], [said[0], said[2]])]

    def session(self):
        opened[me.number] += 1
        return open_session(self)

    open_session = type(tools.environment).session
    monkeypatch.setattr(type(tools.environment), "session", session)
    texts = [CALL, " double(x = 4) ", " double(x = 5) "]
    said = [reply(tokenizer, text) for text in texts]
    alone = types.SimpleNamespace(own_part=lambda count: slice(0, count), join_parts=list)
    shared = types.SimpleNamespace(own_part=own_part, join_parts=join_parts)
    monkeypatch.setattr(tool_loop, "processes", alone)
    expected = of_process(0)
    monkeypatch.setattr(tool_loop, "processes", shared)
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(of_process, (0, 1))) == [expected, expected]
    assert [feedback.texts for feedback in expected[0]] == [
        ('{"is": 42}',),
        ('{"is": 8}',),
        ('{"is": 10}',),
    ]
    assert opened == {0: 3 + 1, 1: 2}


def test_rows_end_each_for_itself():
    said = {0: "aab", 1: "b", 2: "ab"}
    asked = []

    def sample(turn, rows, contexts):
        asked.append((rows, contexts))
        return [Generation([ord(said[row][turn])], [0.0], True) for row in rows]

    def respond(rows, generations):
        return [
            Feedback(("x",), [row]) if g.ids == [97] else None
            for row, g in zip(rows, generations, strict=True)
        ]

    episodes = play([[7], [8], [9]], sample, respond, max_turns=9, max_tokens=99, max_reply=1)
    assert [episode.ids for episode in episodes] == [[97, 0, 97, 0, 98], [98], [97, 2, 98]]
    assert asked[1:] == [([0, 2], [[7, 97, 0], [9, 97, 2]]), ([0], [[7, 97, 0, 97, 0]])]


@pytest.mark.parametrize(
    "texts,counted",
    [
        ([CALL, END], 1),
        ([CALL, " It is 42."], 0),
        ([CALL, ""], 0),
        ([CALL, " double(x = "], 1),
        ([" It is 42."], 0),
    ],
)
def test_the_outcome_counts_and_not_the_words_after_it(tools, tokenizer, texts, counted):
    turns = [Turn(reply(tokenizer, text), Feedback(("1",), [5])) for text in texts]
    turns[-1] = Turn(turns[-1].generation)
    episode = Episode(tuple(turns))
    assert tools.counted(episode, TOOLS) is turns[counted].generation
    cut = Turn(reply(tokenizer, " It is", finished=False))
    assert tools.counted(Episode((turns[0], cut)), TOOLS) is cut.generation


SCRIPTS = [
    [CALL, END],
    [" double(x = 2) ", " finish(answer = '4') "],
    [" double()", CALL, END],
    [" No."],
]
REWARDS = [1.0, -0.25, 1.0, -2.0]
PPO = PpoConfig(samples_per_prompt=4, max_new_tokens=40, whiten_advantages=False, kl_coef=0.5)


@pytest.fixture(scope="module")
def result(tools, tokenizer, prompt):
    """A rollout of one prompt whose samples follow SCRIPTS."""
    said = iter([])

    def sampled(sample, params, contexts, keys, *, length, **_):
        assert max(map(len, contexts)) <= length
        return [reply(tokenizer, next(said)) for _ in contexts]

    def logprob_step(params, batch):
        logprobs = -0.1 * (1 + batch.targets % 7).astype(np.float32)
        return params * logprobs, 0.1 * (batch.tokens % 3).astype(np.float32), -logprobs

    with pytest.MonkeyPatch.context() as patch:
        rounds = [[script[turn] for script in SCRIPTS if len(script) > turn] for turn in range(3)]
        said = iter(sum(rounds, []))
        patch.setattr(rl, "generate", sampled)
        plan = rl.RolloutPlan(
            ppo=PPO,
            reward=RewardConfig(),
            seed=0,
            sample=None,
            logprob_step=logprob_step,
            renderer=tools.renderer,
            prompt_length=-(-len(prompt.ids) // 64) * 64,
            tools=tools,
        )
        policy, reference = np.float32(1.0), np.float32(1.5)
        return rl.rollout(plan, policy, reference, [prompt], step=0, kl_coef=PPO.kl_coef)


def test_the_reward_is_that_of_the_goal(result):
    assert [record["reward"] for record in result.records] == REWARDS
    assert {record["gold"] for record in result.records} == {"finish(answer = '42')"}
    assert [len(record["dialogue"]) for record in result.records] == list(map(len, SCRIPTS))
    assert result.metrics["turns"] == np.mean(list(map(len, SCRIPTS)))
    assert result.records[0]["sampled"] == END and json.dumps(result.records)


def test_only_replies_are_trained_and_the_reward_stands_on_the_last_token(
    result, tokenizer, prompt
):
    rollout, batch = result.batch.rollout, result.batch
    for row, texts in enumerate(SCRIPTS):
        trained = np.flatnonzero(rollout.weights[row])
        ids = sum((reply(tokenizer, text).ids for text in texts), [])
        np.testing.assert_array_equal(batch.targets[row][trained], ids)
        assert trained[0] == len(prompt.ids) - 1
        for field in dataclasses.fields(rollout):
            array = np.asarray(getattr(rollout, field.name)[row])
            assert not np.delete(array, trained).any(), field.name
        # At the last token only its own price is left to come; the price of feedback is never paid.
        price = 0.5 * 0.5 * np.asarray(rollout.old_logprobs[row])[trained]
        due = REWARDS[row] + np.cumsum(price[::-1])[::-1]
        np.testing.assert_allclose(np.asarray(rollout.returns[row])[trained], due, atol=1e-4)


def test_what_tools_say_is_no_target_of_any_loss(result, tokenizer):
    model = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        embed_dim=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        mlp_dim=16,
    )
    params = functional.init(model, jax.random.key(0), value_head=True)
    optimizer = optim.make_optimizer(
        OptimConfig(schedule="constant", warmup_steps=0), 4, value_learning_rate=1e-2
    )
    loss = step_lib.LossConfig(
        ce_coef=0,
        reward_coef=1,
        value_coef=1,
        kl_estimator="k3",
        ce_chunk=0,
        ppo=PpoConfig(entropy_coef=0.1),
    )
    step = jax.jit(step_lib.make_train_step(model, loss, optimizer))
    batch = jax.device_get(result.batch)
    unsampled = batch.rollout.weights == 0
    spoilt = batch.replace(
        targets=np.where(unsampled, 5, batch.targets),
        rollout=jax.tree.map(lambda x: np.where(unsampled, np.nan, x), batch.rollout).replace(
            weights=batch.rollout.weights
        ),
    )
    assert (spoilt.targets != batch.targets).any()
    state = step_lib.init_state(params, optimizer, kl_coef=0.1)
    for first, second in zip(
        jax.tree.leaves(step(state, batch)), jax.tree.leaves(step(state, spoilt)), strict=True
    ):
        np.testing.assert_array_equal(first, second)
