"""Replies are generated once and judged by the suite; nothing that is no call counts."""

import dataclasses

import pytest

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.render.renderer import Renderer
from tl_jax.evaluate import tasks as tasks_lib
from tl_jax.evaluate.compare_runs import paired_gains
from tl_jax.evaluate.suites.suite import Item, Suite, Verdict, answers, judge_calls
from tl_jax.evaluate.tasks import TaskSet, evaluate, task_set
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
TOY = Suite("toy", lambda path: ())


def item(letter, number=0):
    return Item(f"{letter}{number}", (), (), answers(GOLDS[letter]), {"group": letter})


def tasks_of(letters, skipped=(), suite=TOY):
    items = tuple(item(letter, number) for number, letter in enumerate(letters))
    return TaskSet(suite, items, tuple((ord(letter),) for letter in letters), tuple(skipped))


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


def judged(tasks, replies, **options):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks_lib, "generate", answering(replies, seen))
        sets, scores, records = evaluate(
            tasks, None, sample=None, renderer=RENDERER, batch_size=2, **options
        )
    return sets, scores, records, seen


def test_groups_are_summarised_apart_and_skipped_prompts_count_in_theirs():
    sets, scores, *_ = judged(tasks_of("aab", [item("a", 9)]), RIGHT)
    summary = sets["toy"]
    assert summary["items"] == 4 and summary["too_long"] == 1
    assert summary["ts"]["percent"] == 75 and summary["cf"]["percent"] == 50
    assert summary["groups"]["a"]["items"] == 3
    assert summary["groups"]["a"]["cf"]["percent"] == pytest.approx(200 / 3)
    assert summary["groups"]["b"]["ts"]["percent"] == 100
    assert summary["groups"]["b"]["cf"]["percent"] == 0
    assert summary["parsed_percent"] == 75
    assert scores["counts"]["a/cf"] == [2, 3] and scores["scores"]["ts"] == 75
    assert scores["intervals"]["cf"][0] == pytest.approx(15.0039)  # Wilson, of 2 in 4
    assert scores["problems"] == {"the prompt is too long": 1}
    wanted = {"all_right": 2, "format_error": 1, "parameter_hallucination": 1}
    assert scores["categories"] == wanted


def test_records_have_the_items_of_the_summary_those_that_are_skipped_as_wrong():
    sets, _, records, _ = judged(tasks_of("ab", [item("a", 9)]), RIGHT)
    assert [record["id"] for record in records] == ["a9", "a0", "b1"]
    assert records[0] == {
        **{
            "set": "toy",
            "group": "a",
            "id": "a9",
            "request": "",
            "reply": "",
            "gold": ["f(x = 1)"],
        },
        **{"parsed": False, "category": "format_error", "detail": "the prompt is too long"},
        **{"ts": False, "pi": False, "cf": False},
    }
    gains, summary = paired_gains(records, records)["toy"], sets["toy"]
    assert gains["items"] == summary["items"] == 3
    assert gains["cf"]["after"] == pytest.approx(summary["cf"]["percent"])
    assert gains["groups"]["a"]["items"] == summary["groups"]["a"]["items"] == 2


def test_a_set_of_which_every_prompt_is_skipped_is_all_wrong():
    sets, _, records, _ = judged(tasks_of("", [item("a")]), RIGHT)
    assert sets["toy"]["ts"]["percent"] == 0 and len(records) == 1


def test_the_scores_of_another_rule_are_a_set_of_their_own():
    def judge(item, reply, read):
        found = judge_calls(item, reply, read)
        never = {f"never_right/{name}": False for name in found.scores}
        return Verdict({**found.scores, **never})

    suite = dataclasses.replace(TOY, judge=judge)
    sets, scores, records, seen = judged(tasks_of("a", suite=suite), RIGHT)
    assert seen == [(2, ())]
    assert sets["toy"]["cf"]["percent"] == 100
    assert sets["toy (never right rule)"]["items"] == 1
    assert sets["toy (never right rule)"]["ts"]["percent"] == 0
    assert records[0]["cf"] and not records[0]["never_right/cf"]
    assert scores["scores"]["never_right/cf"] == 0


def test_generated_tokens_are_counted_and_give_the_speed():
    sets, *_ = judged(tasks_of("ab"), RIGHT)
    summary = sets["toy"]
    assert summary["tokens"] == len("f(x=1)") + len("finish(a=2)") + 2
    assert summary["tokens_per_s"] == pytest.approx(summary["tokens"] / summary["seconds"])


@pytest.mark.parametrize(
    "reply", ["f(x=1)\x02", "f(\x02x=1)", "f(x=1) and more", "f(x=1" + " " * 20 + ")"]
)
def test_a_reply_with_a_control_token_or_without_an_end_is_no_call(reply):
    sets, _, records, _ = judged(tasks_of("a"), {"a": reply})
    assert sets["toy"]["ts"]["percent"] == 0 and not records[0]["parsed"]
    assert ("<|pad|>" in records[0]["reply"]) == ("\x02" in reply)


def test_every_prompt_is_guided_by_its_own_tools():
    tasks = tasks_of("ab")
    items = tuple(dataclasses.replace(one, tools=(ToolSpec(one.id),)) for one in tasks.items)
    done = []
    *_, seen = judged(
        dataclasses.replace(tasks, items=items),
        RIGHT,
        constrain=lambda tools: f"constraint of {tools[0].name}",
        on_done=done.append,
    )
    assert seen == [(2, ["constraint of a0", "constraint of b1"])] and done == [1, 2]


def test_prompts_that_are_prepared_are_asked_as_they_are():
    prepared = dataclasses.replace(item("a"), ids=(97, 97))
    tasks = task_set(
        TOY, [prepared, dataclasses.replace(prepared, ids=(9,) * 5)], None, max_prompt_length=3
    )
    assert tasks.prompts == ((97, 97),) and len(tasks.skipped) == 1
