"""Reward of a predicted answer against the gold answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_call, parse_calls, parse_turn
from tl_jax.calls.render import render_call
from tl_jax.rewards import reference, strict, taxonomy
from tl_jax.rewards.answers import (
    Answer,
    Gold,
    Parallel,
    alternatives,
    as_calls,
    read_call_after,
    read_golds,
    right_words,
    visible_words,
)
from tl_jax.rewards.free_text import MATCHES, FreeText, free_text
from tl_jax.rewards.matching import best_assignment
from tl_jax.rewards.no_call import holds_call, holds_words
from tl_jax.rewards.penalties import ALL_RIGHT, PENALTIES, RIGHT, Reward, graded, penalised
from tl_jax.rewards.taxonomy import Finding

__all__ = [
    "MODES",
    "PENALTIES",
    "RIGHT",
    "Answer",
    "Gold",
    "Parallel",
    "Reward",
    "Tools",
    "format_error",
    "score",
    "score_batch",
]

Tools = Sequence[ToolSpec] | Mapping[str, Collection[str]]

MODES = ("strict", "reference", "graded")

_RANK = {category: number for number, category in enumerate(taxonomy.CATEGORIES)}
_Scorer = Callable[[Answer, Gold, Tools], Reward]


def score(
    prediction: Answer,
    gold: Gold,
    tools: Tools,
    *,
    mode: str = "strict",
    style: str = "python",
    given_tool: str | None = None,
    free_text_tools: Collection[str] = ("finish", "ask_to_user"),
    free_text_match: str = MATCHES[0],
    free_text_min_f1: float = 0.85,
) -> Reward:
    """Score ``prediction`` against ``gold``.

    Strict mode parses both sides fully (``calls.parse``), compares values by declared type
    (``calls.compare``) and free texts by a policy (``free_text``). An optional argument that
    equals the default in the tool's schema may be there or not. A gold text that is no call gives
    a format error, as in the published code. Penalties: ``PENALTIES``.

    Graded mode finds the same errors and takes off a share of the penalty for each: with ``n``
    gold arguments, an error of category ``c`` costs ``(RIGHT - PENALTIES[c]) / n``. A call of the
    right tool never scores below the strict mode, nor below a wrong tool; one error more never
    scores better.

    Of several accepted answers the best counts. Calls of one turn are matched with the gold calls
    such that the sum of their rewards is greatest; the reward is the mean over the gold calls, a
    missing one counts with its penalty, and one call too many spoils the answer, as a call cannot
    be taken back. Where no call is right, words without one are (``no_call.holds_call``); where the
    right words are known (``Parallel.words``), they are compared as free text, and others are as
    wrong as a wrong value.

    Reference mode reproduces the published reward of one call, blind spots included
    (``reference``); it ignores the free-text settings.

    Args:
      prediction: Text the model wrote, or an answer as data.
      gold: The right answer (a text, a call, ``Parallel`` calls, None for no call), or a sequence
        of answers that are each right.
      tools: The tools offered in the prompt, or a mapping from tool name to parameter names.
      mode: One of ``MODES``.
      style: Call style that texts are read in, one of ``calls.parse.STYLES``.
      given_tool: Name of the tool the prompt already ends with; the model then writes, and a gold
        text holds, only ``"(arguments)"``.
      free_text_tools: Tools whose string arguments are free text, and single arguments as
        ``"tool.parameter"``.
      free_text_match: How free texts are compared, one of ``free_text.MATCHES``.
      free_text_min_f1: Least token F1 of equal free texts, for ``"token_f1"``.

    Raises:
      ValueError: A setting is unknown; or another style than Python's is asked for in reference
        mode or with ``given_tool``, or anything but one call.

    Source: TL-Training (arXiv 2412.15495), inverse reward matching.

    Example:
      >>> import tl_jax as tl
      >>> gold = tl.ToolCall("weather", {"city": "Rome", "days": 2})
      >>> tools = {"weather": ["city", "days"]}
      >>> tl.score("weather(city='Rome', days=2)", gold, tools).value
      1.0
      >>> tl.score("weather(city='Rome')", gold, tools).category
      'parameter_missing'
    """
    policy = free_text(free_text_tools, free_text_match, free_text_min_f1)
    return _scorer(mode, style, given_tool, policy)(prediction, gold, tools)


def score_batch(
    predictions: Iterable[Answer],
    golds: Iterable[Gold],
    tools: Iterable[Tools],
    *,
    mode: str = "strict",
    style: str = "python",
    free_text_tools: Collection[str] = ("finish", "ask_to_user"),
    free_text_match: str = MATCHES[0],
    free_text_min_f1: float = 0.85,
) -> list[Reward]:
    """Score predictions each against its own gold answer and tools; see ``score``.

    Raises:
      ValueError: As in ``score``, or the three are of different lengths.
    """
    policy = free_text(free_text_tools, free_text_match, free_text_min_f1)
    return list(map(_scorer(mode, style, None, policy), *_aligned(predictions, golds, tools)))


def format_error(why: str) -> Reward:
    """Return the reward of an answer that cannot be read, for a reason outside its text."""
    return penalised([Finding(taxonomy.FORMAT_ERROR, why)])


def _aligned(*columns: Iterable[object]) -> list[list[object]]:
    lists = [list(column) for column in columns]
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(str(len(values)) for values in lists)
        raise ValueError(f"predictions, golds and tools differ in number: {lengths}")
    return lists


def _scorer(mode: str, style: str, given_tool: str | None, policy: FreeText) -> _Scorer:
    """Return the function that scores with these settings."""
    if mode not in MODES:
        raise ValueError(f"unknown reward mode {mode!r}; known: {', '.join(MODES)}")
    if style != "python" and (mode == "reference" or given_tool):
        raise ValueError(
            f"call style {style!r}: reference mode and a given tool are defined for Python calls "
            "only; take mode 'strict' or 'graded' and whole calls"
        )
    given = (given_tool or "").strip()

    def published(prediction: Answer, gold: Gold, tools: Tools) -> Reward:
        text, names = _text(prediction), _parameter_names(tools)
        return _best(
            penalised(reference.judge(text, _text(answer), names, given_tool=given_tool))
            for answer in alternatives(gold)
        )

    strictly = functools.partial(
        _score, style=style, given_tool=given, policy=policy, partial=mode == "graded"
    )
    return published if mode == "reference" else strictly


def _score(
    prediction: Answer,
    gold: Gold,
    tools: Tools,
    *,
    style: str,
    given_tool: str,
    policy: FreeText,
    partial: bool,
) -> Reward:
    """Score in strict or, with ``partial`` credit, in graded mode."""
    try:
        golds = read_golds(gold, style, given_tool, _specs(tools))
    except CallSyntaxError as error:
        return format_error(f"the gold text is no call, {error}")
    most = max(map(len, golds))
    if () in golds and _is_silent(prediction, tools, style):
        return _in_words(prediction, right_words(gold), style, policy)
    try:
        calls, continues = _read(prediction, style, given_tool, most, _specs(tools))
    except CallSyntaxError as error:
        return format_error(f"{error.reason}, {error}")
    if not continues:
        finding = Finding(taxonomy.WRONG_TOOL, f"a full call where only arguments of {given_tool}")
        return penalised([finding])
    if len(golds) == 1:
        return _against(calls, golds[0], tools, policy, partial)
    return _best(_against(calls, answer, tools, policy, partial) for answer in golds)


def _against(
    calls: Sequence[ToolCall],
    gold: Sequence[ToolCall],
    tools: Tools,
    policy: FreeText,
    partial: bool,
) -> Reward:
    """Score calls against one accepted answer."""
    if len(calls) == len(gold) == 1:
        return _pair(calls[0], gold[0], tools, policy, partial)
    if len(calls) > len(gold):
        about = f"{len(calls)} where {len(gold)} {'is' if len(gold) == 1 else 'are'} right"
        return penalised([Finding(taxonomy.EXTRA_CALL, about)])
    pairs = [[_pair(call, due, tools, policy, partial) for due in gold] for call in calls]
    columns = best_assignment([[reward.value for reward in row] for row in pairs])
    rewards = [row[column] for row, column in zip(pairs, columns, strict=True)]
    for at, due in enumerate(gold):
        if at not in columns:
            rewards.append(penalised([Finding(taxonomy.MISSING_CALL, due.name)]))
    lines = [
        f"{line} (call {number})" if number <= len(calls) else line
        for number, reward in enumerate(rewards, 1)
        for line in reward.details
    ]
    return Reward(
        round(sum(reward.value for reward in rewards) / len(gold), 6),
        min((reward.category for reward in rewards), key=_RANK.__getitem__),
        tuple(sorted(lines, key=lambda line: _RANK[line.partition(":")[0]])),
    )


def _pair(call: ToolCall, due: ToolCall, tools: Tools, policy: FreeText, partial: bool) -> Reward:
    findings = strict.judge(call, due, _find(tools, call.name), policy)
    return graded(findings, due) if partial else penalised(findings)


def _best(rewards: Iterable[Reward]) -> Reward:
    return max(rewards, key=lambda reward: reward.value)


def _read(
    prediction: Answer, style: str, given_tool: str, most: int, tools: Sequence[ToolSpec]
) -> tuple[Sequence[ToolCall], bool]:
    """Return the calls, and whether they continue the given tool's name as they should.

    Where at most one call is right, the text must be one call by itself; if it is several, they
    are returned all the same, so that the error has its right name.
    """
    if not isinstance(prediction, str):
        return as_calls(prediction), True
    if given_tool:
        call, continues = read_call_after(given_tool, prediction)
        return (call,), continues
    if most > 1:
        return parse_turn(prediction, style, tools), True
    try:
        return (parse_call(prediction, style, tools),), True
    except CallSyntaxError as error:
        if error.reason == "trailing_text":
            calls = _several_calls(prediction, style, tools)
            if len(calls) > 1:
                return calls, True
        raise


def _several_calls(text: str, style: str, tools: Sequence[ToolSpec]) -> Sequence[ToolCall]:
    try:
        return parse_calls(text, style, tools)
    except CallSyntaxError:
        return ()


def _is_silent(prediction: Answer, tools: Tools, style: str) -> bool:
    if not isinstance(prediction, str):
        return not as_calls(prediction)
    names = tools if isinstance(tools, Mapping) else [tool.name for tool in tools]
    # A reply without a word answers nothing.
    return holds_words(prediction) and not holds_call(prediction, names, style)


def _in_words(prediction: Answer, right: Sequence[str], style: str, policy: FreeText) -> Reward:
    """Score an answer without a call where that is right: its words are those of a right answer."""
    if not right or not isinstance(prediction, str):
        return ALL_RIGHT
    said = visible_words(prediction, style)
    if any(policy.same(said, visible_words(text, style)) for text in right):
        return ALL_RIGHT
    return penalised([Finding(taxonomy.CONTENT_FILLING, "the words of the answer")])


def _specs(tools: Tools) -> Sequence[ToolSpec]:
    """Return the tools whose parameters have types."""
    return () if isinstance(tools, Mapping) else tools


def _find(tools: Tools, name: str) -> ToolSpec | None:
    if isinstance(tools, Mapping):
        if name not in tools:
            return None
        return ToolSpec(name, parameters=tuple(Parameter(key) for key in tools[name]))
    for tool in tools:
        if tool.name == name:
            return tool
    return None


def _parameter_names(tools: Tools) -> Mapping[str, Collection[str]]:
    if isinstance(tools, Mapping):
        return tools
    return {tool.name: [p.name for p in tool.parameters] for tool in tools}


def _text(answer: Answer) -> str:
    """Return the text of one call, as the published reward reads it."""
    if isinstance(answer, str):
        return answer
    calls = as_calls(answer)
    if len(calls) != 1:
        raise ValueError(
            f"the published reward knows answers of one call only, not of {len(calls)}; take mode "
            "'strict' or 'graded'"
        )
    return render_call(calls[0])
