"""From a sampled reply to what the tools of an environment answer, and to the reply that counts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.build import Prompt
from tl_jax.data.mae.schema_checks import problems_of
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Message
from tl_jax.parallel import processes
from tl_jax.rewards.no_call import holds_call
from tl_jax.rl.episode import Episode, Feedback, Respond
from tl_jax.rl.tool_process import Environment, Session, error_text
from tl_jax.sampling.sampler import Generation, reply_text

BEFORE = (Message("user", "-"),)
"""Turns that stand for those of the prompt, on which nothing between two replies depends."""
_AT_ONCE = 32  # dialogues whose tools run side by side


@dataclasses.dataclass(frozen=True)
class ToolTurns:
    """An environment and how what it says is written.

    Attributes:
      environment: The tools.
      renderer: Of the model.
    """

    environment: Environment
    renderer: Renderer

    @contextlib.contextmanager
    def responses(self, prompts: Sequence[Prompt]) -> Iterator[Respond]:
        """Give the function that answers the replies of rows; the tools of each row run apart.

        A process runs those of its part of the rows, and all of them get all results.

        Args:
          prompts: One per row.
        """
        own = range(len(prompts))[processes.own_part(len(prompts))]
        sessions = {row: self.environment.session() for row in own}

        def respond(
            rows: list[int], generations: Sequence[Generation]
        ) -> Sequence[Feedback | None]:
            texts = [self._text(generation) for generation in generations]
            calls = [
                self.renderer.parse(text, prompts[row].tools)
                for text, row in zip(texts, rows, strict=True)
            ]
            jobs = [
                (some if generation.finished else (), prompts[row].tools, sessions[row])
                for row, generation, some in zip(rows, generations, calls, strict=True)
                if row in own
            ]
            known = self.environment.names
            answers = processes.join_parts(
                list(pool.map(lambda job: results_of(job[0], job[1], job[2], known), jobs))
            )
            return [
                None if results is None else self.feedback(prompts[row].tools, some, results)
                for row, some, results in zip(rows, calls, answers, strict=True)
            ]

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                yield respond
            finally:
                for session in sessions.values():
                    session.close()

    def feedback(
        self, tools: Sequence[ToolSpec], calls: Sequence[ToolCall], results: Sequence[str]
    ) -> Feedback | None:
        """Return results as tokens; None if the template has no form for the calls."""
        try:
            ids = self.renderer.feedback_ids(tools, BEFORE, calls, results)
        except ValueError:
            return None
        return Feedback(tuple(results), ids)

    def counted(self, episode: Episode, tools: Sequence[ToolSpec]) -> Generation:
        """Return the reply of a dialogue that is rewarded.

        It is the last one; but where the tools have answered and the model then closes with words,
        as in most dialogues, the one before it. Only the outcome counts, so that a wrong call that
        is mended costs nothing.

        Source: Jin et al. 2025 (arXiv 2503.09516) for the reward of the outcome alone.
        """
        text = self._text(episode.last)
        names = [tool.name for tool in tools]
        called = holds_call(text, names, self.renderer.call_style)
        closes = episode.last.finished and not called
        return episode.turns[-2 if closes and len(episode.turns) > 1 else -1].generation

    def log(self, episode: Episode) -> list[dict[str, Any]]:
        """Return the dialogue for the sample log."""
        return [
            {"reply": self._text(turn.generation)}
            | ({"results": list(turn.feedback.texts)} if turn.feedback else {})
            for turn in episode.turns
        ]

    def _text(self, generation: Generation) -> str:
        return reply_text(generation, self.renderer.tokenizer)


def results_of(
    calls: Sequence[ToolCall],
    tools: Sequence[ToolSpec],
    session: Session,
    names: frozenset[str],
) -> list[str] | None:
    """Run the calls of a reply one after the other.

    Args:
      calls: The calls.
      tools: Those of the prompt; a call that contradicts them is answered with what is wrong.
      session: Where they run.
      names: Tools that it has.

    Returns:
      A result per call; None if there is nothing to run, or a call of an offered tool that only
      somebody outside could answer.
    """
    offered = {tool.name for tool in tools}
    if not calls or any(call.name in offered - names for call in calls):
        return None
    found = []
    for call in calls:
        problems = problems_of(call, tools)
        found.append(error_text("; ".join(problems)) if problems else session.call(call))
    return found
