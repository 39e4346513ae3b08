"""The embedded tool world: what the dialogues promise."""

import collections
import itertools
import json
import random
import re

import pytest

from tl_jax.calls.call import ToolSpec
from tl_jax.data.mae.feedback import classify_feedback
from tl_jax.data.synthetic import domains, tools, trajectories, world
from tl_jax.data.synthetic import values as pools
from tl_jax.data.synthetic.faults import FAULTS
from tl_jax.data.synthetic.requests import single
from tl_jax.data.synthetic.spec import slot_names
from tl_jax.data.trajectory import from_json, to_json

SPLITS = ("train", "test_seen", "test_reworded", "test_unseen")
UNSEEN = "clinic"
PYTHON_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
}


def calls_of(trajectory):
    """Yield (index of the turn, call, status of the feedback that follows, or "")."""
    for index, message in enumerate(trajectory.messages):
        for call in message.calls:
            after = trajectory.messages[index + 1 : index + 2]
            yield index, call, after[0].status if after else ""


def test_same_seed_gives_the_same_world_and_num_does_not_matter():
    for split in SPLITS:
        few = list(trajectories(20, seed=3, split=split))
        many = list(trajectories(40, seed=3, split=split))
        assert few == many[:20]
        assert few != list(trajectories(20, seed=4, split=split))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        next(trajectories(1, seed=0, split="test"))


def test_tools_and_domains_are_as_many_as_promised():
    by_domain = domains()
    names = [tool.name for tool in tools()]
    assert len(by_domain) == 9 and UNSEEN in by_domain
    assert all(len(members) >= 6 for members in by_domain.values())
    assert len(names) == len(set(names)) >= 46
    assert names[-2:] == ["ask_to_user", "finish"]
    assert set(names[:-2]) == {tool.name for group in by_domain.values() for tool in group}
    kinds = {p.type for tool in tools() for p in tool.parameters}
    assert kinds == set(PYTHON_TYPES)
    assert any("enum" in p.schema for tool in tools() for p in tool.parameters)


def test_every_domain_has_a_family_of_names_and_some_are_proper_prefixes():
    for members in domains().values():
        pairs = itertools.combinations([tool.name for tool in members], 2)
        assert max(world.shared_words(*pair) for pair in pairs) >= 2
    names = [tool.name for tool in tools()]
    prefixes = [(a, b) for a in names for b in names if a != b and b.startswith(a + "_")]
    assert len(prefixes) >= 6


def test_tables_are_complete():
    for service in world.SERVICES.values():
        required = {slot.name for slot in service.slots if slot.required}
        assert len(service.requests) + len(service.questions) >= 6
        for phrase in service.requests + service.questions:
            assert set(slot_names(phrase.full)) == required, phrase
            if phrase.vague:
                assert set(slot_names(phrase.vague)) == required - {phrase.missing}, phrase
        # A forgotten slot needs a phrasing of its own for training and one for testing.
        assert {phrase.held_out for phrase in service.requests if phrase.vague} == {True, False}
        for slot in service.slots:
            assert slot.required or slot.name in service.options
            if slot.kind == "bool":
                assert "!" + slot.name in service.options
    for domain in world.SEEN_DOMAINS + world.UNSEEN_DOMAINS:
        for chain in domain.chains:
            second = world.SERVICES[chain.second]
            required = {slot.name for slot in second.slots if slot.required}
            assert chain.field in world.SERVICES[chain.first].output
            for request in chain.requests:
                assert {*slot_names(request), chain.slot} == required


def test_every_prompt_offers_the_gold_tools_rivals_and_the_two_fixed_tools(dialogues):
    for trajectory in itertools.chain(*dialogues.values()):
        names = [tool.name for tool in trajectory.tools]
        assert 5 <= len(names) <= 7 and len(set(names)) == len(names)
        assert names[-2:] == ["ask_to_user", "finish"]
        right = {call.name for _, call, status in calls_of(trajectory) if status == "ok"}
        assert right <= set(names)
        near = {tool.name for tool in domains()[trajectory.tags["domain"]]}
        assert len(near & set(names) - right) >= 1
        assert len(set(names[:-2]) - near) >= 1


def test_dialogues_survive_json(dialogues):
    for trajectory in dialogues["train"][:200]:
        assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory


