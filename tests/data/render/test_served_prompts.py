"""What is trained is what is served: exported templates, thoughts, tools as given, stop tokens."""

import json
import types

import pytest
import template_cases as cases
from template_cases import FAMILIES, make_tokenizer, renderer_of

from tl_jax.calls.call import ToolCall, tool_from_schema
from tl_jax.config import DataConfig, KeyTokenConfig
from tl_jax.data.examples.build import build_examples
from tl_jax.data.importers.openai import trajectory as read_openai
from tl_jax.data.mae.labels import TurnLabel
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.publish.export import _chat_template

ENTRY = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"what": {"$ref": "#/$defs/W"}, "n": {"type": ["integer", "null"]}},
            "additionalProperties": False,
            "$defs": {"W": {"type": "string"}},
        },
    },
}
TOOLS = (tool_from_schema(ENTRY),)
CALL = ToolCall("find", {"what": "x", "n": None})
TURNS = (
    Message("user", "Where?"),
    Message("assistant", "", (CALL,), thoughts="I look it up."),
    Message("tool", "here"),
    Message("assistant", "", (ToolCall("find", {"what": "y"}),), thoughts="Once more."),
    Message("tool", "there"),
    Message("assistant", "Here and there.", thoughts="That is all."),
)
REPLIES = (1, 3, 5)
CHAT = [
    {"role": "user", "content": "Where?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "type": "function",
                "id": "call00000",
                "function": {"name": "find", "arguments": dict(CALL.arguments)},
            }
        ],
    },
    {"role": "tool", "content": "here", "name": "find", "tool_call_id": "call00000"},
]


def opened(family, thoughts=False, samples="per_turn", settings=()):
    data = DataConfig(
        template="chat", samples=samples, train_thoughts=thoughts, template_settings=settings
    )
    return open_renderer(data, make_tokenizer(family))


