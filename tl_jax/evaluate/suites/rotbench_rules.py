"""How a call is scored on an item of RoTBench: by our rule, and as the released evaluator does."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tl_jax.calls.call import ToolCall
from tl_jax.evaluate.scores import MISS, Policy, TurnScore, score_call

_ACTION = "Action:"
_INPUT = "Action Input:"


def own_score(
    prediction: ToolCall | None,
    golds: Sequence[ToolCall],
    tool_names: Sequence[str],
    count_empty_arguments: bool = True,
) -> TurnScore:
    """Score a predicted call by our rule.

    The literal name ``finish`` is accepted for the last tool; the last two tools need the right
    argument names only; a gold value ``"None"`` accepts any value.

    Args:
      prediction: The predicted call, or None.
      golds: The accepted calls.
      tool_names: The offered tools in prompt order.
      count_empty_arguments: False repeats a flaw of the released evaluator, for which a call
        without arguments is never right: the gold calls themselves then score 92.38 % on the
        clean set instead of 100 %.
    """
    if prediction is None:
        return MISS
    policy = Policy(
        free_text_tools=tuple(tool_names[-2:]),
        count_empty_arguments=count_empty_arguments,
        none_is_wildcard=True,
    )
    readings = [prediction]
    if prediction.name == "finish":
        # Under noise the last tool has another name, and another tool may be called finish.
        readings.append(ToolCall(tool_names[-1], prediction.arguments))
    scores = [score_call(reading, golds, policy=policy) for reading in readings]
    return TurnScore(
        any(score.ts for score in scores),
        any(score.pi for score in scores),
        any(score.cf for score in scores),
    )


def released_score(
    prediction: ToolCall | None, golds: Sequence[ToolCall], tool_names: Sequence[str]
) -> TurnScore:
    """Score a call as the released evaluator does, with all that is odd about it.

    A call without arguments is no answer. ``finish`` stands for the last tool once an accepted
    answer names that. Values need not be equal for the last two tools, nor for any other that noise
    has called ``finish`` or ``ask_to_user``. What an accepted answer leaves open (``"None"``) is
    taken out of the prediction, also for the answers after it, which then have other names than it.
    1, 1.0 and True are equal.

    Args:
      prediction: The predicted call, or None.
      golds: The accepted calls.
      tool_names: The offered tools in prompt order.
    """
    if prediction is None or not prediction.arguments:
        return MISS
    name, given = prediction.name, dict(prediction.arguments)
    ts = pi = cf = False
    for gold in golds:
        if name == "finish" and gold.name == tool_names[-1]:
            name = gold.name
        if gold.name != name:
            continue
        ts = True
        # The argument names are counted on what was written, not on what is left of it.
        pi = pi or gold.arguments.keys() == prediction.arguments.keys()
        if cf or gold.arguments.keys() != given.keys():
            continue
        left_open = [key for key, value in gold.arguments.items() if value == "None"]
        given = {key: value for key, value in given.items() if key not in left_open}
        due = {key: value for key, value in gold.arguments.items() if key not in left_open}
        cf = gold.name in (*tool_names[-2:], "finish", "ask_to_user") or given == due
    return TurnScore(ts, pi, cf)


def score_react(prediction: str, golds: Sequence[str], tool_names: Sequence[str]) -> TurnScore:
    """Score ReAct text as the released evaluator does, its empty-argument flaw included.

    Args:
      prediction: Text with an ``Action:`` line and ``Action Input:`` JSON object after it.
      golds: The accepted answers, in the same form.
      tool_names: The offered tools in prompt order.

    Raises:
      ValueError: A gold text cannot be read.
    """
    expected = [parse_react(gold) for gold in golds]
    if None in expected:
        raise ValueError(f"a gold answer is no ReAct call: {golds[expected.index(None)]!r}")
    calls = [call for call in expected if call is not None]
    return released_score(parse_react(prediction), calls, tool_names)


def parse_react(text: str) -> ToolCall | None:
    """Return the call of ReAct text, or None unless its input is a JSON object to the very end."""
    action = text.find(_ACTION)
    start = text.find(_INPUT, action)
    if action < 0 or start < 0:
        return None
    try:
        arguments = json.loads(text[start + len(_INPUT) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(arguments, dict):
        return None
    return ToolCall(text[action + len(_ACTION) : start].strip(), arguments)
