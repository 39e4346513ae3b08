"""Long samples lose the middle of feedback, then old turns; never what the reply rests on."""

import dataclasses
import itertools

import pytest
from template_cases import make_tokenizer, renderer_of

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.examples.truncate import ELIDED, fit, old_parts
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.render.chat_template import Dialogue
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Message, Trajectory

FIND = ToolSpec("find", "Finds.")
FILLER = "filler " * 50


def exchange(number, steps=1):
    """A question, some calls with their results, an answer; each with a text of its own."""
    turns = [Message("user", f"question {number} ?")]
    for step in range(steps):
        turns.append(Message("assistant", "", (ToolCall("find", {"what": f"q{number}{step}"}),)))
        turns.append(
            Message(
                "tool", f"result {number}.{step} " + FILLER + f"end {number}.{step}", status="ok"
            )
        )
    return [*turns, Message("assistant", f"answer {number} .")]


LONG = Trajectory(
    "long",
    (FIND,),
    (Message("system", "Be brief."), *exchange(1), *exchange(2), *exchange(3, steps=3)),
)
LAST = len(LONG.messages) - 1


@pytest.fixture(scope="module", params=["released", "chat"])
def form(request):
    return {"template": request.param}


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("chatml")


def fitted(tokenizer, form, max_length, message=LAST, trajectory=LONG):
    renderer = renderer_of(tokenizer, **form)
    encoded = renderer.encode_trajectory(trajectory)
    return fit(trajectory, message, renderer, encoded, max_length=max_length)


def size(tokenizer, form, trajectory=LONG):
    return len(renderer_of(tokenizer, **form).encode_trajectory(trajectory).ids)


def test_what_is_left_out_grows_in_the_order_of_the_policy(tokenizer, form):
    whole = size(tokenizer, form)
    seen = []
    for limit in range(whole, 0, -16):
        result = fitted(tokenizer, form, limit)
        if result.sample is None:
            break
        assert len(result.sample.ids) <= limit
        text = result.sample.rendered.text
        assert "def find" in text or '"find"' in text
        assert all(part in text for part in ("Be brief.", "question 1 ?", "answer 1 ."))
        assert text[slice(*span_of(result))].strip() == "answer 3 ."
        turns = [name for name in ("q10", "question 2 ?") if name in text]
        assert turns == ["q10", "question 2 ?"][2 - len(turns) :]
        # head and tail of every result that is there
        left = [name for name in RESULTS if f"result {name}" in text]
        assert left == RESULTS[len(RESULTS) - len(left) :]
        assert all(f"end {name}" in text for name in left)
        cut = [name for name in left if name not in uncut(text)]
        assert len(cut) == result.elided == text.count(ELIDED)
        # those that the answer does not rest on are cut first, the oldest of them first
        assert cut == left[: len(cut)]
        assert not result.dropped or cut[: len(left) - 3] == left[:-3]
        # the answer rests on all that came since the question
        assert left[-3:] == RESULTS[-3:] and all(q in text for q in ("q30", "q31", "q32"))
        seen.append((result.elided, result.dropped))
    assert seen[0] == (0, 0) and seen[-1] == (3, 6)
    assert sorted(seen, key=lambda pair: (pair[1], pair[0] * (not pair[1]))) == seen
    assert {dropped for _, dropped in seen} == {0, 2, 6}


RESULTS = ["1.0", "2.0", "3.0", "3.1", "3.2"]


def uncut(text):
    return [name for name in RESULTS if f"result {name} {FILLER}end {name}" in text]


def span_of(result):
    reply = result.sample.rendered.replies[-1]
    return reply.start, reply.stop