@pytest.mark.parametrize("thoughts", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_template_that_is_exported_writes_the_trained_prompts(family, thoughts):
    renderer = opened(family, thoughts)
    fast = renderer.tokenizer.fast
    fast.chat_template = renderer.chat.source
    for count in (1, 3):
        served = fast.apply_chat_template(
            CHAT[:count], tools=[ENTRY], add_generation_prompt=True, return_dict=False
        )
        assert renderer.prompt_ids(TOOLS, TURNS[:count]) == served
        sample = renderer.encode(TOOLS, TURNS[: count + 1])
        assert sample.ids[: sample.borders[count][0]] == served


@pytest.mark.parametrize("family", FAMILIES)
def test_every_turn_is_trained_once_whatever_the_text_rewrites(family):
    row = Trajectory("t", TOOLS, TURNS)
    labels = [TurnLabel(i, number, "keep") for number, i in enumerate(REPLIES, start=1)]
    off = KeyTokenConfig(mode="off")
    found = {}
    for samples in ("per_turn", "per_trajectory"):
        renderer = opened(family, samples=samples)
        examples, skipped = build_examples(row, labels, renderer, key_tokens=off, max_length=4096)
        assert not skipped
        found[samples] = sorted(
            tuple(e.ids[start:end]) for e in examples for start, end in runs(e.weights)
        )
        turns = sorted(turn for e in examples for turn in e.tags["turns"].split(","))
        assert turns == ["1", "2", "3"] and examples[-1].id.endswith("t")
    assert found["per_turn"] == found["per_trajectory"]


def runs(weights):
    trained = [False, *map(bool, weights), False]
    edges = [i - 1 for i in range(1, len(trained)) if trained[i] != trained[i - 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def reply_of(renderer, turns):
    rendered = renderer.encode(TOOLS, turns).rendered
    reply = rendered.replies[-1]
    return rendered.text[: reply.start], rendered.text[reply.start : reply.stop]


PLACES = {"hybrid": "<think>\n", "opening": ""}


@pytest.mark.parametrize("family", FAMILIES)
def test_thoughts_are_written_where_the_template_has_their_place_or_left_out_and_counted(family):
    off, on = opened(family), opened(family, True)
    for count in REPLIES:
        turn = TURNS[count]
        _, plain = reply_of(off, TURNS[: count + 1])
        assert turn.thoughts not in plain and off.left_out(turn) == ["thoughts"]
        before, reply = reply_of(on, TURNS[: count + 1])
        if family in PLACES:
            assert reply.startswith(f"{PLACES[family]}{turn.thoughts}\n</think>\n\n")
            assert on.left_out(turn) == []
            assert before.endswith("assistant\n<think>\n" if family == "opening" else "assistant\n")
        else:
            assert turn.thoughts not in reply and on.left_out(turn) == ["thoughts"]
        assert on.parse(reply) == turn.calls == off.parse(plain)
    released = renderer_of(make_tokenizer(family))
    assert released.left_out(Message("assistant", "So.", (CALL,), thoughts="Hm.")) == [
        "thoughts",
        "words before calls",
    ]


def test_a_thought_that_quotes_its_end_is_no_reply():
    turn = Message("assistant", "", (CALL,), thoughts="a </think> b <tool_call>")
    with pytest.raises(ValueError, match="calls that the chat template writes"):
        opened("hybrid", True).encode(TOOLS, (TURNS[0], turn))


def test_settings_of_the_template_are_those_given():
    on = opened("thinking", settings=("enable_thinking=true",))
    assert on.chat.fixed == {"enable_thinking": True}
    assert on.render_prompt(TOOLS, TURNS[:1]).text.endswith("assistant\n")
    assert opened("thinking").chat.fixed == {"enable_thinking": False}
    assert on.chat.fingerprint != opened("thinking").chat.fingerprint


def test_tools_are_written_as_their_source_declares_them(import_cases):
    tokenizer = make_tokenizer("chatml")
    renderer = renderer_of(tokenizer, "chat")
    for line in (import_cases / "schemas.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        trajectory = read_openai(row, source="s", line=0)
        served = tokenizer.fast.apply_chat_template(
            row["messages"][:1], tools=row["tools"], add_generation_prompt=True, tokenize=False
        )
        prompt = renderer.render_prompt(trajectory.tools, trajectory.messages[:1]).text
        assert prompt == served
        paper = renderer_of(tokenizer).render_prompt(trajectory.tools, trajectory.messages[:1])
        assert "$ref" not in paper.text
        schemas = [p.schema for tool in trajectory.tools for p in tool.parameters]
        assert "$ref" not in json.dumps(schemas)


def test_generation_stops_also_on_what_the_model_says():
    tokenizer = make_tokenizer("headers")
    more = (tokenizer.token_id("<|start_header_id|>"), tokenizer.eos_id)
    for template in ("chat", "released"):
        renderer = open_renderer(DataConfig(template=template), tokenizer, more_stops=more)
        assert renderer.stop_ids == (tokenizer.eos_id, more[0])


def test_a_reply_without_an_end_of_its_own_is_ended_by_the_role_that_follows():
    renderer = opened("unended")
    ids = [renderer.encode(TOOLS, TURNS[: count + 1]).ids[-1] for count in REPLIES]
    token = renderer.tokenizer.token_id
    assert ids == [token("<|observation|>"), token("<|observation|>"), token("<|user|>")]
    assert {*ids} < {*renderer.stop_ids}


def test_names_may_be_a_part_of_the_ids_of_calls():
    names = ("calls_section_begin", "call_begin", "call_argument_begin", "call_end")
    tags = tuple(f"<|tool_{name}|>" for name in (*names, "calls_section_end"))
    tokenizer = make_tokenizer("chatml", template=cases.NAMED_IDS, tags=(*cases.TAGS, *tags))
    renderer = renderer_of(tokenizer, "chat")
    _, reply = reply_of(renderer, TURNS[:4])
    assert renderer.parse(reply) == TURNS[3].calls and "functions.find:1" in reply


def exported(tokenizer, template, phase="supervised"):
    renderer = renderer_of(tokenizer, template)
    run = types.SimpleNamespace(renderer=renderer, tokenizer=tokenizer, newest_phase=lambda: phase)
    return renderer, _chat_template(run)


@pytest.mark.parametrize("family", ["chatml", "brackets"])
def test_the_models_own_files_stay_where_nothing_is_fixed(family):
    assert exported(make_tokenizer(family), "auto")[1] is None


@pytest.mark.parametrize("family", ["thinking", "headers"])
def test_what_was_fixed_stands_in_the_exported_template(family):
    tokenizer = make_tokenizer(family)
    own = tokenizer.fast.chat_template
    renderer, written = exported(tokenizer, "auto")
    assert written == renderer.chat.source != own and written.endswith(own)


def test_a_template_that_was_not_the_models_takes_its_place_and_none_stays_without_one():
    tokenizer = make_tokenizer("chatml", template=cases.WITHOUT_TOOLS)
    renderer, written = exported(tokenizer, "auto")
    assert renderer.template == "chatml_tools" and written == renderer.chat.source
    assert exported(tokenizer, "released")[1] == ""
    assert exported(tokenizer, "released", "before")[1] is None


@pytest.mark.parametrize("thoughts", [False, True])
def test_words_that_a_template_takes_for_a_thought_are_not_lost_unseen(thoughts):
    source = cases.HYBRID.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    data = DataConfig(template="chat", train_thoughts=thoughts)
    renderer = open_renderer(data, make_tokenizer("chatml", template=source))
    turns = (TURNS[0], Message("assistant", "I write </think> here."))
    with pytest.raises(ValueError, match="does not write the words of a turn as they are"):
        renderer.encode(TOOLS, turns)
    assert renderer.encode(TOOLS, (TURNS[0], Message("assistant", "I write it here."))).ids
