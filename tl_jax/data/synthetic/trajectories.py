"""Dialogues of the embedded world: a query, calls with feedback, an answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.synthetic import faults, requests, world
from tl_jax.data.synthetic import values as pools
from tl_jax.data.synthetic.spec import Chain, Domain, Service
from tl_jax.data.trajectory import Message, Trajectory

_CHAIN_SHARE = 0.30
_VAGUE_SHARE = 0.08
_FAULT_SHARE = 0.35


def trajectories(num: int, *, seed: int, split: str) -> Iterator[Trajectory]:
    """Generate dialogues of the embedded world.

    Args:
      num: How many.
      seed: Same seed, same dialogues; trajectory ``i`` does not depend on ``num``.
      split: ``train`` (some dialogues contain a fault before the right call), ``test_seen`` (new
        values), ``test_reworded`` (phrasings that training never shows) or ``test_unseen`` (a
        domain that training never shows).

    Yields:
      Trajectories with tags ``domain``, ``split``, ``fault`` (category or ``""``) and ``steps``
      (number of right service calls).

    Raises:
      ValueError: Unknown split.
    """
    if split not in pools.SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(pools.SPLITS)}")
    for index in range(num):
        yield trajectory(index, seed=seed, split=split)


def feedback_of(service: Service, rng: random.Random, split: str) -> tuple[dict[str, Any], str]:
    """Draw what a service returns: its fields and the text the tool prints."""
    fields = {name: pools.draw(kind, rng, split) for name, kind in service.output.items()}
    style = rng.random()
    if style < 0.08:
        return fields, json.dumps({"status_code": 200, "data": fields})
    if style < 0.16:
        return fields, json.dumps({"result": fields})
    return fields, json.dumps(fields)


def trajectory(index: int, *, seed: int, split: str) -> Trajectory:
    """Return one of ``trajectories`` by its number."""
    rng = random.Random(f"{seed}/{split}/{index}")
    unseen = split == "test_unseen"
    domain = rng.choice(world.UNSEEN_DOMAINS if unseen else world.SEEN_DOMAINS)
    kind = rng.random()
    chain: Chain | None = None
    if kind < _CHAIN_SHARE:
        chain = rng.choice(domain.chains)
        plan = [world.SERVICES[chain.first], world.SERVICES[chain.second]]
        request = requests.chained(chain, rng, split)
    else:
        plan = [rng.choice(domain.services)]
        vague = kind < _CHAIN_SHARE + _VAGUE_SHARE
        request = requests.single(plan[0], rng, split, vague=vague)
    offered = _offer(domain, [service.name for service in plan], rng)

    fault, fault_step = "", -1
    if split == "train" and rng.random() < _FAULT_SHARE:
        fault, fault_step = rng.choice(faults.FAULTS), rng.randrange(len(plan))
    messages = [Message("user", request.text)]
    arguments = [dict(found) for found in request.arguments]
    if request.missing:
        slot = plan[0].slot(request.missing)
        value = pools.draw(slot.kind, rng, split)
        while value in arguments[0].values():
            value = pools.draw(slot.kind, rng, split)
        question = world.question_for(plan[0], slot.name)
        messages.append(_call(ToolCall(world.ASK.name, {"question": question})))
        messages.append(Message("user", requests.reply(plan[0], slot.name, value, rng)))
        arguments[0][slot.name] = value

    fields: dict[str, Any] = {}
    for step, service in enumerate(plan):
        if chain is not None and step == 1:
            arguments[1][chain.slot] = fields[chain.field]
        gold = _ordered(service, arguments[step])
        if step == fault_step:
            names = {service.name for service in plan}
            rivals = [tool.name for tool in offered if tool.name not in names]
            call, text = faults.make_fault(fault, service, gold, rivals, rng)
            messages += [_call(call), Message("tool", text, status="error")]
        fields, text = feedback_of(service, rng, split)
        messages += [_call(ToolCall(service.name, gold)), Message("tool", text, status="ok")]
    answer = world.answer_for(fields)
    messages.append(_call(ToolCall(world.FINISH.name, {"answer": answer})))
    return Trajectory(
        id=f"world-{split}-{seed}-{index}",
        tools=(*offered, world.ASK, world.FINISH),
        messages=tuple(messages),
        source="embedded world",
        line=index,
        tags={"domain": domain.name, "split": split, "fault": fault, "steps": str(len(plan))},
    )


def _offer(domain: Domain, gold: Sequence[str], rng: random.Random) -> list[ToolSpec]:
    """Pick the tools of a prompt: gold, close siblings and strangers, shuffled."""
    near = [name for name in world.siblings(domain, gold[-1]) if name not in gold]
    # One of the closest names, and often one more of the same domain.
    names = [*gold, near.pop(0 if rng.random() < 0.7 else rng.randrange(len(near)))]
    if len(gold) == 1 and rng.random() < 0.6:
        names.append(near.pop(0 if rng.random() < 0.5 else rng.randrange(len(near))))
    others = [other for other in world.SEEN_DOMAINS if other is not domain]
    for other in rng.sample(others, rng.randint(1, 2) if len(names) < 4 else 1):
        names.append(rng.choice(other.services).name)
    rng.shuffle(names)
    return [world.SERVICES[name].spec for name in names]


def _ordered(service: Service, found: dict[str, Any]) -> dict[str, Any]:
    return {slot.name: found[slot.name] for slot in service.slots if slot.name in found}


def _call(call: ToolCall) -> Message:
    return Message("assistant", calls=(call,))