def test_training_and_test_queries_are_disjoint(dialogues):
    queries = {
        split: {trajectory.messages[0].content for trajectory in dialogues[split]}
        for split in SPLITS
    }
    many = {t.messages[0].content for t in trajectories(12000, seed=8, split="train")}
    for split in SPLITS[1:]:
        assert not queries[split] & (queries["train"] | many)
    # Paraphrases and values give variety, not a handful of sentences.
    assert all(len(found) > 0.9 * 3000 for found in queries.values())


def test_training_never_shows_a_held_out_value_and_tests_do(dialogues):
    slots = {(s.name, slot.name): slot for s in world.SERVICES.values() for slot in s.slots}

    def held_out_values(trajectory):
        for _, call, status in calls_of(trajectory):
            if status != "ok":
                continue
            for name, value in call.arguments.items():
                if pools.is_pooled(slots[call.name, name].kind):
                    yield from (v for v in pools.strings_of(value) if pools.is_held_out(v))

    assert not [v for t in dialogues["train"] for v in held_out_values(t)]
    for split, least in (("test_seen", 0.9), ("test_reworded", 0.3), ("test_unseen", 0.3)):
        share = sum(1 for t in dialogues[split] if any(held_out_values(t))) / 3000
        assert share > least


def test_the_unseen_domain_occurs_in_its_own_split_only(dialogues):
    unseen = {tool.name for tool in domains()[UNSEEN]}
    for split in ("train", "test_seen", "test_reworded"):
        for trajectory in dialogues[split]:
            assert not unseen & {tool.name for tool in trajectory.tools}
            assert trajectory.tags["domain"] != UNSEEN
    assert {t.tags["domain"] for t in dialogues["test_unseen"]} == {UNSEEN}


def test_domains_are_drawn_evenly(dialogues):
    for split in ("train", "test_seen", "test_reworded"):
        counts = collections.Counter(t.tags["domain"] for t in dialogues[split])
        assert len(counts) == 8
        assert min(counts.values()) > 0.7 * 3000 / 8
    counts = collections.Counter(
        call.name for t in dialogues["train"] for _, call, status in calls_of(t) if status == "ok"
    )
    assert set(counts) == {service.name for service in world.SEEN_SERVICES}


def test_right_calls_fit_the_signature_and_copy_from_the_text_before(dialogues):
    checked = collections.Counter()
    for trajectory in itertools.chain(*dialogues.values()):
        for index, call, status in calls_of(trajectory):
            if status == "error":
                continue
            tool = next(tool for tool in trajectory.tools if tool.name == call.name)
            assert_valid(call, tool)
            if call.name in ("ask_to_user", "finish"):
                continue
            before = " ".join(m.content for m in trajectory.messages[:index] if m.content)
            for value in call.arguments.values():
                for text in pools.strings_of(value):
                    assert re.search(rf"(?<!\w){re.escape(text)}(?!\w)", before), (call, before)
                    checked[type(value).__name__] += 1
    assert set(checked) == {"str", "int", "float", "list"}


def assert_valid(call, tool: ToolSpec):
    required = {p.name for p in tool.parameters if p.required}
    assert required <= set(call.arguments) <= {p.name for p in tool.parameters}
    for name, value in call.arguments.items():
        parameter = tool.parameter(name)
        assert isinstance(value, PYTHON_TYPES[parameter.type]), (call, name)
        assert isinstance(value, bool) == (parameter.type == "boolean")
        assert value in parameter.schema.get("enum", [value])
        assert all("'" not in text for text in pools.strings_of(value))


def test_optional_values_are_said_only_when_they_are_used(dialogues):
    for trajectory in dialogues["train"]:
        query = trajectory.messages[0].content
        for _, call, status in calls_of(trajectory):
            if status == "ok" and call.name == "book_hotel" and trajectory.tags["steps"] == "1":
                said = "breakfast" in query
                assert said == ("breakfast" in call.arguments)
                if said:
                    denied = "without breakfast" in query or "no breakfast" in query
                    assert call.arguments["breakfast"] is not denied


def test_every_dialogue_ends_with_an_answer_made_of_the_last_feedback(dialogues):
    for trajectory in itertools.chain(*dialogues.values()):
        last = trajectory.messages[-1]
        assert [call.name for call in last.calls] == ["finish"]
        feedback = trajectory.messages[-2]
        assert feedback.role == "tool" and feedback.status == "ok"
        fields = json.loads(feedback.content)
        fields = fields.get("data") or fields.get("result") if len(fields) < 3 else fields
        fields = fields if isinstance(fields, dict) else json.loads(feedback.content)
        assert last.calls[0].arguments["answer"] == world.answer_for(fields)
        assert all(str(value) in world.answer_for(fields) for value in fields.values())


