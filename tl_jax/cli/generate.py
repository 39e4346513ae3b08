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

from collections.abc import Callable

import jax
from rich.console import Console

from tl_jax.calls.call import ToolSpec
from tl_jax.data.mae.schema_checks import problems_of
from tl_jax.data.trajectory import Message
from tl_jax.parallel import processes
from tl_jax.run.chat import Reply, make_answer, read_tools
from tl_jax.run.directory import Run

FLAGS = {"tools": ("", "JSON file with a list of tools"), "prompt": ("", "the request")}


def main(run: Run, console: Console, *, tools: str, prompt: str) -> None:
    """Answer one request, or chat at the terminal."""
    processes.require_one("a chat")
    offered = read_tools(tools)
    with jax.set_mesh(run.mesh):
        answer = make_answer(run, offered)
        if prompt:
            show(answer([Message("user", prompt)]), offered, console)
            return
        try:
            chat(answer, offered, console)
        except EOFError:
            console.print()


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
