"""Categories of a predicted call, as the reward and the reports use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FORMAT_ERROR = "format_error"
EXTRA_CALL = "extra_call"
MISSING_CALL = "missing_call"
TOOL_HALLUCINATION = "tool_hallucination"
WRONG_TOOL = "wrong_tool"
PARAMETER_HALLUCINATION = "parameter_hallucination"
PARAMETER_REDUNDANCY = "parameter_redundancy"
PARAMETER_MISSING = "parameter_missing"
CONTENT_FILLING = "content_filling"
ALL_RIGHT = "all_right"
CUSTOM = "custom"
"""Of a reward that a user's own function gave as a number; it is no kind of error."""

DEFINITIONS: Mapping[str, str] = {
    FORMAT_ERROR: "the text is not exactly one call; or not calls only, where several are due",
    EXTRA_CALL: "a call beyond those of the right answer; any call where none is right",
    MISSING_CALL: "a call of the right answer is absent",
    TOOL_HALLUCINATION: "the called name is not among the offered tools",
    WRONG_TOOL: "the called tool is offered but is not the gold tool",
    PARAMETER_HALLUCINATION: "an argument name that the tool does not declare",
    PARAMETER_REDUNDANCY: "an argument name that the tool declares but the gold call does not use",
    PARAMETER_MISSING: "an argument name of the gold call is absent",
    CONTENT_FILLING: "the argument names are right and some value differs",
    ALL_RIGHT: "same tool, same argument names, same values",
}
"""Category -> definition, from the worst to the best.

Source: TL-Training (arXiv 2412.15495), error types of the preliminary study; those of whole calls
that are missing or too many are added here.
"""

CATEGORIES = tuple(DEFINITIONS)


class Finding(NamedTuple):
    """One error of a call: its category and the name or reason it is about."""

    category: str
    about: str