def test_shares_of_long_vague_and_faulty_dialogues(dialogues):
    for split, found in dialogues.items():
        steps = sum(t.tags["steps"] == "2" for t in found) / len(found)
        asks = sum(any(c.name == "ask_to_user" for _, c, _ in calls_of(t)) for t in found)
        faults = sum(t.tags["fault"] != "" for t in found) / len(found)
        assert 0.26 < steps < 0.34
        assert 0.06 < asks / len(found) < 0.10
        assert 0.31 < faults < 0.39 if split == "train" else faults == 0


def test_a_forgotten_value_is_asked_for_and_then_used(dialogues):
    for trajectory in itertools.chain(*dialogues.values()):
        calls = list(calls_of(trajectory))
        if calls[0][1].name != "ask_to_user":
            continue
        messages = trajectory.messages
        assert [m.role for m in messages[:3]] == ["user", "assistant", "user"]
        right = next(call for _, call, status in calls if status == "ok")
        service = world.SERVICES[right.name]
        asked = [
            slot.name
            for slot in service.slots
            if calls[0][1].arguments["question"] == world.question_for(service, slot.name)
        ]
        assert len(asked) == 1 and service.slot(asked[0]).required
        value = pools.as_text(right.arguments[asked[0]])
        assert value in messages[2].content
        # Small numbers may stand in the query by accident, as another argument.
        assert isinstance(right.arguments[asked[0]], int) or value not in messages[0].content


def test_every_fault_occurs_before_the_right_call(dialogues):
    seen = collections.Counter()
    for trajectory in dialogues["train"]:
        calls = list(calls_of(trajectory))
        wrong = [position for position, item in enumerate(calls) if item[2] == "error"]
        fault = trajectory.tags["fault"]
        assert len(wrong) == (1 if fault else 0)
        if not fault:
            continue
        seen[fault] += 1
        bad, right = calls[wrong[0]][1], calls[wrong[0] + 1][1]
        assert calls[wrong[0] + 1][2] == "ok"
        offered = {tool.name: tool for tool in trajectory.tools}
        declared = {p.name: p for p in offered[right.name].parameters}
        extra, lost = set(bad.arguments) - set(declared), set(right.arguments) - set(bad.arguments)
        if fault == "unknown_tool":
            assert bad.name not in {tool.name for tool in tools()}
        elif fault == "wrong_tool":
            assert bad.name != right.name
            assert_valid(bad, offered[bad.name])
        else:
            assert bad.name == right.name
        if fault == "unexpected_keyword":
            assert len(extra) == 1
        if fault == "missing_argument":
            assert len(lost) == 1 and declared[lost.pop()].required and not extra
        if fault == "bad_value":
            assert not extra and not lost and dict(bad.arguments) != dict(right.arguments)
        if fault == "service_down":
            assert bad == right
        if fault == "empty_result":
            assert not extra and not lost
    assert set(seen) == set(FAULTS)
    assert min(seen.values()) > 60


def test_feedback_of_right_calls_is_never_taken_for_an_error(dialogues):
    for trajectory in itertools.chain(*dialogues.values()):
        for message in trajectory.messages:
            if message.status == "ok":
                for mode in ("reference", "structured"):
                    assert not classify_feedback(message.content, mode=mode).is_error, message


def test_only_the_reworded_split_needs_words_that_training_lacks():
    services = world.SEEN_SERVICES

    def known(service, query):
        frames = [p for p in service.requests + service.questions if not p.held_out]
        texts = [text for p in frames for text in (p.full, p.vague) if text]
        patterns = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(text)) for text in texts]
        return any(re.search(pattern, query, re.IGNORECASE) for pattern in patterns)

    shares = {}
    for split in ("train", "test_seen", "test_reworded"):
        rng = random.Random(1)
        asked = [(s, single(s, rng, split).text) for s in services for _ in range(10)]
        shares[split] = sum(known(s, text) for s, text in asked) / len(asked)
    assert shares["train"] > 0.9 and shares["test_seen"] > 0.85
    assert shares["test_reworded"] < 0.15
