"""Rewards, and the tables that turn findings into them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tl_jax.calls.call import ToolCall
from tl_jax.rewards import taxonomy
from tl_jax.rewards.taxonomy import Finding

PENALTIES: Mapping[str, float] = {
    taxonomy.FORMAT_ERROR: -2.0,
    taxonomy.EXTRA_CALL: -2.0,
    taxonomy.MISSING_CALL: -2.0,
    taxonomy.TOOL_HALLUCINATION: -2.0,
    taxonomy.WRONG_TOOL: -1.5,
    taxonomy.PARAMETER_HALLUCINATION: -0.8,
    taxonomy.PARAMETER_REDUNDANCY: -0.5,
    taxonomy.PARAMETER_MISSING: -0.5,
    taxonomy.CONTENT_FILLING: -0.25,
}
"""Penalty of each category; a category counts once, and only parameter categories add up.

Source: TL-Training (arXiv 2412.15495), inverse reward matching; the two of whole calls are added.
"""
RIGHT = 1.0
"""Reward of an answer without findings."""

_PARAMETERS = frozenset(
    (taxonomy.PARAMETER_HALLUCINATION, taxonomy.PARAMETER_REDUNDANCY, taxonomy.PARAMETER_MISSING)
)
_PARTIAL = _PARAMETERS | {taxonomy.CONTENT_FILLING}


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward and its explanation.

    Attributes:
      value: The reward; always a float.
      category: The worst category found, or ``taxonomy.ALL_RIGHT``.
      details: One ``"category: what"`` line per finding; empty if all is right.

    Example:
      >>> import tl_jax as tl
      >>> tl.Reward(-1.5, "wrong_tool").value
      -1.5
    """

    value: float
    category: str
    details: tuple[str, ...] = ()


ALL_RIGHT = Reward(RIGHT, taxonomy.ALL_RIGHT)
"""The reward of an answer without findings, with its category."""


def penalised(findings: Sequence[Finding]) -> Reward:
    """Return the reward of findings, of which the first is the worst.

    Each category counts once; a tool error stands alone, and wrong parameters hide wrong values.
    """
    if not findings:
        return ALL_RIGHT
    categories = {finding.category for finding in findings}
    counted = categories & _PARAMETERS or categories
    # Rounding makes -0.8 - 0.5 - 0.5 the literal -1.8.
    value = round(sum(PENALTIES[category] for category in counted), 6)
    return Reward(value, findings[0].category, tuple(f"{f.category}: {f.about}" for f in findings))


def graded(findings: Sequence[Finding], gold: ToolCall) -> Reward:
    """Return the reward of the findings of one call with partial credit.

    With ``n`` arguments in the gold call, a finding costs ``(RIGHT - penalty) / n``. The result is
    never below that of ``penalised``, and a call of the right tool never below one of a wrong tool.
    """
    strictly = penalised(findings)
    if not findings or findings[0].category not in _PARTIAL:
        return strictly
    lost = sum(RIGHT - PENALTIES[finding.category] for finding in findings)
    value = RIGHT - lost / max(1, len(gold.arguments))
    least = max(strictly.value, PENALTIES[taxonomy.WRONG_TOOL])
    return dataclasses.replace(strictly, value=round(max(value, least), 6))
