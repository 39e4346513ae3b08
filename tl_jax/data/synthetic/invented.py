"""Random plausible tools, so that text can teach reading a signature instead of knowing it."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from tl_jax.calls.call import Parameter, ToolSpec
from tl_jax.data.synthetic import values as pools

_VERBS = (
    "get find list check make open close move rename update remove start stop measure print count "
    "fetch sort plan repair order show read write load save track test lock unlock rent sell buy "
    "search create delete add send book cancel"
).split()
_NOUNS = (
    "tank robot ship engine museum ticket pump tower school course student lesson parcel truck "
    "driver route sensor filter map badge locker key permit visa licence match club player tax "
    "claim policy house tenant lease meter panel battery voucher coupon member gym pool trainer "
    "pet farm crop seed drone printer server router garage tyre ferry bus tram taxi parking "
    "garden statue painting theatre movie actor episode podcast library author chapter "
    "newspaper article vote ballot quiz exam grade teacher warehouse pallet crate forklift "
    "invoice salary shift worker machine tool paint brick roof boiler heater fridge oven "
    "laundry cleaner"
).split()
_ASPECTS = (
    "status price level owner size history limit schedule label weight position rating version "
    "colour speed age height length capacity cost origin target brand type manual summary report "
    "photo address score rank list plan"
).split()
_ONSETS = "b d f g h j k l m n p r s t v w z br dr gl kr pl st tr sh".split()
_VOWELS = "a e i o u ai ou".split()
_CODAS = ("", "", "n", "r", "l", "s", "k", "m", "x")
_FORGET_SHARE = 0.2
# name, kind, description, how a request states it
_EXTRAS = (
    ("city", "city", "city name", "in {v}"),
    ("date", "date", "day", "on {v}"),
    ("time", "time", "time of day", "at {v}"),
    ("person", "person", "person name", "for {v}"),
    ("owner", "person", "name of the owner", "owned by {v}"),
    ("email", "email", "mail address", "with a note to {v}"),
    ("amount", "amount", "amount of money", "for {v} euros"),
    ("count", "int:2-90", "how many", "{v} times"),
    ("days", "int:2-60", "number of days", "for {v} days"),
    ("colour", "enum:red,green,blue,white", "colour", "in {v}"),
    ("phone", "phone", "phone number", "with phone number {v}"),
    ("title", "title", "title", "titled {v}"),
    ("file", "file", "file name", "using the file {v}"),
    ("region", "region", "region name", "in the region {v}"),
    ("brand", "brand", "brand name", "of the brand {v}"),
    ("group", "code", "group code", "in group {v}"),
    ("size", "enum:small,medium,large", "size", "of size {v}"),
    ("people", "list:person", "list of people", "together with {v}"),
    ("parts", "list:ingredient", "list of parts", "made of {v}"),
)
_KEYS = (
    ("id", "code", "code"),
    ("code", "code", "code"),
    ("number", "account", "number"),
    ("name", "brand", "name"),
    ("name", "place", "name"),
    ("owner", "person", "owner"),
    ("title", "song", "title"),
    ("city", "city", "city"),
    ("", "item", ""),
    ("", "dish", ""),
)
_REQUESTS = (
    "{verb} the {aspect} of {noun} {v}",
    "{verb} {noun} {v} and its {aspect}",
    "{verb} the {noun} {aspect} for {v}",
    "{verb} {aspect} for the {noun} {v}",
)
_PLAIN_REQUESTS = (
    "{verb} the {noun} {v}",
    "{verb} {noun} {v}",
    "{verb} a {noun} called {v}",
    "{verb} the {noun} named {v}",
)
_BY_REQUESTS = (
    "{verb} a {noun} by {aspect} {v}",
    "{verb} the {noun} with {aspect} {v}",
    "{verb} {noun} whose {aspect} is {v}",
)


@dataclasses.dataclass(frozen=True)
class InventedTool:
    """A random tool that can be asked for.

    Attributes:
      spec: Its signature.
      kinds: Parameter -> value kind.
      follow_up: Request that works on what was found before, such as ``rename its owner``.
      phrases: Parameter -> how a request states its value; the first one is in ``requests``.
      requests: Format strings over ``v``, the value of the first parameter.
    """

    spec: ToolSpec
    kinds: dict[str, str]
    phrases: dict[str, str]
    requests: tuple[str, ...]
    follow_up: str


def word(rng: random.Random) -> str:
    """Make a word that no dictionary holds."""
    size = 2 if rng.random() < 0.8 else 3
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(size)
    )


def family(rng: random.Random, size: int) -> list[InventedTool]:
    """Make tools whose names share their first words.

    Args:
      rng: The caller's stream.
      size: How many; names differ in the last word or are a prefix of one another.

    Returns:
      The tools.
    """
    verb = rng.choice(_VERBS)
    noun = rng.choice(_NOUNS) if rng.random() < 0.75 else word(rng)
    aspects: list[str] = []
    while len(aspects) < size:
        aspect = rng.choice(_ASPECTS) if rng.random() < 0.85 else word(rng)
        if aspect not in aspects and aspect != noun:
            aspects.append(aspect)
    shape = rng.random()
    members = []
    for index, aspect in enumerate(aspects):
        if index == 0 and shape < 0.4:
            aspect = ""
        elif shape < 0.25:
            aspect = "by_" + aspect
        if shape > 0.85 and index:
            verb = rng.choice([other for other in _VERBS if other != verb])
        members.append(_member(rng, verb, noun, aspect))
    return members


def ask_for(tool: InventedTool, rng: random.Random) -> tuple[str, dict[str, Any], str]:
    """Say a request for a tool.

    Args:
      tool: What is wanted.
      rng: The caller's stream.

    Returns:
      The request, the values it names in the order of the signature, and the required
      parameter it forgets (mostly ``""``).
    """
    found: dict[str, Any] = {}
    for parameter in tool.spec.parameters:
        if parameter.required or rng.random() < 0.5:
            found[parameter.name] = pools.draw(tool.kinds[parameter.name], rng, "train")
    first, *others = found
    missing = ""
    forgettable = [p.name for p in tool.spec.parameters[1:] if p.required]
    if forgettable and first == tool.spec.parameters[0].name and rng.random() < _FORGET_SHARE:
        missing = rng.choice(forgettable)
        others.remove(missing)
        del found[missing]
    text = rng.choice(tool.requests).format(v=pools.as_text(found[first]))
    rng.shuffle(others)
    for name in others:
        text += " " + tool.phrases[name].format(v=pools.as_text(found[name]))
    return text, found, missing


def fields(rng: random.Random, key: str = "", kind: str = "") -> dict[str, Any]:
    """Draw feedback of an invented tool; with ``key``, that field is among one or two others."""
    found = {}
    for _ in range(rng.randint(1, 2)):
        noun = rng.choice(_NOUNS) if rng.random() < 0.7 else word(rng)
        name = rng.choice((f"{noun}_{rng.choice(_ASPECTS)}", noun, rng.choice(_ASPECTS)))
        other = rng.choice(
            ("code", "person", "amount", "int:1-900", "time", "date", "city", "title")
        )
        found[name] = pools.draw(other, rng, "train")
    if key:
        found.pop(key, None)
        names = [*found][: rng.randint(0, len(found))]
        before = {name: found.pop(name) for name in names}
        found = {**before, key: pools.draw(kind, rng, "train"), **found}
    return found


def _member(rng: random.Random, verb: str, noun: str, aspect: str) -> InventedTool:
    by = aspect.startswith("by_")
    bare = aspect[3:] if by else aspect
    suffix, kind, about = rng.choice(_KEYS)
    if by:
        key, about = bare, f"{bare} of the {noun}"
    else:
        key = f"{noun}_{suffix}" if suffix and rng.random() < 0.7 else suffix or noun
        about = f"{noun} {about}" if about else f"{noun} kind"
    kinds, phrases = {key: kind}, {}
    parameters = [_parameter(key, kind, about, True)]
    for name, other, text, phrase in rng.sample(_EXTRAS, rng.choice((0, 0, 1, 1, 2))):
        if name == key:
            continue
        if rng.random() < 0.2:
            name, phrase = word(rng), None
            text = name
        kinds[name] = other
        phrases[name] = phrase or f"with {name} {{v}}"
        parameters.append(_parameter(name, other, text, rng.random() < 0.6))
    parameters.sort(key=lambda parameter: not parameter.required)
    if by:
        frames, text = _BY_REQUESTS, f"{verb.capitalize()} a {noun} by its {bare}."
    elif bare:
        frames, text = _REQUESTS, f"{verb.capitalize()} the {bare} of a {noun}."
    else:
        frames, text = _PLAIN_REQUESTS, f"{verb.capitalize()} a {noun}."
    requests = tuple(frame.format(verb=verb, noun=noun, aspect=bare, v="{v}") for frame in frames)
    name = "_".join(part for part in (verb, noun, aspect) if part)
    follow_up = f"{verb} its {bare}" if bare else f"{verb} it"
    return InventedTool(
        ToolSpec(name, text, tuple(parameters)), kinds, phrases, requests, follow_up
    )


def _parameter(name: str, kind: str, about: str, required: bool) -> Parameter:
    head = kind.partition(":")[0]
    json_type = {"int": "integer", "amount": "number", "list": "array"}.get(head, "string")
    return Parameter(name, json_type, about, required)
