"""Replies are generated once and scored by every rule; nothing that is no call counts."""

import dataclasses

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.evaluate import tasks as tasks_lib
from tl_jax.evaluate.compare_runs import paired_gains
from tl_jax.evaluate.scores import MISS, TurnScore, score_call
from tl_jax.evaluate.tasks import TaskSet, evaluate
from tl_jax.sampling.sampler import Generation

EOS, PAD = 1, 2
NEW_TOKENS = 12
GOLDS = {"a": ToolCall("f", {"x": 1}), "b": ToolCall("finish", {"answer": "yes"})}
RIGHT = {"a": "f(x=1)", "b": "finish(a=2)"}


class Letters:
    """Every token is a character; 2 is a control token."""

    def decode(self, ids, *, keep_control=False):
        text = "".join("<|pad|>" if i == PAD else chr(i) for i in ids)
        return text if keep_control else text.replace("<|pad|>", "")


RENDERER = Renderer(Letters(), "released", "per_trajectory", None)


def prompt(letter, number=0):
    return Prompt(f"{letter}{number}", [ord(letter)], letter, (), (GOLDS[letter],), {})


def answering(replies, seen):
    """Answer each prompt by its letter."""

    def generate(sample, params, prompts, keys, *, batch_size, constraints, on_done):
        seen.append((batch_size, constraints))
        generations = []
        for number, prompt in enumerate(prompts, start=1):
            ids = [*map(ord, replies[chr(prompt[0])]), EOS]
            kept = ids[:NEW_TOKENS]
            generations.append(Generation(kept, [0.0] * len(kept), kept == ids))
            on_done(number)
        return generations

    return generate


def plain(call, prompt):
    return score_call(call, prompt.golds)


def scored(tasks, replies, **options):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks_lib, "generate", answering(replies, seen))
        summaries, records = evaluate(
            tasks, None, sample=None, renderer=RENDERER, batch_size=2, **options
        )
    return summaries, records, seen


def test_groups_are_summarised_apart_and_skipped_prompts_count_in_theirs():
    tasks = TaskSet(
        "toy",
        tuple(prompt(letter, i) for i, letter in enumerate("aab")),
        plain,
        skipped=(prompt("a", 9),),
        group=lambda prompt: prompt.id[0],
    )
    summaries, records, _ = scored(tasks, RIGHT)
    summary = summaries["toy"]
    assert summary["items"] == 4 and summary["too_long"] == 1
    assert summary["ts"]["percent"] == 75 and summary["cf"]["percent"] == 50
    assert summary["groups"]["a"]["items"] == 3
    assert summary["groups"]["a"]["cf"]["percent"] == pytest.approx(200 / 3)
    assert summary["groups"]["b"]["ts"]["percent"] == 100
    assert summary["groups"]["b"]["cf"]["percent"] == 0
    assert summary["parsed_percent"] == 75


def test_records_have_the_items_of_the_summary_those_that_are_skipped_as_wrong():
    tasks = TaskSet(
        "toy",
        (prompt("a"), prompt("b")),
        plain,
        skipped=(prompt("a", 9),),
        group=lambda prompt: prompt.id[0],
    )
    summaries, records, _ = scored(tasks, RIGHT)
    assert [record["prompt_id"] for record in records] == ["a9", "a0", "b0"]
    assert records[0] == {
        **{"set": "toy", "group": "a", "prompt_id": "a9", "reply": "", "gold": ["f(x = 1)"]},
        **{"parsed": False, "ts": False, "pi": False, "cf": False},
    }
    gains, summary = paired_gains(records, records)["toy"], summaries["toy"]
    assert gains["items"] == summary["items"] == 3
    assert gains["cf"]["after"] == pytest.approx(summary["cf"]["percent"])
    assert gains["groups"]["a"]["items"] == summary["groups"]["a"]["items"] == 2


def test_a_set_of_which_every_prompt_is_skipped_is_all_wrong():
    summaries, records, _ = scored(TaskSet("toy", (), plain, skipped=(prompt("a"),)), RIGHT)
    assert summaries["toy"]["ts"]["percent"] == 0 and len(records) == 1


def test_another_rule_scores_the_same_replies():
    never = {"toy (never)": lambda call, prompt: MISS}
    tasks = TaskSet("toy", (prompt("a"),), plain, other_rules=never)
    summaries, records, seen = scored(tasks, RIGHT)
    assert seen == [(2, ())]
    assert summaries["toy"]["cf"]["percent"] == 100
    assert summaries["toy (never)"]["items"] == 1
    assert summaries["toy (never)"]["ts"]["percent"] == 0
    assert TurnScore(*(records[0][name] for name in ("ts", "pi", "cf"))).cf


def test_generated_tokens_are_counted_and_give_the_speed():
    summaries, _, _ = scored(TaskSet("toy", (prompt("a"), prompt("b")), plain), RIGHT)
    summary = summaries["toy"]
    assert summary["tokens"] == len("f(x=1)") + len("finish(a=2)") + 2
    assert summary["tokens_per_s"] == pytest.approx(summary["tokens"] / summary["seconds"])


@pytest.mark.parametrize(
    "reply", ["f(x=1)\x02", "f(\x02x=1)", "f(x=1) and more", "f(x=1" + " " * 20 + ")"]
)
def test_a_reply_with_a_control_token_or_without_an_end_is_no_call(reply):
    summaries, records, _ = scored(TaskSet("toy", (prompt("a"),), plain), {"a": reply})
    assert summaries["toy"]["ts"]["percent"] == 0 and not records[0]["parsed"]
    assert ("<|pad|>" in records[0]["reply"]) == ("\x02" in reply)


def test_every_prompt_is_guided_by_its_own_tools():
    prompts = tuple(dataclasses.replace(prompt(x), tools=(x,)) for x in "ab")
    done = []
    tasks = TaskSet("toy", prompts, plain)
    _, _, seen = scored(
        tasks, RIGHT, constrain=lambda tools: f"constraint of {tools[0]}", on_done=done.append
    )
    assert seen == [(2, ["constraint of a", "constraint of b"])] and done == [1, 2]
