"""Wrong calls with the feedback real tools give to them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.data.synthetic.requests import draw_required
from tl_jax.data.synthetic.spec import Service
from tl_jax.data.synthetic.values import STRING_KINDS
from tl_jax.data.synthetic.world import SERVICES

_INVENTED_SLOTS = ("query", "limit", "language", "user", "q", "page", "verbose", "mode", "sort")
_INVENTED_NAMES = ("search", "run_query", "lookup", "call_service", "web_search", "get_info")
_REASONS = ("Service Unavailable", "Bad Gateway", "Gateway Timeout", "Too Many Requests")

Fault = tuple[ToolCall, str]


def _unknown_tool(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    words = service.name.split("_")
    style = rng.randrange(4)
    if style == 0:
        name = service.name + rng.choice(("_info", "_data", "_now", "s", "_details"))
    elif style == 1:
        name = "_".join([rng.choice(("fetch", "lookup", "query", "request"))] + words[1:])
    elif style == 2:
        name = words[0] + "".join(word.capitalize() for word in words[1:])
    else:
        name = rng.choice(_INVENTED_NAMES)
    feedback = rng.choice(
        (
            f"name '{name}' is not defined",
            _json(error=f"unknown tool {name}"),
            _json(status_code=404, message=f"error: no tool called {name}"),
            f"NameError: name '{name}' is not defined",
        )
    )
    return ToolCall(name, dict(gold)), feedback


def _unexpected_keyword(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    declared = {slot.name for slot in service.slots}
    key = rng.choice([name for name in _INVENTED_SLOTS if name not in declared])
    arguments = dict(gold)
    if rng.random() < 0.5:
        arguments[key] = rng.choice((1, 10, "en", "all", True))
    else:
        renamed = rng.choice(list(arguments))
        arguments = {key if k == renamed else k: v for k, v in arguments.items()}
    feedback = rng.choice(
        (
            f"{service.name}() got an unexpected keyword argument '{key}'",
            f"TypeError: {service.name}() got an unexpected keyword argument '{key}'",
            _json(error=f"unknown parameter {key}"),
        )
    )
    return ToolCall(service.name, arguments), feedback


def _missing_argument(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    key = rng.choice([slot.name for slot in service.slots if slot.required])
    arguments = {name: value for name, value in gold.items() if name != key}
    feedback = rng.choice(
        (
            f"{service.name}() missing 1 required positional argument: '{key}'",
            f"TypeError: {service.name}() missing 1 required positional argument: '{key}'",
            _json(error=f"missing parameter {key}"),
            _json(status_code=400, message=f"error: {key} is required"),
        )
    )
    return ToolCall(service.name, arguments), feedback


def _wrong_tool(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    name = rng.choice(offered)
    # A confused caller fills what it can with the values at hand.
    free = [slot.name for slot in SERVICES[name].slots if slot.kind in STRING_KINDS]
    spare = [value for value in gold.values() if isinstance(value, str)]
    arguments = {}
    for key, value in draw_required(SERVICES[name], rng, "train").items():
        if key in free and key in gold:
            value = gold[key]
        elif key in free and spare:
            value = spare.pop(0)
        arguments[key] = value
    feedback = rng.choice(
        (
            f"This request is not supported by {name}",
            _json(error=f"{name} cannot answer this request"),
            _json(status_code=400, message="400 Client Error: wrong endpoint"),
            f"Invalid API call: {name} does not serve this request",
        )
    )
    return ToolCall(name, arguments), feedback


def _bad_value(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    key = rng.choice(list(gold))
    value = gold[key]
    arguments = dict(gold)
    if isinstance(value, str):
        arguments[key] = rng.choice((value[: len(value) // 2 + 1] + "?", "unknown", ""))
        kind = "a valid string"
    elif isinstance(value, list):
        arguments[key] = ", ".join(value)
        kind = "an array"
    elif isinstance(value, bool):
        arguments[key] = "maybe"
        kind = "a boolean"
    else:
        arguments[key] = rng.choice((f"about {value}", "some", -1))
        kind = "a positive number"
    shown = arguments[key]
    feedback = rng.choice(
        (
            f"ValueError: invalid value {shown!r} for {key}",
            _json(error=f"{key} must be {kind}"),
            _json(status_code=422, message=f"error: {key} must be {kind}"),
            f"Response error: bad {key}",
        )
    )
    return ToolCall(service.name, arguments), feedback


def _service_down(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    reason = rng.choice(_REASONS)
    feedback = rng.choice(
        (
            reason,
            _json(status_code=503, message=reason),
            "ConnectionError: the server closed the connection",
            _json(error="connection error, try again"),
        )
    )
    return ToolCall(service.name, dict(gold)), feedback


def _empty_result(service: Service, gold: Mapping[str, Any], offered, rng) -> Fault:
    arguments = dict(gold)
    words = [key for key, value in gold.items() if isinstance(value, str) and len(value) > 3]
    if words:
        key = rng.choice(words)
        cut = rng.randrange(1, len(arguments[key]) - 1)
        arguments[key] = (arguments[key][:cut] + arguments[key][cut + 1 :]).strip()
    feedback = rng.choice(
        (
            _json(result=[], message="nothing found"),
            "nothing found",
            _json(result=None, message="no match found"),
            "[]",
        )
    )
    return ToolCall(service.name, arguments), feedback


_MAKERS: dict[str, Callable[..., Fault]] = {
    "unknown_tool": _unknown_tool,
    "unexpected_keyword": _unexpected_keyword,
    "missing_argument": _missing_argument,
    "wrong_tool": _wrong_tool,
    "bad_value": _bad_value,
    "service_down": _service_down,
    "empty_result": _empty_result,
}
FAULTS = tuple(_MAKERS)


def make_fault(
    category: str,
    service: Service,
    gold: Mapping[str, Any],
    offered: Sequence[str],
    rng: random.Random,
) -> Fault:
    """Make a wrong call that somebody could make just before the right one.

    Args:
      category: One of ``FAULTS``.
      service: The right service.
      gold: The right arguments.
      offered: Names of the wrong services in the prompt; not empty.
      rng: The caller's stream.

    Returns:
      The wrong call and the feedback text.
    """
    return _MAKERS[category](service, gold, offered, rng)


def _json(**fields: Any) -> str:
    return json.dumps(fields)
