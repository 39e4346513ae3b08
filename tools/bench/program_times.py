"""Read from a trace of jax's profiler on the CPU which program spent how long in which part.

XLA names each operation in the trace by program and instruction. What it compiled, which it writes
where ``DUMP`` is among its flags, says for every instruction from which functions of the source it
comes.
"""

from __future__ import annotations

import collections
import gzip
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

DUMP = "--xla_dump_hlo_as_text --xla_dump_hlo_module_re=^jit_(read|extend|logprob_step|step)$"
"""Flags for XLA beside ``--xla_dump_to``: the programs of reward training."""

# What is called last of these, by file and function, names the part.
_PLACES = {
    "cross_entropy.py": "vocabulary",
    "functional.py:logits": "vocabulary",
    "functional.py:head_kernel": "vocabulary",
    "functional.py:_embed": "embedding",
    "functional.py:_write": "cache",
    "decoding.py:_padded": "cache",
    "choice.py": "choice of tokens",
    "decoding.py:_append": "choice of tokens",
    "attention.py": "attention",
    "layers.py:Attention": "matrices of attention",
    "layers.py:Mlp": "matrices of the MLP",
    "layers.py:RMSNorm": "norms",
    "rope.py": "rotation",
    "policy.py": "loss",
    "optim.py": "optimiser",
    "step.py:make_train_step.<locals>.step.<locals>.keep.<locals>.<lambda>": "optimiser",
}
_MOST_EVENTS = 1_000_000  # the profiler leaves out what is more
_LEAST = 0.01
_SECTIONS = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_CALL = re.compile(r"^\$\w+\.py:\d+ (\w+)$")


def read(trace: pathlib.Path, dump: pathlib.Path, calls: Sequence[str]) -> dict[str, Any]:
    """Return seconds by program and part, and those of calls on the host.

    Args:
      trace: Directory of the profiler.
      dump: Directory that XLA wrote to.
      calls: Python functions to report.

    Returns:
      ``busy_s``, in which any operation ran; ``programs`` by name, the longest first, with
      ``busy_s`` and, for those that were written, ``parts_s``, where operations that run side by
      side both count; and ``calls`` by name, with ``times``, ``wall_s`` and of it ``idle_s``, while
      no operation ran. Programs of less than a hundredth of the time are one.
    """
    (file,) = trace.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    if len(events) >= _MOST_EVENTS:
        raise ValueError("the trace is too long to be whole; give the step less to do")
    places = {name: _parts(path) for name, path in _dumped(dump).items()}
    spans: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    parts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    called: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        span = event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
        found = event.get("args", {})
        if "hlo_op" in found:
            program, operation = found["hlo_module"], found["hlo_op"]
            if re.match(r"(while|call|conditional)\b", operation):
                continue  # what it runs is listed itself
            spans[program].append(span)
            parts[program][places.get(program, {}).get(operation, "other")] += span[1] - span[0]
        elif (match := _CALL.match(event["name"])) and match[1] in calls:
            called[match[1]].append(span)
    busy = _joined(span for some in spans.values() for span in some)
    for program in [name for name in spans if _length(spans[name]) < _LEAST * _length(busy)]:
        spans["others"] += spans.pop(program)
    programs = {
        program: {"busy_s": round(_length(_joined(some)), 4)}
        | ({"parts_s": _rounded(parts[program])} if program in places else {})
        for program, some in spans.items()
    }
    return {
        "busy_s": round(_length(busy), 4),
        "programs": dict(sorted(programs.items(), key=lambda item: -item[1]["busy_s"])),
        "calls": {
            name: {
                "times": len(called[name]),
                "wall_s": round(_length(whole := _joined(called[name])), 4),
                "idle_s": round(_length(_joined([*whole, *busy])) - _length(busy), 4),
            }
            for name in calls
            if name in called
        },
    }


def _rounded(seconds: collections.Counter[str]) -> dict[str, float]:
    return {name: round(took, 4) for name, took in seconds.most_common()}


def _joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans as spans that do not overlap."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def _length(spans: Iterable[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in spans)


def _dumped(dump: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the file of each program as it was compiled last."""
    files = sorted(dump.glob("module_*.jit_*.cpu_after_optimizations.txt"))
    return {file.name.split(".")[1]: file for file in files}


def _parts(path: pathlib.Path) -> dict[str, str]:
    """Return the part of every instruction of a compiled program."""
    text = path.read_text(encoding="utf-8")
    tables: dict[str, dict[int, str]] = {name: {} for name in _SECTIONS}
    section = ""
    for line in text.splitlines():
        if line in _SECTIONS or not line:
            section = line
        elif section:
            number, _, rest = line.partition(" ")
            tables[section][int(number)] = rest
    found = {}
    for line in text.splitlines():
        name = re.match(r"\s+(?:ROOT )?%([^ ]+) = ", line)
        frame = re.search(r"stack_frame_id=(\d+)", line)
        if name and frame:
            found[name[1]] = _part(int(frame[1]), tables)
    return found


def _part(frame: int, tables: dict[str, dict[int, str]]) -> str:
    while frame > 0:
        stack = tables["StackFrames"][frame]
        location = tables["FileLocations"][_number(stack, "file_location_id")]
        file = tables["FileNames"][_number(location, "file_name_id")].strip('"')
        function = tables["FunctionNames"][_number(location, "function_name_id")].strip('"')
        if "/optax/" in file:
            return "optimiser"
        file = file.rsplit("/", 1)[-1]
        names = [f"{file}:{function}", f"{file}:{function.split('.')[0]}", file]
        if part := next((_PLACES[name] for name in names if name in _PLACES), ""):
            return part
        # Written with one added, so that 1 is none.
        frame = _number(stack, "parent_frame_id") - 1
    return "other"


def _number(text: str, name: str) -> int:
    found = re.search(rf"{name}=(\d+)", text)
    return int(found[1]) if found else 0
