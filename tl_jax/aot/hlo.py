"""What a compiled program moves between devices, read from its HLO text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
"""The collectives that are told apart."""

_ARRAY = re.compile(r"\b(pred|bf16|f8e\w+|[sufc]\d+)\[([\d,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
# The TPU compiler's reduce-scatter: an all-reduce fused with the slice that a device keeps.
_FUSED_SCATTER = "all-reduce-scatter"


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
      kind: One of ``KINDS``.
      elements: Of the largest array that a device holds of it, before or after.
      bytes: Of that array.
      wire_bytes: That a device sends each time, on a ring.
      group: Devices that take part together.
      times: How often a call of the program executes it.
      in_loop: Whether it stands in a loop.
    """

    kind: str
    elements: int
    bytes: int
    wire_bytes: float
    group: int
    times: int
    in_loop: bool


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    rest: str


def collectives(text: str) -> list[Collective]:
    """Return the collectives of ``compiled.as_text()``, each once, in no particular order.

    Loops whose number of turns is not a constant count as one turn; every branch counts as taken.
    """
    computations, entry = _computations(text)
    found: dict[str, Collective] = {}
    for name, times, in_loop, _ in _reached(computations, entry):
        for instruction in computations[name]:
            one = _collective(instruction, name, times, in_loop)
            if one is None:
                continue
            key = _shared_name(instruction.rest) or f"{name}/{instruction.name}"
            if key not in found or found[key].bytes * found[key].times < one.bytes * one.times:
                found[key] = one
    return list(found.values())


def totals(found: list[Collective]) -> dict[str, dict[str, float]]:
    """Return how often each kind runs in a call, and the bytes that a device sends by it."""
    table = {}
    for kind in KINDS:
        members = [one for one in found if one.kind == kind]
        if members:
            table[kind] = {
                "times": sum(one.times for one in members),
                "wire_bytes": sum(one.wire_bytes * one.times for one in members),
            }
    return table


def cycles(text: str) -> int:
    """Return the cycles that the compiler expects a call to take, collectives left out.

    They tell variants of one program apart; they are no promise.
    """
    computations, entry = _computations(text)
    total = 0
    for name, times, _, is_fused in _reached(computations, entry):
        if not is_fused:
            found = (_CYCLES.search(instruction.rest) for instruction in computations[name])
            total += times * sum(int(match[1]) for match in found if match)
    return total


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and not line.startswith(" "):
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
            continue
        instruction = _INSTRUCTION.match(line)
        if instruction and current:
            computations[current].append(_parsed(instruction[1], instruction[2]))
    return computations, entry


def _parsed(name: str, text: str) -> _Instruction:
    end = text.find(" ", _end_of_tuple(text))
    opcode, _, rest = text[end + 1 :].partition("(")
    return _Instruction(name, text[:end], opcode, rest)


def _end_of_tuple(text: str) -> int:
    """Return where the parenthesis that ``text`` begins with is closed; 0 if there is none."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return 0


def _reached(
    computations: dict[str, list[_Instruction]], entry: str
) -> Iterator[tuple[str, int, bool, bool]]:
    """Yield every computation, how often it runs, whether in a loop, whether inside a fusion."""
    waiting = [(entry, 1, False, False)]
    seen: dict[str, int] = {}
    while waiting:
        name, times, in_loop, is_fused = waiting.pop()
        if name not in computations or seen.get(name, 0) >= times:
            continue
        seen[name] = times
        yield name, times, in_loop, is_fused
        for instruction in computations[name]:
            called = dict(_CALLED.findall(instruction.rest))
            loops = instruction.opcode == "while"
            inner = times * (_turns(computations.get(called["condition"], [])) if loops else 1)
            fused = is_fused or instruction.opcode == "fusion"
            branches = [
                name.strip(" %")
                for names in _BRANCHES.findall(instruction.rest)
                for name in names.split(",")
            ]
            waiting += [
                (other, inner, in_loop or loops, fused) for other in (*called.values(), *branches)
            ]


def _turns(condition: list[_Instruction]) -> int:
    """Return the bound of a loop that counts from 0; 1 if it is no constant."""
    constants = [one.rest for one in condition if one.opcode == "constant"]
    if len(constants) != 1 or condition[-1].opcode != "compare":
        return 1
    number = constants[0].partition(")")[0]
    return int(number) if number.isdecimal() else 1


def _collective(
    instruction: _Instruction, computation: str, times: int, in_loop: bool
) -> Collective | None:
    kind = instruction.opcode.removesuffix("-start")
    if kind not in KINDS:
        return None
    arrays = [_size(*match) for match in _ARRAY.findall(instruction.shape)]
    if instruction.opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
        # Operands and results, then counters.
        arrays = [max(arrays)]
    elements, size = (sum(column) for column in zip(*arrays, strict=True))
    group = _group(instruction.rest)
    share = (group - 1) / group
    wire = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)
    if kind == "reduce-scatter":
        elements, size = elements * group, size * group
    elif kind == "all-reduce" and computation.startswith(_FUSED_SCATTER):
        kind, wire = "reduce-scatter", share
    return Collective(kind, elements, size, size * wire, group, times, in_loop)


def _shared_name(attributes: str) -> str:
    """Return what the steps of a collective that is spread over several fusions have in common.

    It is their channel; but all collectives that are written in shard_map have the same.
    """
    is_written = re.search(r'op_name="[^"]*/shard_map/', attributes)
    found = re.search(r'chain_id="\d+' if is_written else r"channel_id=\d+", attributes)
    return found[0] if found else ""


def _size(kind: str, dimensions: str) -> tuple[int, int]:
    elements = math.prod(int(n) for n in dimensions.split(",") if n)
    bits = 8 if kind == "pred" or kind.startswith("f8") else int(kind.lstrip("bfsuc"))
    return elements, elements * bits // 8


def _group(attributes: str) -> int:
    named = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\([^{]*\))? \{([^}]*)\}", attributes
    )
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    compact = re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes)
    if compact:
        return int(compact[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    return len(listed[1].split(",")) if listed else 2
