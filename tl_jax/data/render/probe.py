"""Try a chat template on a dialogue of known words before it is trusted with data.

Stock templates drop tools, calls or results without a word. A template passes if every known word
is in its text, its calls can be read back, and a control token ends each reply. What the trial
finds out besides - the call style, whether thoughts can be told from calls and greetings may come
first, the tokens that end a reply, the settings under which the template continues its own prompt -
is all that training, sampling and scoring need to know.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import STYLES, CallSyntaxError, parse_calls, reply_call_text
from tl_jax.data.render import paper_template
from tl_jax.data.render.call_spans import find_calls
from tl_jax.data.render.chat_template import ChatTemplate, Dialogue
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.render.control_tokens import ControlTokens, control_tokens
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError

OWN = "chat"
FALLBACK = "chatml_tools"
TEMPLATES = (OWN, FALLBACK)
"""The tokenizer's own template, and the one of ``chatml_tools.py``."""

_DATE = "26 Jul 2024"
# A template that asks for the date would write another text every day.
_FIXED_DATE = f"{{%- macro strftime_now(format) %}}{_DATE}{{% endmacro -%}}"
# Data for training on tools have no hidden thoughts; some templates then write that there are none
# as part of the prompt.
_SETTINGS: tuple[dict[str, Any], ...] = ({"enable_thinking": False}, {})

_TOOL = ToolSpec(
    "probe_tool_qx",
    "Explains qxdescription.",
    (
        Parameter("probe_text_qx", "string", "The qxtext.", True),
        Parameter("probe_count_qx", "integer", "The qxcount.", True),
    ),
)
_CALL = ToolCall("probe_tool_qx", {"probe_text_qx": "qxvalue 'ä\" \\", "probe_count_qx": 70417})
_QUERY, _RESULT, _ANSWER, _THOUGHT = "qxquery", "qxresult", "qxanswer", "qxthought"
_CALLING = (Message("user", _QUERY), Message("assistant", "", (_CALL,)), Message("tool", _RESULT))
_THINKING = (Message("user", _QUERY), Message("assistant", _THOUGHT, (_CALL,)))
_ANSWERING = (Message("user", _QUERY), Message("assistant", _ANSWER))


@functools.lru_cache(maxsize=16)
def open_template(name: str, tokenizer: Tokenizer) -> ChatTemplate:
    """Return a chat template that has passed the trial.

    Args:
      name: One of ``TEMPLATES``.
      tokenizer: Tokenizer of the model.

    Raises:
      DataError: The tokenizer has no such template, or it fails; the message says what to choose.
    """
    source = _source(name, tokenizer)
    if "strftime_now" in source:
        source = _FIXED_DATE + source
    control = control_tokens(tokenizer.added_tokens, source)
    problems = []
    for text_arguments in (False, True):
        for settings in _SETTINGS:
            settings = {"date_string": _DATE, **settings}
            template = ChatTemplate(name, source, tokenizer, control, settings, text_arguments)
            try:
                return _tried(template)
            except ValueError as error:
                problems.append(str(error))
    raise DataError(f"data.template={name!r} cannot be used: {problems[0]}; {_advice(name)}")


def _source(name: str, tokenizer: Tokenizer) -> str:
    if name == FALLBACK:
        lacking = [token for token in NEEDED_TOKENS if token not in tokenizer.added_tokens]
        if lacking:
            raise DataError(
                f"data.template={name!r} needs the tokens {', '.join(lacking)}, which this "
                f"tokenizer does not have; {_advice(name)}"
            )
        begin = "{{- bos_token }}" if tokenizer.bos_id is not None else ""
        return begin + CHATML_TOOLS
    if name != OWN:
        raise DataError(f"unknown chat template {name!r}; known: {', '.join(TEMPLATES)}")
    if not tokenizer.fast.chat_template:
        raise DataError(f"this tokenizer has no chat template; {_advice(name)}")
    try:
        return tokenizer.fast.get_chat_template(tools=[{}])
    except ValueError as error:
        raise DataError(f"{error}; {_advice(name)}") from error


