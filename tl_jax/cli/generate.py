"""generate: ask the newest model of the run for a call, with tools of your own.

--tools=FILE is a JSON list of OpenAI-style function objects, --prompt="..." the request; without
--prompt requests are read from the terminal, one a line. Prints the reply, the call it parses to
and what is wrong with it, if anything, by the tools' schemas.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_schema
from tl_jax.cli.workspace import Workspace
from tl_jax.data.encoding import prompt_ids
from tl_jax.data.schema import Message
from tl_jax.evaluate.runner import read_reply
from tl_jax.rl.sampler import generate
from tl_jax.settings import ConfigError


def main(workspace: Workspace, console: Console, *, tools_path: str, prompt: str) -> None:
    """Answer one request, or those typed at the terminal."""
    tools = read_tools(tools_path)
    sample = workspace.sampler(workspace.config.evaluate.max_new_tokens, 0.0, 1.0)
    with jax.set_mesh(workspace.mesh):
        params = workspace.params(workspace.newest_phase())
        for request in [prompt] if prompt else iter(lambda: console.input("request: "), ""):
            ids = prompt_ids(
                tools,
                [Message("user", request)],
                workspace.tokenizer,
                template=workspace.config.data.template,
                action=workspace.config.mae.action,
            )
            keys = jax.random.split(jax.random.key(workspace.config.seed), 1)
            [generation] = generate(sample, params, [ids], keys, batch_size=1)
            reply = generation.ids[:-1] if generation.finished else generation.ids
            # Without control tokens a damaged call could look like a right one.
            text = workspace.tokenizer.decode(reply, keep_control=True).strip()
            console.print(f"reply: {text}", markup=False)
            call = read_reply(text, workspace.call_style)
            if call is None:
                console.print("not a call")
                continue
            console.print(f"call:  {call.name} {dict(call.arguments)}", markup=False)
            problems = check(call, tools)
            console.print("checks: " + ("; ".join(problems) or "fits its tool"), markup=False)


def read_tools(path: str) -> tuple[ToolSpec, ...]:
    """Read a JSON list of OpenAI-style function objects.

    Raises:
      ConfigError: No such file, or it is not such a list.
    """
    if not path or not Path(path).is_file():
        raise ConfigError(f"--tools: no file {path!r}; give a JSON list of function objects")
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"--tools {path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"--tools {path}: must be a JSON list of function objects")
    tools = []
    for number, entry in enumerate(entries, start=1):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"a tool must be an object, got {entry!r}")
            tools.append(tool_from_schema(entry))
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"--tools {path}: entry {number}: {error}") from error
    return tuple(tools)


# JSON-schema type -> Python types; a type that is not here is not checked.
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


def check(call: ToolCall, tools: tuple[ToolSpec, ...]) -> list[str]:
    """Return what is wrong with a call by the schema of its tool, in words."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return [f"no tool {call.name} is offered"]
    declared = {parameter.name: parameter for parameter in tool.parameters}
    problems = [f"{name} is no parameter" for name in call.arguments if name not in declared]
    problems += [
        f"{name} should be {declared[name].type}"
        for name, value in call.arguments.items()
        if name in declared and not _fits(value, declared[name].type)
    ]
    problems += [
        f"{name} is missing"
        for name, parameter in declared.items()
        if parameter.required and name not in call.arguments
    ]
    return problems


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in _TYPES:
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, object))
