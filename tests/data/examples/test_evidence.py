"""No reply is trained, and no prompt asked, without the results that it rests on."""

import itertools

import pytest
from template_cases import make_tokenizer, renderer_of

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.examples.evidence import evidence, newest_results
from tl_jax.data.importers import read
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.trajectory import Message, Trajectory

TOOL = ToolSpec("find", "Finds.")


def dialogue(name, kinds):
    """Turns by their letters: user, call, two Calls, result, long Result, answer, question?"""
    turns = []
    for number, kind in enumerate(kinds):
        texts = {
            "u": f"ask{number} please",
            "r": f"head{number} tail{number}",
            "R": f"head{number} " + f"middle{number} " * 60 + f"tail{number}",
            "a": f"answer{number}",
            "?": f"which{number}?",
        }
        count = {"c": 1, "C": 2}.get(kind, 0)
        calls = tuple(ToolCall("find", {"what": f"q{number}{n}"}) for n in range(count))
        role = {"u": "user", "r": "tool", "R": "tool"}.get(kind, "assistant")
        status = "ok" if role == "tool" else ""
        turns.append(Message(role, texts.get(kind, ""), calls, status))
    return Trajectory(name, (TOOL,), tuple(turns))


DIALOGUES = {
    kinds: dialogue(kinds, kinds)
    for kinds in ("ucRa", "ucRcRcRa", "uCRRa", "ucRaucRaucra", "ucRau?ucRcrau?ua", "uacRcrauCrRcRa")
}


def test_a_reply_rests_on_what_came_since_the_user_spoke_and_on_the_newest_results():
    turns = DIALOGUES["ucRau?ucRcrau?ua"].messages
    assert evidence(turns[:2]) == set() and newest_results(turns[:2]) == range(0)
    assert evidence(turns[:4]) == {1, 2}
    assert evidence(turns[:6]) == {1, 2}  # answers a new question
    assert evidence(turns[:12]) == {7, 8, 9, 10}
    assert evidence(turns) == {9, 10}
    assert newest_results(DIALOGUES["uCRRa"].messages) == range(2, 4)
    assert evidence(DIALOGUES["uCRRa"].messages) == {1, 2, 3}


def check(text, trajectory, message):
    """Hold a text that ends with the reply at ``message`` or asks for it against its evidence."""
    before = trajectory.messages[: message + 1]
    newest = newest_results(before)
    for place in sorted({*newest, *evidence(before)} | ({newest.start - 1} if newest else set())):
        turn = trajectory.messages[place]
        if turn.role == "tool":
            assert turn.content.split()[0] in text and turn.content.split()[-1] in text
        for call in turn.calls:
            assert all(str(value) in text for value in call.arguments.values())


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
@pytest.mark.parametrize("family", ["released", "chatml"])
def test_what_a_reply_rests_on_stands_in_its_sample_or_it_is_left_out_and_told(samples, family):
    tokenizer = make_tokenizer("chatml")
    renderer = renderer_of(tokenizer, "chat" if family == "chatml" else family, samples=samples)
    reasons = set()
    for trajectory in DIALOGUES.values():
        labels = label_turns(trajectory, "structured")
        kept = {label.turn: label.message for label in labels if label.kept}
        encoded = renderer.encode_trajectory(trajectory)
        shares = set()
        for limit in (*range(50, 450, 50), len(encoded.ids) // 2, len(encoded.ids)):
            arguments = {"max_length": limit, "encoded": encoded}
            examples, skipped = build_examples(
                trajectory, labels, renderer, key_tokens=KeyTokenConfig(mode="off"), **arguments
            )
            trained = []
            for example in examples:
                turns = [kept[int(turn)] for turn in example.tags["turns"].split(",")]
                trained += turns
                assert len(example.ids) <= limit
                for message in turns:
                    check(tokenizer.decode(example.ids), trajectory, message)
            assert len(trained) + len(skipped) == len(kept)
            shares.add(len(trained))
            reasons |= {entry.reason.partition("=")[2].partition(" ")[2] for entry in skipped}
            prompts, _ = build_prompts(trajectory, labels, renderer, no_call=True, **arguments)
            for prompt in prompts:
                turn = int(prompt.id.removeprefix("Turn ").partition(":")[0])
                check(prompt.text, trajectory, kept[turn])
        assert len(kept) in shares and len(shares) > 1
    assert reasons == {"", "with the calls and results that it rests on"}


def test_rows_with_overlong_turns_lose_no_evidence(import_cases):
    trajectories = list(read(import_cases / "long_evidence.jsonl"))
    tokenizer = make_tokenizer("chatml")
    for samples, limit in itertools.product(("per_turn", "per_trajectory"), (256, 320, 400)):
        renderer = renderer_of(tokenizer, "chat", samples=samples)
        for trajectory in trajectories:
            labels = label_turns(trajectory, "structured")
            kept = {label.turn: label.message for label in labels if label.kept}
            examples, skipped = build_examples(
                trajectory,
                labels,
                renderer,
                key_tokens=KeyTokenConfig(mode="off"),
                max_length=limit,
            )
            turns = [t for example in examples for t in example.tags["turns"].split(",")]
            assert len(turns) + len(skipped) == len(kept)
            assert skipped or trajectory.id == "long_history"
            for example in examples:
                for turn in example.tags["turns"].split(","):
                    check(tokenizer.decode(example.ids), trajectory, kept[int(turn)])
