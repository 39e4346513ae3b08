"""The services of the embedded world, by name and by domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import Parameter, ToolSpec
from tl_jax.data.synthetic.domain_bank import BANK
from tl_jax.data.synthetic.domain_clinic import CLINIC
from tl_jax.data.synthetic.domain_flights import FLIGHTS
from tl_jax.data.synthetic.domain_food import FOOD
from tl_jax.data.synthetic.domain_hotels import HOTELS
from tl_jax.data.synthetic.domain_music import MUSIC
from tl_jax.data.synthetic.domain_office import OFFICE
from tl_jax.data.synthetic.domain_shop import SHOP
from tl_jax.data.synthetic.domain_weather import WEATHER
from tl_jax.data.synthetic.spec import Domain, Service

SEEN_DOMAINS: tuple[Domain, ...] = (FLIGHTS, HOTELS, WEATHER, MUSIC, SHOP, BANK, OFFICE, FOOD)
UNSEEN_DOMAINS: tuple[Domain, ...] = (CLINIC,)


def _text_tool(name: str, description: str, parameter: str, about: str) -> ToolSpec:
    schema = {"type": "string", "description": about}
    return ToolSpec(name, description, (Parameter(parameter, "string", about, True, schema),))


ASK = _text_tool("ask_to_user", "Ask the user for what is missing.", "question", "the question")
FINISH = _text_tool("finish", "Give the final answer.", "answer", "the answer")

SERVICES: dict[str, Service] = {
    service.name: service for domain in SEEN_DOMAINS + UNSEEN_DOMAINS for service in domain.services
}
SEEN_SERVICES: tuple[Service, ...] = tuple(
    service for domain in SEEN_DOMAINS for service in domain.services
)


def domains() -> dict[str, tuple[ToolSpec, ...]]:
    """Return the tools of every domain (without ``ask_to_user`` and ``finish``)."""
    return {
        domain.name: tuple(service.spec for service in domain.services)
        for domain in SEEN_DOMAINS + UNSEEN_DOMAINS
    }


def tools() -> tuple[ToolSpec, ...]:
    """Return all tools; ``ask_to_user`` and ``finish`` come last."""
    return tuple(service.spec for service in SERVICES.values()) + (ASK, FINISH)


def shared_words(left: str, right: str) -> int:
    """Return how many leading name parts two tools share (``get_flight_price`` has three)."""
    count = 0
    for one, other in zip(left.split("_"), right.split("_"), strict=False):
        if one != other:
            break
        count += 1
    return count


def siblings(domain: Domain, name: str) -> list[str]:
    """Return the other tools of a domain, the longest shared name prefix first."""
    others = [service.name for service in domain.services if service.name != name]
    return sorted(others, key=lambda other: -shared_words(name, other))


def answer_for(fields: Mapping[str, Any]) -> str:
    """Return the sentence that reports a tool's feedback fields to the user."""
    facts = [f"the {name.replace('_', ' ')} is {value}" for name, value in fields.items()]
    text = " and ".join(facts)
    return text[0].upper() + text[1:] + "."


def question_for(service: Service, slot: str) -> str:
    """Return the question that asks the user for a slot."""
    return f"What is the {service.slot(slot).description}?"
