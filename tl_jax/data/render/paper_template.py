"""Write tools and messages as training text, with the character spans of every reply.

Two renderings exist. ``released`` is that of the published model (its README, model card and the
paper's figures), ``script`` that of the published conversion script. Both read::

    System: {tools}
    User: {query}
    Assistant: {call}
    Output: {feedback}
    Assistant: {call}

A reply is everything after ``Assistant:``, so it begins with a blank.

Source: README and code/mae/mae.py of the TL-Training release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tl_jax.calls.call import Parameter, ToolSpec
from tl_jax.calls.call_text import CallSpan, moved
from tl_jax.calls.render import render_call_spans
from tl_jax.data.trajectory import Message

STYLES = ("released", "script")
PROMPT_END = "\nAssistant:"
CALL_SEPARATOR = "\n"
"""Between the calls of one turn."""

_ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Output"}
_PYTHON_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
    "any": "Any",
}


@dataclasses.dataclass(frozen=True)
class ReplySpan:
    """Where one assistant turn is, in characters of the rendered text.

    Attributes:
      message: Index of the turn in the messages.
      turn: Number of the assistant turn, from 1.
      start: First character after ``Assistant:``.
      stop: End of the reply's own text.
      end: End of the end-of-sequence text after it; equals ``stop`` where there is none.
      calls: Its calls; empty for plain text.
    """

    message: int
    turn: int
    start: int
    stop: int
    end: int
    calls: tuple[CallSpan, ...]


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A rendered dialogue.

    Attributes:
      text: The text, end-of-sequence texts included.
      replies: The assistant turns in it, in order.
      head: Characters before the first turn: what dialogues with the same tools have in common.
      breaks: Where the text is cut before it is encoded: inside control tokens typed in it.
      has_control: The control tokens in the text are meant; otherwise they are plain text.
    """

    text: str
    replies: tuple[ReplySpan, ...]
    head: int = 0
    breaks: tuple[int, ...] = ()
    has_control: bool = False


def render_tools(tools: Sequence[ToolSpec], style: str = "released") -> str:
    """Return the tool list as Python function stubs."""
    _check_style(style)
    blocks = [_tool(tool, style) for tool in tools]
    # The released model also has a blank line after the last tool.
    return "".join(b + "\n\n" for b in blocks)[:-1] if style == "released" else "\n\n".join(blocks)


def render_prompt(
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    style: str = "released",
    *,
    eos_text: str = "",
    stop_after_every_reply: bool = False,
) -> Rendered:
    """Render the text up to and including the ``Assistant:`` that the model continues.

    ``eos_text`` and ``stop_after_every_reply`` must be those of the training samples.
    """
    stops = range(len(messages)) if stop_after_every_reply else ()
    rendered = _render(tools, messages, style, eos_text, stops)
    return dataclasses.replace(rendered, text=rendered.text + PROMPT_END)


def render_sample(
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    style: str = "released",
    eos_text: str = "",
    *,
    stop_after_every_reply: bool = False,
) -> Rendered:
    """Render a training text that ends with an assistant turn.

    Args:
      tools: Tools of the prompt.
      messages: Turns; a leading system turn is written before the tools.
      style: ``"released"`` or ``"script"``.
      eos_text: Text of the end-of-sequence token.
      stop_after_every_reply: Put ``eos_text`` after every assistant turn, for samples that train
        several of them; otherwise only after the last one, as published.

    Raises:
      ValueError: The last message is no assistant turn, or a call has no text form.
    """
    if not messages or messages[-1].role != "assistant":
        raise ValueError("a training text must end with an assistant turn")
    stops = range(len(messages)) if stop_after_every_reply else (len(messages) - 1,)
    return _render(tools, messages, style, eos_text, stops)


def _render(
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    style: str,
    eos_text: str,
    stops: Sequence[int],
) -> Rendered:
    leading = messages[0].content if messages and messages[0].role == "system" else ""
    system = "\n\n".join(part for part in (leading, render_tools(tools, style)) if part)
    parts = [f"{_ROLES['system']}: {system}"]
    length = len(parts[0])
    replies: list[ReplySpan] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            if index:
                raise ValueError("only the first message may be a system turn")
            continue
        head = f"\n{_ROLES[message.role]}:"
        start = length + len(head)
        if message.role == "assistant":
            body, calls = _reply(message, style, start)
            stop = start + len(body)
            ending = eos_text if index in stops else ""
            replies.append(
                ReplySpan(index, len(replies) + 1, start, stop, stop + len(ending), calls)
            )
            body += ending
        else:
            body = f" {message.content}"
        parts.append(head + body)
        length += len(head) + len(body)
    return Rendered("".join(parts), tuple(replies), len(parts[0]))


def _reply(message: Message, style: str, start: int) -> tuple[str, tuple[CallSpan, ...]]:
    if not message.calls:
        return f" {message.content}", ()
    text = " "
    spans = []
    for number, call in enumerate(message.calls):
        rendered = render_call_spans(call, style)
        text += CALL_SEPARATOR if number else ""
        at = start + len(text)
        text += rendered.text
        spans.append(
            CallSpan(
                (at, at + len(rendered.text)),
                moved(rendered.name_span, at),
                tuple((moved(n, at), moved(v, at)) for n, v in rendered.argument_spans),
            )
        )
    # The released model writes a blank after the closing parenthesis.
    return text + (" " if style == "released" else ""), tuple(spans)


def _tool(tool: ToolSpec, style: str) -> str:
    ordered = sorted(tool.parameters, key=lambda p: not p.required)
    signature = ", ".join(_signature(p, style) for p in ordered)
    lines = [
        "Function:",
        f"def {tool.name}({signature}):",
        '    """',
        f"    {tool.description}",
    ]
    if ordered or style == "script":
        indent = " " * (8 if style == "released" else 4)
        lines += ["", "    Args:"]
        lines += [f"{indent}{p.name} ({p.type}): {p.description}" for p in ordered]
    return "\n".join([*lines, '    """'])


def _signature(parameter: Parameter, style: str) -> str:
    if style == "released":
        kind = f":{_PYTHON_TYPES.get(parameter.type, parameter.type)}"
    else:
        kind = f": {parameter.type}"
    return f"{parameter.name}{kind}{'' if parameter.required else ' = None'}"


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise ValueError(f"unknown template {style!r}; known: {', '.join(STYLES)}")
