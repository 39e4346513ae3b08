"""Turn a service and drawn values into the words of a user."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.data.synthetic import values as pools
from tl_jax.data.synthetic.spec import Chain, Phrase, Service, slot_names
from tl_jax.data.synthetic.world import SERVICES

_BEFORE_VOWEL = re.compile(r"\b(a) (?=[aeiou])")
_OPTION_SHARE = 0.35
_TRIES = 50
_NEW_WORDS = ("test_reworded", "test_unseen")
_REQUEST_FRAMES = (
    "{R}.",
    "{R}, please.",
    "Please {r}.",
    "Can you {r}?",
    "Could you please {r}?",
    "Will you {r}?",
    "I need you to {r}.",
    "I would like you to {r}.",
    "My wish: {r}.",
    "It would be great if you could {r}.",
    "You should {r} now.",
    "Next task: {r}.",
)
_TEST_REQUEST_FRAMES = ("Kindly {r}.", "I was hoping you could {r}.", "Do me a favour and {r}.")
_QUESTION_FRAMES = (
    "{Q}?",
    "{Q}?",
    "{Q}, please?",
    "Tell me, {q}?",
    "My question: {q}?",
    "I want to know: {q}?",
)
_TEST_QUESTION_FRAMES = ("I wonder, {q}?", "Any idea: {q}?")
_OPENERS = (
    "Hello.",
    "Hi there!",
    "Good morning.",
    "Good evening.",
    "I am in a hurry.",
    "I need some help.",
    "Hey.",
    "Here is a quick one.",
    "This is important.",
)
_CLOSERS = (
    "Thanks.",
    "Thank you!",
    "Thanks a lot.",
    "That is all.",
    "It is urgent.",
    "I appreciate it.",
    "No rush.",
)
_JOINERS = (" and ", ", then ", " and then ", ", and after that ")
_REPLIES = (
    "{V}",
    "{V}.",
    "It is {V}.",
    "The {D} is {V}.",
    "Sorry, it is {V}.",
    "The {D}? {V}.",
    "Sure, {V}.",
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user says and what follows from it.

    Attributes:
      text: The query.
      arguments: One mapping per call, in call order; the linked slot of a chain is absent from
        the second one, a missing slot from the first one.
      missing: The slot the user forgot, or ``""``.
    """

    text: str
    arguments: tuple[dict[str, Any], ...]
    missing: str = ""


def single(service: Service, rng: random.Random, split: str, *, vague: bool = False) -> Request:
    """Ask for one service.

    Args:
      service: What is wanted.
      rng: The caller's stream.
      split: Which phrasings and values may be used.
      vague: Leave one required slot out.

    Returns:
      The request. ``test_seen`` says new values in known words where it can, ``test_reworded``
      uses words that training never shows, ``test_unseen`` any of its services' phrasings.
    """
    asks = rng.random() < 0.4
    if vague and len({p.held_out for p in service.questions if p.vague}) < 2:
        asks = False
    phrases = service.questions if asks else service.requests
    phrase, found = _draw_phrase(service, phrases, rng, split, vague=vague)
    missing = phrase.missing if vague else ""
    if missing:
        del found[missing]
    text = fill(phrase.vague if missing else phrase.full, found) + _option_text(service, rng, found)
    return Request(_frame(text, rng, split, asks=asks), (found,), missing)


def chained(chain: Chain, rng: random.Random, split: str) -> Request:
    """Ask for two services in one sentence; the second one works on the result of the first."""
    first, second = SERVICES[chain.first], SERVICES[chain.second]
    phrase, found = _draw_phrase(first, first.requests, rng, split, vague=False)
    follow_ups = chain.requests if split in _NEW_WORDS else chain.requests[:-1]
    follow_up = rng.choice(follow_ups)
    wanted = slot_names(follow_up)
    extra: dict[str, Any] = {}
    for slot in second.slots:
        if slot.name in wanted:
            extra[slot.name] = pools.draw(slot.kind, rng, split)
    text = fill(phrase.full, found) + _option_text(first, rng, found)
    text += rng.choice(_JOINERS) + fill(follow_up, extra)
    return Request(_frame(text, rng, split, asks=False), (found, extra))


def reply(service: Service, slot: str, value: Any, rng: random.Random) -> str:
    """Say the value of a slot that was asked for."""
    template = rng.choice(_REPLIES)
    return template.format(V=pools.as_text(value), D=service.slot(slot).description)


def fill(template: str, found: Mapping[str, Any]) -> str:
    """Write values into a format string."""
    return template.format(**{name: pools.as_text(value) for name, value in found.items()})


def draw_required(service: Service, rng: random.Random, split: str) -> dict[str, Any]:
    """Draw the required slots of a service, all different."""
    found: dict[str, Any] = {}
    for slot in service.slots:
        if slot.required:
            value = pools.draw(slot.kind, rng, split)
            while value in found.values():
                value = pools.draw(slot.kind, rng, split)
            found[slot.name] = value
    return found


def _draw_slots(service: Service, rng: random.Random, split: str) -> dict[str, Any]:
    found = draw_required(service, rng, split)
    for slot in service.slots:
        if not slot.required and rng.random() < _OPTION_SHARE:
            found[slot.name] = pools.draw(slot.kind, rng, split)
    return found


def _draw_phrase(
    service: Service, phrases: Sequence[Phrase], rng: random.Random, split: str, *, vague: bool
) -> tuple[Phrase, dict[str, Any]]:
    """Draw a phrasing and the values of the slots."""
    if vague:
        phrases = [phrase for phrase in phrases if phrase.vague]
    known = [phrase for phrase in phrases if not phrase.held_out]
    new = [phrase for phrase in phrases if phrase.held_out]
    if split != "test_seen":
        fitting = {"train": known, "test_reworded": new, "test_unseen": phrases}[split]
        return rng.choice(fitting), _draw_slots(service, rng, split)
    for _ in range(_TRIES if known else 0):
        phrase, found = rng.choice(known), _draw_slots(service, rng, split)
        said = slot_names(phrase.vague if vague else phrase.full)
        # Numbers and closed sets are shared by all splits: without a held-out string in it, the
        # sentence could have been a training query.
        pooled = [name for name in said if pools.is_pooled(service.slot(name).kind)]
        if any(pools.is_held_out(v) for name in pooled for v in pools.strings_of(found[name])):
            return phrase, found
    return rng.choice(new), _draw_slots(service, rng, split)


def _option_text(service: Service, rng: random.Random, found: Mapping[str, Any]) -> str:
    text = ""
    for slot in service.slots:
        if not slot.required and slot.name in found:
            key = "!" + slot.name if found[slot.name] is False else slot.name
            text += " " + fill(rng.choice(service.options[key]), found)
    return text


def _frame(text: str, rng: random.Random, split: str, *, asks: bool) -> str:
    if asks:
        frames, new = _QUESTION_FRAMES, _TEST_QUESTION_FRAMES
    else:
        frames, new = _REQUEST_FRAMES, _TEST_REQUEST_FRAMES
    if split in _NEW_WORDS:
        frames = frames + new
    text = _BEFORE_VOWEL.sub(r"\1n ", text)
    low, high = text[0].lower() + text[1:], text[0].upper() + text[1:]
    text = rng.choice(frames).format(r=low, R=high, q=low, Q=high)
    if rng.random() < 0.35:
        text = f"{rng.choice(_OPENERS)} {text}"
    if rng.random() < 0.35:
        text = f"{text} {rng.choice(_CLOSERS)}"
    return text
