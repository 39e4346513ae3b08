"""How a service of the embedded world is written down: signature, phrasings, feedback."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tl_jax.calls.call import Parameter, ToolSpec

_BRACKET = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_JSON_TYPES = {
    "int": "integer",
    "amount": "number",
    "bool": "boolean",
    "list": "array",
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """One parameter and the kind of value it takes (see ``values.draw``)."""

    name: str
    kind: str
    description: str
    required: bool


@dataclasses.dataclass(frozen=True)
class Phrase:
    """One phrasing of a request.

    Attributes:
      full: Format string that names every required slot.
      vague: The same with one slot left out, or ``""``.
      missing: The slot that ``vague`` leaves out, or ``""``.
      held_out: Used in test splits only.
    """

    full: str
    vague: str
    missing: str
    held_out: bool


@dataclasses.dataclass(frozen=True)
class Service:
    """A tool of the world with all that is needed to talk about it.

    Attributes:
      spec: The signature shown in the prompt.
      slots: Parameters with value kinds.
      requests: Imperative phrasings, lower case, without final punctuation.
      questions: Questions, capitalised, without the question mark.
      options: Optional slot -> phrases appended to a request. ``!name`` holds the phrases that
        say a boolean is false.
      output: Feedback field -> value kind.
    """

    spec: ToolSpec
    slots: tuple[Slot, ...]
    requests: tuple[Phrase, ...]
    questions: tuple[Phrase, ...]
    options: Mapping[str, tuple[str, ...]]
    output: Mapping[str, str]

    @property
    def name(self) -> str:
        """The tool name."""
        return self.spec.name

    def slot(self, name: str) -> Slot:
        """Return the slot called ``name``."""
        return next(slot for slot in self.slots if slot.name == name)


@dataclasses.dataclass(frozen=True)
class Chain:
    """Two calls in a row: ``second`` takes ``field`` of the first feedback as ``slot``.

    ``requests`` are imperatives that refer to the first result as "it" and name the other
    required slots of ``second``; the last one is for test splits only.
    """

    first: str
    field: str
    second: str
    slot: str
    requests: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Domain:
    """Services of one domain and the chains between them."""

    name: str
    services: tuple[Service, ...]
    chains: tuple[Chain, ...]


def slot_names(template: str) -> tuple[str, ...]:
    """Return the slots a format string mentions, in order."""
    return tuple(_SLOT.findall(template))


def service(
    name: str,
    description: str,
    slots: Sequence[str],
    *,
    requests: Sequence[str],
    questions: Sequence[str],
    output: Mapping[str, str],
    options: Mapping[str, Sequence[str]] | None = None,
) -> Service:
    """Build a Service from its table entry.

    Args:
      name: Tool name.
      description: One short sentence.
      slots: Lines ``name kind description``; a ``?`` after the name makes it optional.
      requests: Imperatives. ``[flight {flight}|my flight]`` gives a second, vague phrasing that
        leaves the slot out. The last of requests and of questions are for test splits only.
      questions: Questions in the same notation.
      output: Feedback field -> value kind.
      options: Optional slot -> phrases.

    Returns:
      The Service.
    """
    parsed = []
    for line in slots:
        head, kind, text = line.split(" ", 2)
        parsed.append(Slot(head.rstrip("?"), kind.replace("_", " "), text, not head.endswith("?")))
    return Service(
        spec=ToolSpec(name, description, tuple(_parameter(slot) for slot in parsed)),
        slots=tuple(parsed),
        requests=_phrases(requests),
        questions=_phrases(questions),
        options={key: tuple(phrases) for key, phrases in (options or {}).items()},
        output=dict(output),
    )


def _parameter(slot: Slot) -> Parameter:
    head, _, rest = slot.kind.partition(":")
    kind = _JSON_TYPES.get(head, "string")
    schema: dict[str, object] = {"type": kind, "description": slot.description}
    if head == "enum":
        schema["enum"] = rest.split(",")
    if head == "list":
        schema["items"] = {"type": "string"}
    return Parameter(slot.name, kind, slot.description, slot.required, schema)


def _phrases(templates: Sequence[str]) -> tuple[Phrase, ...]:
    last = len(templates) - 1
    phrases = []
    for index, template in enumerate(templates):
        match = _BRACKET.search(template)
        phrases.append(
            Phrase(
                full=_BRACKET.sub(r"\1", template),
                vague=_BRACKET.sub(r"\2", template) if match else "",
                missing=slot_names(match.group(1))[0] if match else "",
                held_out=index == last,
            )
        )
    return tuple(phrases)