def _advice(name: str) -> str:
    others = [f"'{FALLBACK}'"] if name == OWN else []
    return f"choose data.template={' or '.join([*others, *map(repr, paper_template.STYLES)])}"


def _tried(template: ChatTemplate) -> ChatTemplate:
    """Return the template with what the trial found out.

    Raises:
      ValueError: It fails.
    """
    calling = Dialogue(template, (_TOOL,), _CALLING)
    start = calling.write(1, prompt=True)
    _expect(start, [_QUERY], "drops the user's turn")
    _expect(start, [_TOOL.name, *(p.name for p in _TOOL.parameters)], "drops the tools")
    _expect(start, [_TOOL.description.split()[-1]], "drops the descriptions of the tools")
    _, answer = Dialogue(template, (_TOOL,), _ANSWERING).write_reply(1)
    _expect(answer, [_ANSWER], "drops the reply")
    _, call = calling.write_reply(1)
    values = [_CALL.name, *_CALL.arguments, "qxvalue", "70417"]
    _expect(call, values, "drops the calls of a reply")
    _expect(calling.write(3, prompt=True), [_RESULT], "drops the results of tools")
    stop = _stop_after(answer.partition(_ANSWER)[2], template.control)
    call_stop = stop if stop in call else _stop_at_end(call, template.control)
    body = call[: call.index(call_stop)]
    found = dataclasses.replace(template, stops=tuple(dict.fromkeys((stop, call_stop))))
    found = dataclasses.replace(found, call_style=_style(body))
    return dataclasses.replace(
        found,
        writes_thoughts=_writes_thoughts(found),
        writes_greetings=_writes_greetings(found),
    )


def _expect(text: str, words: list[str], otherwise: str) -> None:
    if not all(word in text for word in words):
        raise ValueError(f"the template {otherwise}")


def _stop_after(text: str, control: ControlTokens) -> str:
    stop = control.pattern.match(text.lstrip())
    if stop is None:
        raise ValueError(
            "the template writes no control token after a reply, so nothing would teach the model "
            "to stop"
        )
    return stop[0]


def _stop_at_end(text: str, control: ControlTokens) -> str:
    text = text.rstrip()
    last = next((token for token in control.texts if text.endswith(token)), None)
    if last is None:
        raise ValueError(
            "the template writes no control token after a call, so nothing would teach the model "
            "to stop"
        )
    return last


def _writes_thoughts(template: ChatTemplate) -> bool:
    """Return whether a turn with a thought is read back as its calls and nothing else."""
    try:
        _, reply = Dialogue(template, (_TOOL,), _THINKING).write_reply(1)
        body = template.stop_pattern.split(reply, 1)[0]
        calls = reply_call_text(body, template.call_style)
        thought = body[: len(body) - len(calls)]
        return _THOUGHT in thought and parse_calls(calls, template.call_style) == (_CALL,)
    except ValueError:
        return False


def _writes_greetings(template: ChatTemplate) -> bool:
    """Return whether an assistant turn may come first, and is not taken for the user's."""

    def write(role: str) -> str:
        turns = (Message(role, _ANSWER), *_CALLING[:2])
        return Dialogue(template, (_TOOL,), turns).write_reply(2)[0]

    try:
        text = write("assistant")
    except ValueError:
        return False
    if not all(word in text for word in (_ANSWER, _QUERY, _TOOL.name)):
        return False
    try:
        return text != write("user")
    except ValueError:
        return True


def _style(body: str) -> str:
    """Return the style that reads the calls of a reply."""
    for style in STYLES:
        try:
            if parse_calls(body, style) == (_CALL,):
                find_calls(body, 0, len(body), (_CALL,), style)
                return style
        except CallSyntaxError:
            continue
    raise ValueError(
        f"the template writes calls in none of the forms {', '.join(STYLES)}: {body[:200]!r}"
    )
