"""generate: chat with the newest model of a run, and show its calls and what is wrong with them.

The tools come from a JSON file, a list of OpenAI-style function objects (--tools). With --prompt
one request is answered. Without it you chat at the terminal: type a request; if the model calls
tools, type the output of each and the model goes on, or leave all empty to speak next yourself. An
empty request ends the chat.

The reply is greedy. config.evaluate.max_new_tokens and config.evaluate.stop_strings say where it
ends at the latest; with config.evaluate.constrained the model can only name the tools of the file
and their parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_schema
from tl_jax.calls.parse import CallSyntaxError, parse_calls, reply_call_text
from tl_jax.cli.workspace import Workspace
from tl_jax.data.encoding import prompt_ids
from tl_jax.data.schema import Message
from tl_jax.data.static_checks import problems_of
from tl_jax.parallel import processes
from tl_jax.rl.sampler import generate, reply_text
from tl_jax.settings import ConfigError


class Reply(NamedTuple):
    """What the model wrote.

    Attributes:
      text: Without what ended it, control tokens included.
      thought: What stands before the calls, in call styles that mark their calls.
      calls: Empty if the whole is not calls in the run's style.
    """

    text: str
    thought: str
    calls: tuple[ToolCall, ...]


def main(workspace: Workspace, console: Console, *, tools_path: str, prompt: str) -> None:
    """Answer one request, or chat at the terminal."""
    processes.require_one("a chat")
    tools = read_tools(tools_path)
    with jax.set_mesh(workspace.mesh):
        answer = make_answer(workspace, tools)
        if prompt:
            show(answer([Message("user", prompt)]), tools, console)
            return
        try:
            chat(answer, tools, console)
        except EOFError:
            console.print()


def make_answer(
    workspace: Workspace, tools: tuple[ToolSpec, ...]
) -> Callable[[list[Message]], Reply]:
    """Return what asks the newest model of the run for the next turn of a dialogue.

    Raises:
      ConfigError: The settings do not fit the template; or, when it is asked, the dialogue is
        longer than ``config.evaluate.max_prompt_length``.
    """
    config, limits = workspace.config, workspace.config.evaluate
    sampler = workspace.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    guides = [workspace.guide()(tools)] if limits.constrained else []
    params = workspace.params(workspace.newest_phase())

    def answer(messages: list[Message]) -> Reply:
        ids = prompt_ids(
            tools,
            messages,
            workspace.tokenizer,
            template=config.data.template,
            action=config.mae.action,
        )
        if len(ids) > limits.max_prompt_length:
            raise ConfigError(
                f"the dialogue has {len(ids)} tokens, more than config.evaluate.max_prompt_length "
                f"({limits.max_prompt_length}); raise it, or begin anew"
            )
        keys = jax.random.split(jax.random.key(config.seed), 1)
        [made] = generate(sampler, params, [ids], keys, batch_size=1, guides=guides)
        # Without control tokens a damaged call could look like a right one.
        return read_reply(reply_text(made, workspace.tokenizer).strip(), workspace.call_style)

    return answer


def read_reply(text: str, style: str) -> Reply:
    """Split a reply into its thought and its calls."""
    marked = reply_call_text(text, style)
    try:
        calls = parse_calls(marked, style)
    except CallSyntaxError:
        return Reply(text, "", ())
    return Reply(text, text[: len(text) - len(marked)].strip(), calls)


def chat(
    answer: Callable[[list[Message]], Reply], tools: tuple[ToolSpec, ...], console: Console
) -> None:
    """Answer what is typed until a request is empty."""
    messages: list[Message] = []
    while request := console.input("request: "):
        messages.append(Message("user", request))
        reading = True
        while reading:
            reply = answer(messages)
            show(reply, tools, console)
            content = reply.thought if reply.calls else reply.text
            messages.append(Message("assistant", content, reply.calls))
            asked = [f"output of {call.name}: " for call in reply.calls]
            outputs = [console.input(question, markup=False) for question in asked]
            # With an output to read it is the model's turn again.
            reading = any(outputs)
            if reading:
                # One for every call: a template tells whose output one is by its place.
                messages += [
                    Message("tool", output, status="" if output else "missing")
                    for output in outputs
                ]


def show(reply: Reply, tools: tuple[ToolSpec, ...], console: Console) -> None:
    """Print a reply, its calls and what is wrong with them."""
    console.print(f"reply: {reply.text}", markup=False)
    if not reply.calls:
        console.print("not a call")
    for call in reply.calls:
        console.print(f"call:  {call.name} {dict(call.arguments)}", markup=False)
        problems = problems_of(call, tools)
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
