"""Dialogues in which the model's replies are sampled and what stands between them is given.

What was sampled stays as it is, token for token: nothing is turned into text and back on its way
from the sampler to the row that is trained.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tl_jax.sampling.sampler import Generation


class Feedback(NamedTuple):
    """What follows a reply and is not sampled.

    Attributes:
      texts: The results of its calls.
      ids: The same with what the template writes around them, up to the next reply.
    """

    texts: tuple[str, ...]
    ids: list[int]


class Turn(NamedTuple):
    """A sampled reply, and what followed it; None after the last one."""

    generation: Generation
    feedback: Feedback | None = None


Sample = Callable[[int, list[int], list[list[int]]], Sequence[Generation]]
"""``(turn, rows, contexts) -> generations``: the next reply of some rows, turns from 0."""
Respond = Callable[[list[int], Sequence[Generation]], Sequence[Feedback | None]]
"""``(rows, generations) -> feedbacks``: what follows these replies, None where the row ends."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """The turns of one row, at least one."""

    turns: tuple[Turn, ...]

    @property
    def last(self) -> Generation:
        return self.turns[-1].generation

    @property
    def ids(self) -> list[int]:
        """All tokens after the prompt; the last one is sampled."""
        return list(itertools.chain.from_iterable(ids for ids, _ in self._pieces()))

    @property
    def sampled(self) -> list[bool]:
        """For each of ``ids`` whether it is a sampled token."""
        pieces = self._pieces()
        return list(itertools.chain.from_iterable([kind] * len(ids) for ids, kind in pieces))

    @property
    def logprobs(self) -> list[float]:
        """Log-probability of every sampled token."""
        return [value for turn in self.turns for value in turn.generation.logprobs]

    def _pieces(self) -> list[tuple[list[int], bool]]:
        pieces = []
        for turn in self.turns:
            pieces.append((turn.generation.ids, True))
            if turn.feedback is not None:
                pieces.append((turn.feedback.ids, False))
        return pieces


def play(
    prompts: Sequence[Sequence[int]],
    sample: Sample,
    respond: Respond | None,
    *,
    max_turns: int,
    max_tokens: int,
    max_reply: int,
) -> list[Episode]:
    """Let replies and feedback take turns, in all rows side by side.

    Args:
      prompts: Token ids of each row's prompt.
      sample: Gives the next replies.
      respond: Gives what follows replies; None: nothing does.
      max_turns: Most replies of a row.
      max_tokens: Most tokens of a row after its prompt.
      max_reply: Most tokens of a reply; a row without room for them gets no further one.

    Returns:
      One episode per row; its last turn is a reply.
    """
    contexts = [list(prompt) for prompt in prompts]
    turns: list[list[Turn]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    for number in range(max_turns):
        generations = sample(number, rows, [contexts[row] for row in rows])
        for row, generation in zip(rows, generations, strict=True):
            turns[row].append(Turn(generation))
        if respond is None or number + 1 == max_turns:
            break
        feedbacks = respond(rows, generations)
        staying = []
        for row, generation, feedback in zip(rows, generations, feedbacks, strict=True):
            if feedback is None:
                continue
            longer = [*contexts[row], *generation.ids, *feedback.ids]
            if len(longer) - len(prompts[row]) + max_reply <= max_tokens:
                turns[row][-1] = Turn(generation, feedback)
                contexts[row] = longer
                staying.append(row)
        rows = staying
        if not rows:
            break
    return [Episode(tuple(some)) for some in turns]
