"""The published reward's reading of calls, kept with its blind spots for comparison.

Only single-quoted string arguments are seen, on both sides; the argument text ends at the first
closing parenthesis, even inside quotes; text after it is ignored; text before the name on the same
line becomes part of the name. ``rules.score(mode="strict")`` has none of these.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tl_jax.rewards import taxonomy
from tl_jax.rewards.taxonomy import Finding

# The look-behind and the possessive runs change no match; they keep the search linear.
_ARGUMENT = re.compile(r"(?<!\w)(\w++)\s*+=\s*+'([^']*+)'")


def judge(
    prediction: str,
    gold: str,
    tools: Mapping[str, Collection[str]],
    *,
    given_tool: str | None = None,
) -> list[Finding]:
    """Return the errors of ``prediction`` in the published decision order; empty if none.

    Args:
      prediction: Text the model wrote after the prompt.
      gold: Gold text, read by the same rules.
      tools: Offered tool name -> declared parameter names.
      given_tool: Text after the last "Assistant:" of the prompt, if any; the parameters are then
        looked up under it instead of under the predicted name.

    Source: TL-Training (arXiv 2412.15495), inverse reward matching, as published.
    """
    called, expected = _read(prediction), _read(gold)
    if called is None or expected is None:
        side = "prediction" if called is None else "gold"
        return [Finding(taxonomy.FORMAT_ERROR, f"no call in the {side}")]
    name, arguments = called
    if name and name not in tools:
        return [Finding(taxonomy.TOOL_HALLUCINATION, name)]
    if name != expected[0]:
        return [Finding(taxonomy.WRONG_TOOL, name)]
    declared = tools.get((given_tool or "").strip() or name)
    extra = [key for key in arguments if key not in expected[1]]
    missing = [key for key in expected[1] if key not in arguments]
    invented = [key for key in arguments if declared is not None and key not in declared]
    redundant = [key for key in extra if declared is not None and key in declared]
    findings = [
        *(Finding(taxonomy.PARAMETER_HALLUCINATION, key) for key in invented),
        *(Finding(taxonomy.PARAMETER_REDUNDANCY, key) for key in redundant),
        *(Finding(taxonomy.PARAMETER_MISSING, key) for key in missing),
    ]
    if not findings and arguments != expected[1]:
        differing = [key for key in arguments if arguments[key] != expected[1].get(key)]
        findings = [Finding(taxonomy.CONTENT_FILLING, key) for key in differing]
    return findings


def _read(text: str) -> tuple[str, dict[str, str]] | None:
    """Return the stripped name before the first "(" and the visible arguments, or None."""
    opening = text.find("(")
    closing = text.find(")", opening + 1)
    if opening < 0 or closing < 0:
        return None
    name = text[text.rfind("\n", 0, opening) + 1 : opening].strip()
    return name, dict(_ARGUMENT.findall(text[opening + 1 : closing]))