def test_a_shortened_sample_keeps_the_numbers_of_the_trajectory(tokenizer, form):
    result = fitted(tokenizer, form, size(tokenizer, form) // 3)
    assert result.dropped
    reply = result.sample.rendered.replies[-1]
    turns = [i for i, m in enumerate(LONG.messages) if m.role == "assistant"]
    assert (reply.message, reply.turn) == (LAST, turns.index(LAST) + 1)
    assert result.sample.borders[LAST][1] == len(result.sample.ids)


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_examples_and_prompts_are_shortened_alike_and_say_so(tokenizer, form, samples):
    renderer = renderer_of(tokenizer, samples=samples, **form)
    limit = {"max_length": size(tokenizer, form) // 3}
    labels = label_turns(LONG, "structured")
    examples, skipped = build_examples(
        LONG, labels, renderer, key_tokens=KeyTokenConfig(mode="off"), **limit
    )
    prompts, _ = build_prompts(LONG, labels, renderer, **limit)
    trained = [turn for example in examples for turn in example.tags["turns"].split(",")]
    assert len(trained) + len(skipped) == len(labels)
    assert any(example.tags.get("elided", "0") != "0" for example in examples)
    if samples == "per_turn":
        assert not skipped and any("dropped_messages" in example.tags for example in examples)
        by_id = {example.id: example for example in examples}
        for prompt in prompts:
            assert by_id[prompt.id].ids[: len(prompt.ids)] == prompt.ids
    else:
        # every reply of the one text is trained: none can be left out
        assert not any("dropped_messages" in example.tags for example in examples)


def test_results_stay_with_their_calls_when_turns_go(tokenizer):
    calls = tuple(ToolCall("find", {"what": text}) for text in ("a", "b"))
    step = (Message("assistant", "", calls), Message("tool", "A " * 30), Message("tool", "B"))
    turns = (Message("user", "which?"), *step, *step, Message("assistant", "both"))
    assert old_parts(turns) == [[1, 2, 3], [4, 5, 6]]
    assert old_parts((turns[0], turns[-1])) == []
    # a reply is never left alone
    assert old_parts(turns[1:]) == [[0, 1, 2]]
    assert old_parts((Message("system", "Act."), *turns[1:])) == [[1, 2, 3], [4, 5, 6]]


ASKED = (
    ("user", "Book a table in Rome."),
    ("call", "find"),
    ("tool", "2 found"),
    ("assistant", "Booked."),
    ("user", "Now a train."),
    ("assistant", "To which town?"),
    ("user", "Pisa"),
    ("call", "find"),
    ("tool", "3 found"),
    ("call", "ask_to_user"),
    ("user", "second class"),
    ("call", "book"),
    ("tool", "done"),
    ("assistant", "All is booked."),
)


def turns_of(rows):
    calls = {"call": lambda text: Message("assistant", "", (ToolCall(text),))}
    return [calls.get(role, lambda text, r=role: Message(r, text))(text) for role, text in rows]


@pytest.mark.parametrize("lead", [(), (("system", "Be brief."),), (("assistant", "Hello!"),)])
def test_an_answer_to_a_question_is_no_request_and_stays_with_the_question(lead):
    turns = turns_of((*lead, *ASKED))
    size = len(lead)
    parts = [[1, 2], [5, 6], [7, 8], [11, 12]]
    moved = [[place + size for place in part] for part in parts]
    assert old_parts(turns) == [*([[0]] if lead and lead[0][0] == "assistant" else []), *moved]
    # before the second request is made, the first is answered
    assert old_parts(turns[: size + 4])[-1] == [size + 1, size + 2]


def test_no_two_user_turns_meet_when_turns_go():
    for messages in (turns_of(ASKED), LONG.messages):
        left_out = set()
        for part in old_parts(messages):
            left_out.update(part)
            roles = [m.role for place, m in enumerate(messages) if place not in left_out]
            assert ("user", "user") not in itertools.pairwise(roles)


def test_the_first_request_stays_where_only_the_answer_to_a_question_would_be_left(tokenizer, form):
    rows = (("user", "Book a train."), ("assistant", "Where to?"), ("user", "Pisa"))
    steps = (("call", "find"), ("tool", "3 found")) * 12
    again = (
        ("assistant", "Which class?"),
        ("user", "second"),
        *steps[:2],
        ("assistant", "Booked."),
    )
    asked = Trajectory("asked", (FIND,), tuple(turns_of((*rows, *steps, *again))))
    last = len(asked.messages) - 1
    result = fitted(tokenizer, form, 2 * size(tokenizer, form, asked) // 3, last, asked)
    assert result.dropped
    assert all(text in result.sample.rendered.text for _, text in (rows[0], *again[:2]))


def test_nothing_is_cut_that_is_about_as_short_as_what_would_be_left(tokenizer, form):
    messages = tuple(
        dataclasses.replace(m, content="word " * 9) if m.role == "tool" else m
        for m in LONG.messages
    )
    short = dataclasses.replace(LONG, messages=messages)
    result = fitted(tokenizer, form, size(tokenizer, form, short) - 1, trajectory=short)
    assert result.elided == 0 and result.dropped == 2
    assert ELIDED not in result.sample.rendered.text


class Forgetful(Renderer):
    """Writes every text from its start."""

    def encode(self, tools, messages, **remembered):
        return super().encode(tools, messages)


def plainly(renderer, trajectory, message, limit):
    """Ids of the fitted sample, None if there is none; nothing is remembered."""
    alone = dataclasses.replace(trajectory, messages=trajectory.messages[: message + 1])
    forgetful = Forgetful(**vars(renderer))
    encoded = forgetful.encode(alone.tools, alone.messages)
    sample = fit(alone, message, forgetful, encoded, max_length=limit).sample
    return None if sample is None else sample.ids


@pytest.mark.parametrize("family", ["released", "chatml", "thinking", "headers", "brackets"])
def test_what_is_remembered_changes_nothing(family):
    released = family == "released"
    tokenizer = make_tokenizer("chatml" if released else family)
    renderer = renderer_of(tokenizer, "released" if released else "chat")
    messages = LONG.messages if family != "brackets" else LONG.messages[1:]
    quoting = Message("tool", '"\n" <|im_end|> [/INST] ' * 19)
    row = dataclasses.replace(LONG, messages=(*messages[:-4], quoting, *messages[-3:]))
    encoded = renderer.encode_trajectory(row)
    for limit in range(len(encoded.ids) + 1, 40, -97):
        for index, message in enumerate(row.messages):
            if message.role == "assistant":
                sample = fit(row, index, renderer, encoded, max_length=limit).sample
                found = None if sample is None else sample.ids
                assert found == plainly(renderer, row, index, limit)


@pytest.mark.parametrize("family", ["chatml", "thinking"])
def test_the_text_written_for_a_dialogue_grows_with_the_square_of_its_length(family, monkeypatch):
    tokenizer = make_tokenizer(family)
    written = []
    write = Dialogue.write

    def counted(self, *args, **kwargs):
        text = write(self, *args, **kwargs)
        written.append(len(text))
        return text

    monkeypatch.setattr(Dialogue, "write", counted)
    renderer = renderer_of(tokenizer, "chat")
    costs = []
    for exchanges in (16, 32):
        turns = itertools.chain(*(exchange(number) for number in range(exchanges)))
        row = Trajectory("t", (FIND,), tuple(turns))
        written.clear()
        encoded = renderer.encode_trajectory(row)
        for index, message in enumerate(row.messages):
            if message.role == "assistant":
                assert fit(row, index, renderer, encoded, max_length=400).sample
        costs.append(sum(written))
    assert costs[1] < 4.5 * costs[0]
