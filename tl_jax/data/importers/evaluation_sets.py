"""Rows of evaluation sets, known by what they are: they must never be trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BFCL_ID = re.compile(
    r"(?:exec_|live_)?(?:simple|multiple|parallel|parallel_multiple|irrelevance|relevance|java"
    r"|javascript|python|rest|sql|chatable|multi_turn|memory|web_search|format_sensitivity)"
    r"(?:_[a-z]+)*_\d+(?:-\d+-\d+)?"
)
_ACE_ID = re.compile(r"(?:normal|special|agent)_\w+_\d+(?:_\d+)?|agent_multi_(?:step|turn)_\d+")

_OWN_IDS = {
    "BFCL": re.compile(
        r"live_(?:simple|multiple|parallel|parallel_multiple|irrelevance|relevance)_\d+-\d+-\d+"
        r"|simple_(?:python|java|javascript)_\d+|exec_(?:simple|multiple|parallel)(?:_multiple)?_\d+"
        r"|multi_turn_(?:base|miss_func|miss_param|long_context)_\d+"
    ),
    "ACEBench": re.compile(
        r"normal_(?:single_turn|multi_turn_user|atom|similar_api|preference)\w*_\d+(?:_\d+)?"
        r"|special_(?:incomplete|error_param|irrelevant)_\d+|agent_multi_(?:step|turn)_\d+"
    ),
}
"""Ids that no other set has, whatever form a row was given."""


def evaluation_set(row: Any) -> str:
    """Return the name of the evaluation set that a row is of; empty if it is of none that is known.

    RoTBench's dialogues of the first and the third turn are known by their accepted answers, or
    where each is one text by ``scenario`` and ``noise`` beside an ``id`` that begins with ``Turn``;
    ToolAlpaca's by ``Golden_Answers``, ToolEyes' queries by ``zero_shot``, BFCL's and ACEBench's
    by their ids and keys, by ids that no other set has alone.

    Args:
      row: A row of a data file.
    """
    if not isinstance(row, Mapping):
        return ""
    if "Golden_Answers" in row:
        return "ToolAlpaca"
    if _is_rotbench(row):
        return "RoTBench"
    if "query" in row and "scenario" in row and ("zero_shot" in row or "path" in row):
        return "ToolEyes"
    name = row.get("id")
    if not isinstance(name, str):
        return ""
    if known := [of for of, pattern in _OWN_IDS.items() if pattern.fullmatch(name)]:
        return known[0]
    if not {"function", "ground_truth", "initial_config"} & set(row):
        return ""
    if _BFCL_ID.fullmatch(name):
        return "BFCL"
    return "ACEBench" if _ACE_ID.fullmatch(name) else ""


def _is_rotbench(row: Mapping[str, Any]) -> bool:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], Mapping):
        return False
    last = turns[-1].get("value")
    if isinstance(last, list):
        return bool(last) and all(isinstance(x, str) and "Action Input:" in x for x in last)
    text = isinstance(last, str) and "Action Input:" in last
    named = str(row.get("id", "")).startswith("Turn ") and "tool_folder" not in row
    return text and ("noise" in row or (named and "scenario" in row))
