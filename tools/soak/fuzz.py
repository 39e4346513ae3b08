"""Readers under small mutations of what they read: a result, or an error that names the fault."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf as gguf_package
import mutate
import numpy as np
from ledger import Ledger, Outcome, draw_of
from safetensors.numpy import save

from tl_jax.calls.call import ToolCall, tool_from_schema
from tl_jax.calls.parse import CallSyntaxError, parse_calls
from tl_jax.calls.render import render_calls
from tl_jax.calls.styles import STYLES
from tl_jax.config import RunConfig
from tl_jax.config.fields import from_dict, to_dict
from tl_jax.convert import gguf, hf_directory
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.record import pack_example, unpack_example
from tl_jax.data.importers import BadRow, RawRow, read
from tl_jax.data.mae.schema_checks import problems_of
from tl_jax.data.render import template_engine, template_limits
from tl_jax.data.trajectory import from_json
from tl_jax.errors import TlJaxError
from tl_jax.models import registry
from tl_jax.rewards.rules import RIGHT, Parallel, score

BATCH = 500
"""Executions of one unit."""
_SLOW_S = 20.0  # of a core, for one execution
_TELL_S = 60.0
_DIALOGUES = 8  # that are written with one template: to compile it takes longest

TOOL: dict[str, Any] = {
    "name": "weather",
    "description": "d",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Oslo"], "$ref": "#/$defs/a"},
            "days": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        },
        "required": ["city"],
        "$defs": {"a": {"type": "string", "pattern": "^O"}},
    },
}
CALL = {"city": "Oslo", "days": [1, 2]}
CANONICAL: dict[str, Any] = {
    "id": "t",
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "calls": [{"name": "weather", "arguments": CALL}], "weight": 1.0},
        {"role": "tool", "content": "ok", "status": "ok"},
        {"role": "assistant", "content": "done", "thoughts": "t"},
    ],
    "source": "s",
    "line": 3,
    "tags": {"a": "b"},
}
_FUNCTION = {"name": "weather", "arguments": json.dumps(CALL)}
OPENAI: dict[str, Any] = {
    "tools": [{"type": "function", "function": TOOL}],
    "messages": [
        {"role": "user", "content": "w"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": _FUNCTION}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "x"},
        {"role": "assistant", "content": "Clear."},
    ],
}
SHAREGPT: dict[str, Any] = {
    "tools": json.dumps([TOOL]),
    "conversations": [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'},
        {"from": "tool", "value": "ok"},
        {"from": "gpt", "value": "done"},
    ],
}
TEMPLATE = (
    "{%- for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ c.function | tojson }}{{ loop.index }}{% endfor %}{% endif %}"
    "{{ '-' * 3 }}{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
      name: For the table.
      run: Mutates what it reads and reads it; returns whether it was read.
    """

    name: str
    run: Callable[[random.Random], bool]


def targets(folder: Path) -> list[Target]:
    """Return all readers; files that they need are written to a folder."""
    template_limits.SECONDS = 2.0
    base = Path(str(importlib.resources.files("tl_jax") / "assets" / "base"))
    tools = (tool_from_schema(TOOL),)
    gold = ToolCall("weather", CALL)
    texts = {style: render_calls((gold,), style) for style in STYLES}
    settings = json.loads(json.dumps(to_dict(RunConfig())))
    architecture = json.loads((base / "config.json").read_text())
    record = pack_example(Example("é", [1, 2, 70000], [0, 1.0, 2.0], {"a": "b"}))
    weights = save({"a": np.zeros((2, 3), np.float32), "model.b": np.zeros(4, np.float16)})
    header = 8 + int.from_bytes(weights[:8], "little")
    whole = _gguf(folder / "whole.gguf")
    turns = [{"role": "user", "content": "w"}, OPENAI["messages"][1]]
    held: dict[str, Any] = {"draw": None}

    def importer(name: str, row: dict[str, Any]) -> Target:
        file = folder / f"{name}.jsonl"
        file.write_text(json.dumps(row) + "\n")
        source = read(file, name)

        def convert(draw: random.Random) -> bool:
            line = json.dumps(mutate.value(row, draw)).encode()
            if draw.random() < 0.3:
                line = mutate.data(line, draw)
            found = list(source.converted(RawRow(str(file), 0, line)))
            return not any(isinstance(row, BadRow) for row in found)

        return Target(f"importer {name}", convert)

    def parse(draw: random.Random) -> None:
        style = draw.choice(list(texts))
        parse_calls(mutate.text(texts[style], draw), style, tools)

    def reward(draw: random.Random) -> None:
        style, mode = draw.choice(list(texts)), draw.choice(("strict", "graded"))
        text = mutate.text(texts[style], draw)
        found = score(text, gold, tools, mode=mode, style=style)
        if found.value == RIGHT:
            calls = parse_calls(text, style, tools)
            if [call.name for call in calls] != ["weather"]:
                raise Silent(f"{style}: {text!r} is worth {found.value}")
        score(text, Parallel(words="It is clear."), tools, mode=mode, style=style)

    def schema(draw: random.Random) -> None:
        problems_of(gold, (tool_from_schema(mutate.value(TOOL, draw)),))

    def template(draw: random.Random) -> None:
        if held["draw"] is not draw or not held["left"]:
            held.update(draw=draw, left=_DIALOGUES, source=mutate.text(TEMPLATE, draw))
        held["left"] -= 1
        messages = turns if held["left"] == _DIALOGUES - 1 else mutate.value(turns, draw)
        try:
            template_engine.write(held["source"], messages, None, prompt=True, special_tokens={})
        except Exception as error:  # as ``dialogue`` takes them
            raise ValueError(str(error)) from error

    def config(draw: random.Random) -> None:
        (folder / "config.json").write_text(json.dumps(mutate.value(architecture, draw)))
        registry.read_config(folder / "config.json")

    def header_of_gguf(draw: random.Random) -> None:
        (folder / "a.gguf").write_bytes(mutate.data(whole, draw))
        gguf.read_config(folder / "a.gguf")

    def header_of_safetensors(draw: random.Random) -> None:
        (folder / "model.safetensors").write_bytes(mutate.data(weights, draw, header))
        hf_directory.TensorFiles(folder)

    return [
        Target("canonical row", _accepts(lambda r: from_json(mutate.value(CANONICAL, r)))),
        importer("openai", OPENAI),
        importer("sharegpt", SHAREGPT),
        Target("call parser", _accepts(parse, CallSyntaxError)),
        Target("reward", _accepts(reward, CallSyntaxError)),
        Target("tool schema", _accepts(schema, ValueError)),
        Target("chat template", _accepts(template, ValueError)),
        Target("settings", _accepts(lambda r: from_dict(RunConfig, mutate.value(settings, r)))),
        Target("example record", _accepts(lambda r: unpack_example(mutate.data(record, r), "a"))),
        Target("model config.json", _accepts(config)),
        Target("GGUF header", _accepts(header_of_gguf)),
        Target("safetensors header", _accepts(header_of_safetensors)),
    ]


