"""Import xLAM rows: ``query``, ``answers`` and ``tools``, the last two as JSON text.

A row is one question and its gold calls; there are no results. Parameters stand directly under
``parameters``, with types such as ``"str, optional"``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "xlam"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"query", "answers", "tools"} <= row.keys():
        return "query, answers and tools"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No question, no answer, or calls or tools that cannot be read.
    """
    query, answers = row.get("query"), row.get("answers")
    if not isinstance(query, str) or not query.strip():
        raise RowError("'query' must be text")
    if isinstance(answers, str):
        answers = load_json(answers, "'answers'")
    if not isinstance(answers, list) or not answers:
        raise RowError("'answers' must be a list of at least one call")
    repairs: Counter[str] = Counter()
    tools = normalised_tools(row.get("tools"), repairs, keep_names=True)
    tags = repair_tags(repairs)
    entries = [{"role": "user", "content": query}, {"role": "assistant", "tool_calls": answers}]
    return Trajectory(
        id=f"xlam:{row.get('id', f'{source}:{line}')}",
        tools=tools,
        messages=dialogue(entries, tools=tools, repairs=repairs),
        source=source,
        line=line,
        tags=tags,
        repairs=+repairs,
    )
