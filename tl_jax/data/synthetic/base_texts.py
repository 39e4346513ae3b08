"""Plain documents about the embedded world, for pre-training a base model.

They teach the words of the domains, reading tool documentation, naming the slots of a request and
copying values, but never the syntax of a call. Much of a document is drawn at random and cannot be
foreseen; the parts that follow from what stands before them are marked, so that training can dwell
on them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.render.paper_template import render_tools
from tl_jax.data.synthetic import drills, invented, requests, world
from tl_jax.data.synthetic import values as pools
from tl_jax.data.synthetic.answers import BaseText, answer, as_words, unmark
from tl_jax.data.synthetic.spec import Domain, Service
from tl_jax.data.synthetic.trajectories import feedback_of

_MANUAL = {tool.name: render_tools((tool,)) for tool in world.tools()}
# What frames a document: invented words never stand for these.
_FIXED_WORDS = frozenset(
    "system function args none user output service services desk clerk answer reply choice pick "
    "note memo string integer "
    "number boolean array float bool list true false what which that this with from missing "
    "question finish final give please sentence names again".split()
)

# The label tells in which style the answer follows.
_LABELS = ("Desk:", "Clerk:", "Answer:", "Reply:", "Choice:", "Pick:", "Note:", "Memo:")
_STRANGE_VALUE_SHARE = 0.4

# tool, request, values, forgotten parameter
_Job = tuple[ToolSpec, str, dict[str, Any], str]
# tool, values, output
_Step = tuple[ToolSpec, dict[str, Any], str]


def base_texts(
    num: int, *, seed: int, strange_share: float = 0.6, extra_tools: int = 0
) -> Iterator[BaseText]:
    """Generate pre-training documents.

    They hold no call, no tool of the unseen domain and no held-out value.

    Args:
      num: How many.
      seed: Same seed, same documents; document ``i`` does not depend on ``num``.
      strange_share: Share of documents in which invented words stand for some of the usual ones.
      extra_tools: Most tools added to a manual beyond the three to five it has anyway.

    Yields:
      Documents.
    """
    for index in range(num):
        rng = random.Random(f"{seed}/base/{index}")
        document = rng.choices(_DOCUMENTS, _WEIGHTS)[0]
        if document is _manual and extra_tools:
            text = _manual(rng, rng.randint(0, extra_tools))
        else:
            text = document(rng)
        yield unmark(_make_strange(text, rng) if rng.random() < strange_share else text)


def _make_strange(text: str, rng: random.Random) -> str:
    """Replace some words by invented ones, the same everywhere in the document.

    Tool names, their documentation, requests and answers stay consistent, but can no longer be
    known by heart: they must be read and copied, as those of an unseen tool.
    """
    share = rng.choice((0.15, 0.35, 0.6))
    strange: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        found = match.group()
        key = found.lower()
        if key in _FIXED_WORDS:
            return found
        if key not in strange:
            strange[key] = invented.word(rng) if rng.random() < share else key
        if strange[key] == key:
            return found
        return strange[key].capitalize() if found[0].isupper() else strange[key]

    return re.sub(r"[A-Za-z]{4,}", replace, text)


def _seen_job(rng: random.Random, service: Service | None = None) -> _Job:
    """Draw a request for a service of a seen domain: tool, query, values, missing slot."""
    service = service or rng.choice(world.SEEN_SERVICES)
    vague = rng.random() < 0.12
    request = requests.single(service, rng, "train", vague=vague)
    found = {p.name: p for p in service.spec.parameters}
    values = {name: request.arguments[0][name] for name in found if name in request.arguments[0]}
    kinds = {name: service.slot(name).kind for name in values}
    return service.spec, *_rename_values(request.text, values, kinds, rng), request.missing


def _rename_values(
    text: str, values: dict[str, Any], kinds: Mapping[str, str], rng: random.Random
) -> tuple[str, dict[str, Any]]:
    """Put invented words into some values, so that they must be copied letter by letter."""
    values = dict(values)
    for name in values:
        if pools.is_pooled(kinds[name]) and rng.random() < _STRANGE_VALUE_SHARE:
            text, values[name] = _renamed(text, values[name], rng)
    return text, values


def _renamed(text: str, value: Any, rng: random.Random) -> tuple[str, Any]:
    """Replace the words of a value by invented ones, in the request and in the value."""
    if isinstance(value, list):
        items = []
        for item in value:
            text, item = _renamed(text, item, rng)
            items.append(item)
        return text, items

    def strange(match: re.Match[str]) -> str:
        found = invented.word(rng)
        return found.capitalize() if match.group()[0].isupper() else found

    new = re.sub(r"\b[A-Za-z][a-z]{2,}\b", strange, value)
    return (text.replace(value, new), new) if value in text else (text, value)


def _invented_job(rng: random.Random, tool: invented.InventedTool) -> _Job:
    text, values, missing = invented.ask_for(tool, rng)
    high = text[0].upper() + text[1:]
    text = rng.choice(
        (
            f"{high}.",
            f"Please {text}.",
            f"Can you {text}?",
            f"I need you to {text}.",
            f"{high}, please.",
        )
    )
    return tool.spec, *_rename_values(text, values, tool.kinds, rng), missing


def _description(tool: ToolSpec, name: str) -> str:
    parameter = tool.parameter(name)
    assert parameter, f"{tool.name} declares {name}"
    return parameter.description


def _verdict(job: _Job, style: int) -> str:
    """State which tool fits a request and with what values, in the style of a label."""
    tool, _, values, missing = job
    quoted = style % 2 == 0
    pairs = [(name, as_words(value, quoted)) for name, value in values.items()]
    if missing:
        about = _description(tool, missing)
        return f"The {about} is missing. Ask: What is the {about}?"
    if style < 2:
        return f"Service: {tool.name}. " + " ".join(f"{name}: {value}." for name, value in pairs)
    if style < 4:
        return f"{tool.name} with " + ", ".join(f"{name} {value}" for name, value in pairs)
    if style < 6:
        return f"{tool.name}\n" + "\n".join(f"- {name}: {value}" for name, value in pairs)
    return f"{tool.name}: " + ", ".join(f"{name} is {value}" for name, value in pairs)


def _manual(rng: random.Random, extra_tools: int = 0) -> str:
    """Documentation of a few tools, then requests and the tool that fits each."""
    style = rng.randrange(len(_LABELS))
    count = rng.randint(2, 8)
    if rng.random() < 0.5:
        domain = rng.choice(world.SEEN_DOMAINS)
        service = rng.choice(domain.services)
        names = [service.name, *world.siblings(domain, service.name)[: rng.randint(1, 2)]]
        names.append(rng.choice(world.SEEN_SERVICES).name)
        specs = [world.SERVICES[name].spec for name in dict.fromkeys(names)]
        texts = [_MANUAL[tool.name] for tool in specs]
        jobs = [_seen_job(rng, world.SERVICES[rng.choice(specs).name]) for _ in range(count)]
    else:
        tools = invented.family(rng, rng.randint(2, 3))
        tools += invented.family(rng, 1)
        jobs = [_invented_job(rng, rng.choice(tools)) for _ in range(count)]
        texts = [render_tools((tool.spec,)) for tool in tools]
        if rng.random() < 0.3:
            service = rng.choice(world.SEEN_SERVICES)
            texts.append(_MANUAL[service.name])
            jobs.append(_seen_job(rng, service))
    for _ in range(extra_tools):
        other = _MANUAL[rng.choice(world.SEEN_SERVICES).name]
        if rng.random() < 0.5:
            other = render_tools((invented.family(rng, 1)[0].spec,))
        if other not in texts:
            texts.append(other)
    rng.shuffle(texts)
    rng.shuffle(jobs)
    if rng.random() < 0.5:
        texts += [_MANUAL[world.ASK.name], _MANUAL[world.FINISH.name]]
    head = "System: " if rng.random() < 0.5 else ""
    label = _LABELS[style]
    lines = [f"User: {job[1]}\n{label}" + answer(f" {_verdict(job, style)}\n") for job in jobs]
    return head + "\n".join(texts) + "\n" + "".join(lines)


def _short_list(rng: random.Random) -> str:
    """A list of tool names with descriptions, then which one fits."""
    if rng.random() < 0.5:
        services = rng.sample(world.SEEN_SERVICES, 3)
        domain = rng.choice(world.SEEN_DOMAINS)
        services += [s for s in rng.sample(domain.services, 3) if s not in services]
        tools = [service.spec for service in services]
        jobs = [_seen_job(rng, rng.choice(services)) for _ in range(3)]
    else:
        made = invented.family(rng, 3) + invented.family(rng, 2)
        tools = [tool.spec for tool in made]
        jobs = [_invented_job(rng, rng.choice(made)) for _ in range(3)]
    rng.shuffle(tools)
    lines = ["Services of the desk:"]
    for tool in tools:
        needs = ", ".join(p.name for p in tool.parameters if p.required)
        lines.append(f"{tool.name}: {tool.description} It needs {needs}.")
    for tool, text, _, _ in jobs:
        lines.append(f"{text}\nThis is for{answer(f' {tool.name}. {tool.description}')}")
    return "\n".join(lines)


def _desk_log(rng: random.Random) -> str:
    """Requests, each followed by its slots in words."""
    lines = []
    for _ in range(rng.randint(3, 5)):
        tool, text, values, missing = _seen_job(rng)
        lines.append(text)
        facts = [
            f"The {_description(tool, name)} is {as_words(value, False)}."
            for name, value in values.items()
        ]
        if missing:
            about = _description(tool, missing)
            facts.append(f"The {about} is not given. What is the {about}?")
            service = world.SERVICES[tool.name]
            value = pools.draw(service.slot(missing).kind, rng, "train")
            facts.append(requests.reply(service, missing, value, rng))
            facts.append(f"So the {about} is {as_words(value, False)}.")
        lines.append(answer(" ".join(facts) + "\n"))
    return "\n".join(lines)


def _two_steps(rng: random.Random) -> str:
    """Requests with two wishes, told step by step; the result of the first feeds the second."""
    domain = rng.choice(world.SEEN_DOMAINS)
    stories = [
        _invented_steps(rng) if rng.random() < 0.5 else _seen_steps(rng, domain)
        for _ in range(rng.randint(1, 3))
    ]
    manual = ""
    if rng.random() < 0.8:
        specs = [tool for _, steps in stories for tool, _, _ in steps]
        specs.append(rng.choice(domain.services).spec)
        texts = list(dict.fromkeys(render_tools((tool,)) for tool in specs))
        rng.shuffle(texts)
        manual = rng.choice(("", "System: ")) + "\n".join(texts) + "\n"
    lines = []
    style = rng.randrange(len(_LABELS))
    label = _LABELS[style]
    for text, steps in stories:
        lines.append(f"User: {text}")
        for tool, values, output in steps:
            verdict = _verdict((tool, "", values, ""), style)
            lines.append(label + answer(f" {verdict}\n") + f"Output: {output}")
        last = json.loads(steps[-1][2])
        lines.append(label + answer(f" {world.answer_for(_bare(last))}"))
    return manual + "\n".join(lines)


def _seen_steps(rng: random.Random, domain: Domain) -> tuple[str, list[_Step]]:
    chain = rng.choice(domain.chains)
    first, second = world.SERVICES[chain.first], world.SERVICES[chain.second]
    request = requests.chained(chain, rng, "train")
    fields, text = feedback_of(first, rng, "train")
    steps = [(first.spec, request.arguments[0], text)]
    values = {chain.slot: fields[chain.field], **request.arguments[1]}
    steps.append((second.spec, values, feedback_of(second, rng, "train")[1]))
    return request.text, steps


def _invented_steps(rng: random.Random) -> tuple[str, list[_Step]]:
    first, second = (
        invented.family(rng, 2)
        if rng.random() < 0.5
        else (invented.family(rng, 1) + invented.family(rng, 1))
    )
    text, values, _ = invented.ask_for(first, rng)
    key = second.spec.parameters[0].name
    fields = invented.fields(rng, key, second.kinds[key])
    steps = [(first.spec, values, json.dumps(fields))]
    text += rng.choice((" and ", ", then ", " and then ")) + second.follow_up
    values = {key: fields[key]}
    for parameter in second.spec.parameters[1:]:
        if parameter.required:
            values[parameter.name] = pools.draw(second.kinds[parameter.name], rng, "train")
            said = pools.as_text(values[parameter.name])
            text += " " + second.phrases[parameter.name].format(v=said)
    steps.append((second.spec, values, json.dumps(invented.fields(rng))))
    return text[0].upper() + text[1:] + ".", steps


def _bare(output: dict[str, Any]) -> dict[str, Any]:
    """Take the fields out of the envelope some tools put round them."""
    for envelope in ("data", "result"):
        if isinstance(output.get(envelope), dict):
            return output[envelope]
    return output


_TABLE: tuple[tuple[Callable[[random.Random], str], float], ...] = (
    (_manual, 0.46),
    (_short_list, 0.06),
    (_desk_log, 0.10),
    (_two_steps, 0.20),
    (drills.outputs, 0.04),
    (drills.cards, 0.05),
    (drills.echoes, 0.06),
    (drills.diary, 0.03),
)
_DOCUMENTS = tuple(document for document, _ in _TABLE)
_WEIGHTS = tuple(weight for _, weight in _TABLE)