class Silent(Exception):
    """Something went wrong without a word."""


def _accepts(
    reader: Callable[[random.Random], Any], *errors: type[Exception]
) -> Callable[[random.Random], bool]:
    """Return what reads and tells whether that went well; named errors are no fault."""

    def run(draw: random.Random) -> bool:
        try:
            reader(draw)
        except (TlJaxError, *errors):
            return False
        return True

    return run


def fuzz(ledger: Ledger, executions: int, run: Callable[[range], Iterator[list[Outcome]]]) -> None:
    """Run units until so many executions are done, those of earlier runs included.

    Args:
      ledger: Where they are counted.
      executions: How many in the end.
      run: Gives the outcomes of units of these numbers, in order.
    """
    first, units = ledger.units.get("fuzz", 0), -(-executions // BATCH)
    began = told = time.monotonic()
    for number, found in zip(range(first, units), run(range(first, units)), strict=True):
        ledger.finish("fuzz", number + 1, found)
        if (now := time.monotonic()) - told > _TELL_S:
            told, rate = now, (number + 1 - first) * BATCH / (now - began)
            print(f"executions {(number + 1) * BATCH:,}, {rate:,.0f}/s", flush=True)


def run_unit(known: Sequence[Target], seed: int, number: int) -> list[Outcome]:
    """Try one reader ``BATCH`` times and return what that led to."""
    target, draw = known[number % len(known)], draw_of(seed, "fuzz", number)
    fault = f"fuzzing: {target.name}"
    counts = {"as before": 0, "refused by name": 0}
    found: list[Outcome] = []
    for execution in range(BATCH):
        outcome, note = _outcome(target, draw)
        if outcome in counts:
            counts[outcome] += 1
        else:
            note = f"unit {number} execution {execution}: {note}"
            found.append(Outcome(fault, outcome, note))
    return [*found, *(Outcome(fault, name, times=times) for name, times in counts.items() if times)]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory, where the system has one: thousands of files a second pass it."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


def _outcome(target: Target, draw: random.Random) -> tuple[str, str]:
    began = time.process_time()  # on a machine under load nothing is quick
    try:
        outcome, note = ("as before" if target.run(draw) else "refused by name"), ""
    except Silent as error:
        outcome, note = "silent", str(error)
    except Exception as error:
        outcome, note = "traceback", f"{type(error).__name__}: {error}"
    took = time.process_time() - began
    return ("hang", f"{took:.0f} s") if took > _SLOW_S else (outcome, note)


def _gguf(path: Path) -> bytes:
    """Return a small file with a header of every kind of value."""
    writer = gguf_package.GGUFWriter(path, "llama")
    for name in ("embedding_length", "block_count", "attention.head_count", "context_length"):
        writer.add_uint32(f"llama.{name}", 2)
    writer.add_uint32("llama.feed_forward_length", 4)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.0, 1.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()
