"""What an evaluation suite is: a name, prompts and a rule that scores a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.build import Prompt
from tl_jax.data.trajectory import Message
from tl_jax.evaluate.scores import Policy, TurnScore, score_call
from tl_jax.evaluate.tasks import Scorer
from tl_jax.run.directory import Run


def plain_score(call: ToolCall | None, prompt: Prompt) -> TurnScore:
    """Score a call against the gold calls of its prompt."""
    return score_call(call, prompt.golds, tools=prompt.tools, policy=Policy())


@dataclasses.dataclass(frozen=True)
class Suite:
    """Prompts with gold calls and the rule that scores them.

    Attributes:
      name: As in tables, such as ``"synthetic/seen"``: words of letters, digits, ``.``, ``_`` and
        ``-``, joined by ``/``.
      prompts: Makes the prompts of a run, in the order of their scores; ``prompt_of`` helps.
      score: The rule, ``(call or None, prompt) -> TurnScore``.
      group: Names the group of a prompt, if groups are summarised apart.
      other_rules: Further rules for the same replies, by the name of their summary.
      setting: Field of ``config.evaluate`` that a suite of the package needs; empty: none.
      version: Changes whenever the tasks do; that of a user's suite is the digest of its file.
    """

    name: str
    prompts: Callable[[Run], Sequence[Prompt]]
    score: Scorer = plain_score
    group: Callable[[Prompt], str] | None = None
    other_rules: Mapping[str, Scorer] = dataclasses.field(default_factory=dict)
    setting: str = ""
    version: str = ""


def prompt_of(
    run: Run,
    name: str,
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    golds: Sequence[ToolCall],
) -> Prompt:
    """Return a prompt in the text form of the run.

    Args:
      run: Of the model that is asked.
      name: Id of the prompt, its own within the suite.
      tools: Offered tools.
      messages: The dialogue up to the reply.
      golds: The accepted calls, at least one.
    """
    ids = run.renderer.prompt_ids(tools, messages)
    return Prompt(id=name, ids=ids, text="", tools=tuple(tools), golds=tuple(golds), tags={})
