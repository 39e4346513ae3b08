"""Short pre-training documents in which values must be found and copied."""

from __future__ import annotations

import json
import random

from tl_jax.data.synthetic import invented, requests, world
from tl_jax.data.synthetic import values as pools
from tl_jax.data.synthetic.answers import answer, as_words
from tl_jax.data.synthetic.trajectories import feedback_of

_FIELD_KINDS = tuple(kind for kind in pools.STRING_KINDS if kind != "gate") + (
    "amount",
    "int:1-400",
)
_EVENTS = (
    "{person} flew from {city} to {city2} with flight {flight} on {date}.",
    "{person} met {person2} in {city} at {time}.",
    "On {date} the order {code} with a {item} was sent to {person}.",
    "{artist} sang {song} in {city} on {date}.",
    "{person} paid {amount} to {person2} from account {account}.",
    "The table at the {place} is for {person} at {time}.",
    "{person} cooked {dish} with {ingredient} and {ingredient2}.",
    "The {title} takes place on {date} at {time}, {person} will come.",
    "Send {file} to {email} before {time}.",
    "{airline} has a plane to {city} at {time} from gate {gate}.",
    "Call {person} under {phone} about the {title}.",
    "The room {code} in {city} is booked for {person} from {date}.",
    "A storm is near {region}, says {person} in {city}.",
    "{brand} sells a {item} for {amount}.",
    "The {cuisine} place {place} in {city} serves {dish}.",
    "{person} made the playlist {playlist} with {song} in it.",
)


def outputs(rng: random.Random) -> str:
    """Tool outputs, each followed by a sentence about them."""
    lines = []
    for _ in range(rng.randint(3, 6)):
        if rng.random() < 0.5:
            fields, text = feedback_of(rng.choice(world.SEEN_SERVICES), rng, "train")
        else:
            fields = invented.fields(rng)
            text = json.dumps(fields)
        lines.append(f"Output: {text}\n{answer(world.answer_for(fields))}")
    return "\n".join(lines)


def cards(rng: random.Random) -> str:
    """A card of keys and values, then questions about some of them."""
    keys = {}
    for _ in range(rng.randint(4, 8)):
        kind = rng.choice(_FIELD_KINDS)
        name = kind.partition(":")[0] if rng.random() < 0.5 else invented.word(rng)
        keys[name] = as_words(pools.draw(kind, rng, "train"), False)
    lines = [f"{key}: {value}" for key, value in keys.items()]
    for key in rng.sample(list(keys), min(4, len(keys))):
        if rng.random() < 0.5:
            lines.append(f"What is the {key}?" + answer(f" The {key} is {keys[key]}."))
        else:
            lines.append(f"{key} =" + answer(f" '{keys[key]}'"))
    return "\n".join(lines)


def echoes(rng: random.Random) -> str:
    """Values said twice: once plain, once in another place."""
    kind = rng.choice(_FIELD_KINDS)
    values = [
        as_words(
            pools.draw(kind if rng.random() < 0.5 else rng.choice(_FIELD_KINDS), rng, "train"),
            False,
        )
        for _ in range(rng.randint(5, 9))
    ]
    if rng.random() < 0.4:
        values = [f"{invented.word(rng)} {value}" for value in values]
    style = rng.randrange(3)
    if style == 0:
        return "\n".join(f"{value} ->" + answer(f" '{value}'") for value in values)
    if style == 1:
        lines = "; ".join(values)
        return f"List: {lines}\nAgain:" + answer(f" {lines}")
    order = rng.sample(range(len(values)), len(values))
    lines = [f"{index + 1}. {value}" for index, value in enumerate(values)]
    lines += [f"Number {index + 1} is" + answer(f" '{values[index]}'.") for index in order]
    return "\n".join(lines)


def diary(rng: random.Random) -> str:
    """Events in prose, then questions on them."""
    lines, facts = [], []
    for template in rng.sample(_EVENTS, rng.randint(3, 6)):
        found: dict[str, str] = {}
        for name in requests.slot_names(template):
            kind = name.rstrip("2")
            found[name] = str(pools.draw(kind, rng, "train"))
            if name == kind:
                facts.append((kind, found[name], len(lines) + 1))
        lines.append(template.format(**found))
    text = " ".join(lines)
    picks = rng.sample(facts, min(3, len(facts)))
    said = (f"Sentence {n} names the {k}" + answer(f" {v}.") for k, v, n in picks)
    return text + "\n" + "\n".join(said)
