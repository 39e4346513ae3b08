"""Find what a model reasoned before a turn: under keys of a message, in parts, or in its text.

Sources keep thoughts under many keys (``reasoning_content``, ``reasoning``, ``thinking``), as parts
of the content, as turns of a role of their own, or in tags at the head of the visible text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.styles import STYLES
from tl_jax.data.importers.unread import read_keys

KEYS = (
    "reasoning_content", "reasoning", "thinking", "thought", "thoughts", "reasoning_text",
    "thinking_content", "reasoning_details", "thinking_blocks", "reasoningContent",
    "chain_of_thought", "cot", "tool_plan", "reasoning_trace", "reasoning_steps", "think",
    "thinking_process", "thinking_text", "thinkingContent", "thought_process", "thoughtProcess",
    "inner_thoughts", "internal_thoughts", "inner_monologue", "internal_monologue",
    "model_reasoning", "cot_reasoning", "reasoningText", "think_content",
)  # fmt: skip
"""Keys of a message under which sources keep thoughts."""
BESIDE = ("additional_kwargs", "provider_specific_fields", "model_extra")
"""Keys of a message whose object may hold them, as client libraries keep what they do not know."""
ROLES = frozenset(
    ("reasoning", "thinking", "thought", "thoughts", "think", "analysis", "inner_thoughts",
     "assistant_thought", "assistant_reasoning", "chain_of_thought", "cot")
)  # fmt: skip
"""Roles of turns that hold nothing but the thoughts of the turn after them."""
PARTS = frozenset(
    ("reasoning", "thinking", "thought", "reasoning_text", "summary_text", "reasoning.text",
     "reasoning.summary")
)  # fmt: skip
"""Types of content parts that hold thoughts."""
SEALED_PARTS = frozenset(("redacted_thinking", "reasoning.encrypted"))
"""Types of parts whose thoughts cannot be read."""

_SEALS = ("type", "signature", "format", "index", "id", "encrypted_content", "data")
"""Keys of a thought that say what it is, or that only its author can read."""
_TEXT_KEYS = ("text", "thinking", "reasoning", "thought", "content", "value", "summary")
_END_OF_MESSAGE = "<|end|>"
"""What ends a thought of harmony, and any other message; see ``frames``."""
_PLAIN_TAGS = ("think", "thinking", "thought", "reasoning", "scratchpad")
_TAGS = {
    **{
        f"<{written}>": f"</{written}>"
        for tag in _PLAIN_TAGS
        for written in (tag, tag.upper(), tag.capitalize())
    },
    **dict(style.thoughts for style in STYLES.values() if style.thoughts[1] != _END_OF_MESSAGE),
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
}
_DOUBTFUL = re.compile(
    r"\s*+<((?i:reason|rationale|analysis|reflection|plan|planning|thoughts|cot|chain_of_thought"
    r"|inner_monologue|inner_thoughts|internal|deliberation|reasoning_process|thought_process))>"
)
_FIRST = frozenset(tag[0] for tag in _TAGS)
_OPENED = re.compile("|".join(rf"^[ \t]*{re.escape(tag)}" for tag in _TAGS), re.MULTILINE)
_NEXT = re.compile(r"\s*+(?:" + "|".join(map(re.escape, _TAGS)) + ")")
_CLOSED = re.compile("|".join(map(re.escape, _TAGS.values())))
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_QUOTES = ("`", "'", '"')
_END_OF_SENTENCE = frozenset(".!?:;…)]}>\n。！？")


def thought_text(value: Any) -> str:
    """Return the text of a thought: text, a part, or a list of them; empty if there is none."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return joined(*map(thought_text, value))
    if isinstance(value, Mapping):
        read_keys(value, _SEALS)
        return next((text for key in _TEXT_KEYS if (text := thought_text(value.get(key)))), "")
    return ""


def thoughts_of(entry: Mapping[str, Any]) -> str:
    """Return the thoughts that a message keeps under keys of its own, each text once."""
    beside = (entry.get(key) for key in BESIDE)
    holders = (entry, *(inner for inner in beside if isinstance(inner, Mapping)))
    return joined(*(thought_text(one[key]) for one in holders for key in KEYS if key in one))


def joined(*thoughts: str) -> str:
    """Return several thoughts as one, without those that are empty or said before."""
    return "\n".join(dict.fromkeys(filter(None, thoughts)))


def split_thoughts(text: str) -> tuple[str, str]:
    """Split the text of an assistant turn into its thoughts and what the user sees.

    A thought stands in tags at the beginning of a line, such as ``<think>...</think>``; one whose
    opening tag the prompt held begins with the text, and one that was cut off ends with it. Tags
    in prose and in fenced code are text.

    Returns:
      The thoughts, and the visible text: as it was if there are none.
    """
    if not any(mark in text for mark in _FIRST):  # as most texts are, and this is quick
        return "", text
    first = _CLOSED.search(text)
    if first is None and not _OPENED.search(text):
        return "", text
    found: list[str] = []
    visible: list[str] = []
    position = 0
    if first is not None and not _opens_before(text, first) and _ends_a_thought(text, first):
        found.append(text[: first.start()])
        position = first.end()
    begin = counted = position  # where the visible text since the last thought begins
    fences, said, unclosed = 0, False, set[str]()
    while match := _NEXT.match(text, position) or _OPENED.search(text, position):
        between = text[counted : match.start()]
        fences, said = fences + len(_FENCE.findall(between)), said or bool(between.strip())
        counted = position = match.end()
        closing = _TAGS[match[0].strip()]
        end = -1 if fences % 2 or closing in unclosed else _closed(text, closing, position)
        if end < 0:
            if not fences % 2:
                unclosed.add(closing)
            if said:  # a tag in prose or code
                continue
            end = len(text)
        visible.append(text[begin : match.start()])
        found.append(text[position:end])
        begin = counted = position = min(end + len(closing), len(text))
    if not found:
        return "", text
    visible.append(text[begin:])
    return joined(*map(str.strip, found)), "\n".join(filter(None, map(str.strip, visible)))


def doubtful_tag(text: str) -> str:
    """Return the tag that a turn begins with if thoughts may stand in it, or an empty text.

    It may be asked for as well, as ``<analysis>`` of a judge, so the text stays visible.
    """
    match = _DOUBTFUL.match(text)
    return match[1].lower() if match and f"</{match[1]}>" in text else ""


def _closed(text: str, closing: str, start: int) -> int:
    """Return where a thought ends; one may speak of its closing tag in quotes."""
    end = text.find(closing, start)
    while end > start and text[end - 1] in _QUOTES:
        end = text.find(closing, end + 1)
    return end


def _opens_before(text: str, closed: re.Match[str]) -> bool:
    opening = next(tag for tag, end in _TAGS.items() if end == closed[0])
    return opening in text[: closed.start()]


def _ends_a_thought(text: str, closed: re.Match[str]) -> bool:
    """Whether a closing tag without an opening one is one, and not spoken of in a sentence."""
    before, after = text[: closed.start()].rstrip(" \t"), text[closed.end() : closed.end() + 1]
    whole = not before or before[-1] in _END_OF_SENTENCE or after in ("", "\n")
    return whole and after not in _QUOTES
