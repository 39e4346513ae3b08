"""Import the ReAct text of RoTLLaMA's GPT-4 trajectories (RoTBench) and of ToolLLaMA's.

A row is ``{"id", "conversations": [{"from", "value"}], "tool_folder"}``. The system text holds
instructions for the ReAct form and a JSON tool list; the instructions are left out, because they
ask for another call form than the one trained here, and so is ``Begin!`` after the query.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.assistant import assistant_turn, unparsable_turn
from tl_jax.data.importers.json_text import load_json_at, load_loose_json
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "rotllama"

_REACT = re.compile(
    r"(?:Thought:(?P<thought>.*?)\n)?Action:(?P<name>[^\n]*)\nAction Input:(?P<arguments>.*)",
    re.DOTALL,
)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    turns = row.get("conversations") if isinstance(row, Mapping) else None
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        return ""
    has_call = any(
        turn.get("from") == "assistant" and "\nAction Input:" in str(turn.get("value"))
        for turn in turns
    )
    return "conversations of from/value with Action / Action Input turns" if has_call else ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No tool list, an unknown speaker, or a turn without text.
    """
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2:
        raise RowError("'conversations' must be a list of at least a system and one more turn")
    messages = []
    for number, turn in enumerate(turns):
        speaker, text = turn.get("from"), turn.get("value")
        if not isinstance(text, str):
            raise RowError(f"turn {number}: 'value' must be text")
        if (speaker == "system") != (number == 0):
            raise RowError("exactly the first turn must come from 'system'")
        if speaker == "assistant":
            messages.append(_assistant(text))
        elif speaker == "user":
            messages.append(Message("user", text.strip().removesuffix("Begin!").rstrip()))
        elif speaker == "function":
            messages.append(Message("tool", text))
        elif speaker != "system":
            raise RowError(f"turn {number}: unknown speaker {speaker!r}")
    folder = str(row.get("tool_folder", ""))
    tools, repairs = _tools(turns[0]["value"])
    return Trajectory(
        id=f"{folder or source}:{line}",
        tools=tools,
        messages=tuple(messages),
        source=source,
        line=line,
        tags={**({"scenario": folder} if folder else {}), **repairs},
    )


def _assistant(text: str) -> Message:
    match = _REACT.fullmatch(text.strip())
    if match is None:
        return unparsable_turn(text)
    return assistant_turn(text, match["name"], match["arguments"], (match["thought"] or "").strip())


@functools.lru_cache(maxsize=256)  # few folders of tools, many dialogues with each
def _tools(system: str) -> tuple[tuple[ToolSpec, ...], dict[str, str]]:
    """Return the tools in a system text and the tags that record their repairs."""
    repairs: Counter[str] = Counter()
    return normalised_tools(_functions(system), repairs), repair_tags(repairs)


def _functions(system: str) -> Any:
    start = system.find("[{")
    if start < 0:
        raise RowError("the system turn holds no JSON tool list")
    try:
        return load_json_at(system, start, "the tool list in the system turn")[0]
    except RowError:
        # ToolLLaMA writes the list as a Python literal, at the end of the text.
        return load_loose_json(system[start:].strip(), "the tool list in the system turn")
