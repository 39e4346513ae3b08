"""Tool selection, parameter identification and content filling of predicted calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.compare import declared_type, values_equal
from tl_jax.rewards.matching import best_assignment

METRICS = ("ts", "pi", "cf")
FREE_TEXT_TOOLS = ("finish", "ask_to_user")
"""Tools whose arguments need the right names only, as in RoTBench."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How calls are compared.

    Attributes:
      free_text_tools: Tools whose arguments need the right names only.
      count_empty_arguments: Whether a call without arguments can count; the released RoTBench
        evaluator takes it for no answer.
      none_is_wildcard: Whether the gold string ``"None"`` accepts any value, as in RoTBench.
    """

    free_text_tools: tuple[str, ...] = FREE_TEXT_TOOLS
    count_empty_arguments: bool = True
    none_is_wildcard: bool = False


@dataclasses.dataclass(frozen=True)
class TurnScore:
    """Whether one prediction is right on three levels; ``cf`` implies ``pi`` implies ``ts``.

    Attributes:
      ts: Tool selection, the name of an accepted call.
      pi: Parameter identification, also the same set of argument names.
      cf: Content filling, also equal values.
    """

    ts: bool
    pi: bool
    cf: bool


MISS = TurnScore(False, False, False)


def score_call(
    prediction: ToolCall | None,
    golds: Sequence[ToolCall],
    *,
    tools: Sequence[ToolSpec] = (),
    policy: Policy | None = None,
) -> TurnScore:
    """Score ``prediction`` against every accepted call; each level takes the best of them.

    Args:
      prediction: The predicted call, or None where the model wrote no call.
      golds: The accepted calls, at least one.
      tools: Offered tools; their declared types decide whether 1 equals 1.0.
      policy: How calls are compared; ``Policy()`` if None.

    Raises:
      ValueError: ``golds`` is empty.

    Source: RoTBench (arXiv 2401.08326), tool selection, parameter identification and content
    filling.
    """
    if not golds:
        raise ValueError("a prediction needs at least one gold call to be scored against")
    policy = policy or Policy()
    if prediction is None or not (prediction.arguments or policy.count_empty_arguments):
        return MISS
    named = [gold for gold in golds if gold.name == prediction.name]
    keyed = [gold for gold in named if gold.arguments.keys() == prediction.arguments.keys()]
    tool = next((tool for tool in tools if tool.name == prediction.name), None)
    filled = any(_values_match(prediction, gold, tool, policy) for gold in keyed)
    return TurnScore(bool(named), bool(keyed), filled)


def score_calls(
    predictions: Sequence[ToolCall],
    answers: Sequence[Sequence[ToolCall]],
    *,
    tools: Sequence[ToolSpec] = (),
    policy: Policy | None = None,
) -> TurnScore:
    """Score the calls of one turn against accepted answers, each the calls of one turn.

    Calls are paired with gold calls such that most is right; a level counts if every pair reaches
    it. Calls too few or too many are wrong on all levels, as are no calls.

    Args:
      predictions: The predicted calls.
      answers: The accepted answers.
      tools: As for ``score_call``.
      policy: As for ``score_call``.
    """
    best = [
        _score_turn(predictions, answer, tools, policy)
        for answer in answers
        if answer and len(answer) == len(predictions)
    ]
    return TurnScore(*(any(getattr(score, name) for score in best) for name in METRICS))


def _score_turn(
    predictions: Sequence[ToolCall],
    answer: Sequence[ToolCall],
    tools: Sequence[ToolSpec],
    policy: Policy | None,
) -> TurnScore:
    pairs = [
        [score_call(call, (gold,), tools=tools, policy=policy) for gold in answer]
        for call in predictions
    ]

    def complete(metric: str) -> bool:
        values = [[float(getattr(score, metric)) for score in row] for row in pairs]
        columns = best_assignment(values)
        return all(row[column] for row, column in zip(values, columns, strict=True))

    return TurnScore(*map(complete, METRICS))


def bootstrap_interval(
    values: np.ndarray, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of ``values`` ``[items]``.

    Returns:
      (low, high), in the unit of ``values``; NaN if there are none.
    """
    if not len(values):
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _values_match(
    prediction: ToolCall, gold: ToolCall, tool: ToolSpec | None, policy: Policy
) -> bool:
    if gold.name in policy.free_text_tools:
        return True
    return all(
        (policy.none_is_wildcard and value == "None")
        or values_equal(prediction.arguments[name], value, declared_type(tool, name))
        for name, value in gold.arguments.items()
    )
