"""The plain text of the embedded tool world: what its documents show and what they never do."""

import itertools
import json
import re

import pytest

from tl_jax.data.synthetic import base_texts, domains, tools, world
from tl_jax.data.synthetic import values as pools


@pytest.fixture(scope="module")
def base():
    return list(base_texts(4000, seed=7))


@pytest.fixture(scope="module")
def documents(base):
    return [document.text for document in base]


def strings_in(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
    elif isinstance(value, str):
        yield value


def test_same_seed_gives_the_same_documents_and_num_does_not_matter():
    assert list(base_texts(20, seed=3)) == list(base_texts(40, seed=3))[:20]
    assert list(base_texts(20, seed=3)) != list(base_texts(20, seed=4))


def test_documents_never_speak_of_the_unseen_domain(documents):
    corpus = "\n".join(documents)
    assert not [tool.name for tool in domains()["clinic"] if tool.name in corpus]
    assert not re.search(r"\b(doctor|patient|clinic)s?\b", corpus)


def test_documents_never_show_the_syntax_of_a_call(documents):
    names = [re.escape(tool.name) for tool in tools()]
    call = re.compile(r"(?<!def )\b(?:" + "|".join(names) + r")\s*\(")
    for text in documents:
        assert not call.search(text)
        # Parentheses belong to signatures and to the types of their parameters.
        for line in text.splitlines():
            if "(" in line:
                assert re.fullmatch(r"(System: )?def \w+\(.*\):|        \w+ \(\w+\): .*", line), (
                    line
                )


@pytest.mark.slow
def test_documents_hold_no_held_out_value(dialogues, documents):
    corpus = "\n".join(documents)
    slots = {(s.name, slot.name): slot for s in world.SERVICES.values() for slot in s.slots}
    held_out = set()
    for trajectory in (
        dialogues["test_seen"] + dialogues["test_reworded"] + dialogues["test_unseen"]
    ):
        calls = [call for message in trajectory.messages for call in message.calls]
        for call in calls:
            for name, value in call.arguments.items():
                slot = slots.get((call.name, name))
                if slot and pools.is_pooled(slot.kind):
                    held_out.update(v for v in pools.strings_of(value) if pools.is_held_out(v))
        for message in trajectory.messages:
            if message.status == "ok":
                found = strings_in(json.loads(message.content))
                held_out.update(v for v in found if pools.is_held_out(v) and len(v.split()) > 1)
    assert len(held_out) > 1000
    known = {
        v
        for s in world.SERVICES.values()
        for kind in s.output.values()
        if kind.startswith("enum:")
        for v in kind[5:].split(",")
    }
    leaked = [
        value
        for value in held_out - known
        if value in corpus and re.search(rf"(?<![\w.]){re.escape(value)}(?![.-]?\w)", corpus)
    ]
    assert not leaked


def test_documents_vary_and_are_short(documents):
    assert len(set(documents)) > 0.995 * len(documents)
    mean = sum(map(len, documents)) / len(documents)
    assert 500 < mean < 1600
    invented = sum("def " in d and not any(t.name in d for t in tools()[:-2]) for d in documents)
    assert invented > 0.1 * len(documents)


def test_answers_are_marked_in_order_and_leave_no_trace(base):
    shares = []
    for document in base:
        assert not re.search(r"[\x02\x03]", document.text)
        ends = [0, *itertools.chain.from_iterable(document.answers), len(document.text)]
        assert ends == sorted(ends) and document.answers
        shares.append(sum(high - low for low, high in document.answers) / len(document.text))
    assert 0.15 < sum(shares) / len(shares) < 0.5


def test_quoted_values_of_answers_stand_before_them(base):
    quoted = [
        (document.text[:low], value)
        for document in base
        for low, high in document.answers
        for value in re.findall(r"'([^']+)'", document.text[low:high])
    ]
    assert len(quoted) > 1000
    known = sum(value.lower() in before.lower() for before, value in quoted)
    # Words such as "true" for a boolean and enumerated values need not be said literally.
    assert known > 0.97 * len(quoted)
