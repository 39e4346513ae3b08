"""Import rows written by ``tl_jax.data.trajectory.to_json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.schemas import repair_counts
from tl_jax.data.importers.unread import read_tool
from tl_jax.data.trajectory import Trajectory, from_json

NAME = "canonical"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"id", "tools", "messages", "line", "tags"} <= set(row):
        return "id, tools, messages, line and tags: a trajectory written by this package"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row; the row's own source and line win over those of the file.

    Raises:
      RowError: A missing field, an unknown role, a malformed call, or a tag ``repairs`` that is
        not of this package.
    """
    found = from_json(row)
    for tool in row["tools"]:
        read_tool(tool)
    repair_counts(found.tags)
    if found.source:
        return found
    return dataclasses.replace(found, source=source, line=line)
