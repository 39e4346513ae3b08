"""Autoregressive sampling: prompts of any lengths through a fixed number of rows.

A row whose text has ended is given the next prompt while the others go on, so that long and short
replies do not wait for each other. The compiled programs of ``decoding`` do the work; between them
the host looks at what was made.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from tl_jax.config import ModelConfig
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.parallel import processes, sharding
from tl_jax.sampling.decode import Programs, Rows, make_programs
from tl_jax.sampling.next_token import SampleConfig
from tl_jax.types import Params

_STEPS_PER_LOOK = 8  # tokens between two looks for stop strings; what follows one is thrown away
_REFILL_SHARE = 8  # once one row of this many has ended, new prompts are read


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Everything that continues prompts with one model and one way to choose tokens.

    Attributes:
      config: How tokens are chosen.
      vocab_size: Of the model.
      text_of: Text of token ids; needed for stop strings only.
      programs: What is compiled.
      mesh: Where it runs, if not on the mesh in context; the devices are the same.
    """

    config: SampleConfig
    vocab_size: int
    text_of: Callable[[Sequence[int]], str] | None
    programs: Programs
    mesh: Mesh | None = None


class Constraint(Protocol):
    """Says which tokens may come next in a row; its states are whatever it likes."""

    @property
    def start(self) -> Any:
        """State before the first new token."""

    def advance(self, state: Any, token: int) -> Any:
        """Return the state after a token that was allowed."""

    def allowed(self, state: Any) -> np.ndarray | None:
        """Return ``[V]`` bool with at least one token allowed, or None if all are."""


class Generation(NamedTuple):
    """The new tokens of one prompt, on the host.

    Attributes:
      ids: With the stop token, or with the token that completes the stop string.
      logprobs: One per token.
      finished: Whether a stop token or a stop string ended it.
      stop_string: The one that ended it, or ``""``.
    """

    ids: list[int]
    logprobs: list[float]
    finished: bool
    stop_string: str = ""


def make_sampler(
    model_config: ModelConfig,
    config: SampleConfig,
    text_of: Callable[[Sequence[int]], str] | None = None,
    mesh: Mesh | None = None,
) -> Sampler:
    """Build the sampler of a model; nothing is compiled before it is used.

    Args:
      model_config: The architecture.
      config: How tokens are chosen.
      text_of: Text of token ids; needed for stop strings only.
      mesh: Where to sample, if not on the mesh in context (``parallel.mesh.make_sampling_mesh``).

    Raises:
      ValueError: Stop strings without ``text_of``.
    """
    if config.stop_strings and text_of is None:
        raise ValueError("stop_strings are looked for in the text of the tokens; give text_of")
    programs = make_programs(model_config, config)
    return Sampler(config, model_config.vocab_size, text_of, programs, mesh)


def generate(
    sampler: Sampler,
    params: Params,
    prompts: Sequence[Sequence[int]],
    row_keys: jax.Array,
    *,
    batch_size: int,
    length: int = 0,
    constraints: Sequence[Constraint] = (),
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Generation]:
    """Continue prompts of any length, the short ones first.

    Programs are compiled for two numbers of prompts that are read at once and for every bucket of
    prompt lengths that occurs.

    Args:
      sampler: From ``make_sampler``.
      params: Model parameters.
      prompts: Token ids, at least one per prompt.
      row_keys: ``[len(prompts)]`` typed PRNG keys; they belong to the prompts, so results do not
        depend on which prompts share the rows, nor on when they come.
      batch_size: Rows.
      length: Padded length of all prompts; 0 takes the bucket of those that are read together.
      constraints: One per prompt, or none. With constraints the host is asked before every token.
      on_done: Told how many prompts are done, whenever some are.

    Returns:
      One ``Generation`` per prompt, in the order given.

    Raises:
      ValueError: A prompt without tokens, or longer than ``length``.
    """
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {index} has no tokens; give it at least one (such as BOS)")
        if length and len(prompt) > length:
            raise ValueError(f"prompt {index} has {len(prompt)} tokens, more than {length}")
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    desk = _Desk(
        sampler, prompts, row_keys, batch_size, length, constraints, collections.deque(order)
    )
    if sampler.mesh is not None:
        params = sharding.moved(params, sampler.mesh)
    with contextlib.nullcontext() if sampler.mesh is None else jax.set_mesh(sampler.mesh):
        params = sampler.programs.unstack(params)
        while desk.waiting or desk.holders:
            desk.fill(params)
            desk.extend(params)
            if desk.collect():
                on_done(len(desk.done))
    return [desk.done[index] for index in range(len(prompts))]


def reply_text(generation: Generation, tokenizer: Tokenizer) -> str:
    """Return the text of the new tokens, control tokens included, without what ended it."""
    ids = generation.ids
    if generation.stop_string:
        return tokenizer.decode(ids, keep_control=True).partition(generation.stop_string)[0]
    return tokenizer.decode(ids[:-1] if generation.finished else ids, keep_control=True)


def bucket_length(length: int) -> int:
    """Return the smallest padded length not below ``length``: 32, 48, 64, 96, 128, 192 ...

    Texts of any lengths up to 8192 need 17 compilations and waste a fifth on average.
    """
    power = 32
    while power < length:
        if power * 3 // 2 >= length:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass
class _Desk:
    """What the host knows of the rows.

    Attributes:
      waiting: Prompts that no row holds yet.
      holders: Prompt of each row that holds one.
      states: State of the constraint of each such row.
      seen: Tokens of each such row that were looked at.
      done: What came of the prompts that are done.
      rows: What the device holds.
    """

    sampler: Sampler
    prompts: Sequence[Sequence[int]]
    row_keys: jax.Array
    batch_size: int
    length: int
    constraints: Sequence[Constraint]
    waiting: collections.deque[int]
    holders: dict[int, int] = dataclasses.field(default_factory=dict)
    states: dict[int, Any] = dataclasses.field(default_factory=dict)
    seen: dict[int, int] = dataclasses.field(default_factory=dict)
    done: dict[int, Generation] = dataclasses.field(default_factory=dict)
    rows: Rows | None = None

    @property
    def group(self) -> int:
        """Prompts that are read at once: as many as rows at first, later a share of them."""
        return self.batch_size if self.rows is None else -(-self.batch_size // _REFILL_SHARE)

    def fill(self, params: Params) -> None:
        """Give waiting prompts to rows that hold none, a group at a time."""
        free = [row for row in range(self.batch_size) if row not in self.holders]
        while self.waiting and len(free) >= (group := self.group):
            members = [self.waiting.popleft() for _ in range(min(group, len(self.waiting)))]
            places, free = free[: len(members)], free[group:]
            self._read(params, members, places, group)

    def _read(self, params: Params, members: list[int], places: list[int], group: int) -> None:
        programs = self.sampler.programs
        for place, index in zip(places, members, strict=True):
            self.holders[place], self.seen[place] = index, 0
            if self.constraints:
                self.states[place] = self.constraints[index].start
        # A short group is filled with its last prompt, again and again into the same row; a first
        # group, which takes the rows in order, into rows that then hold no prompt.
        lacking = group - len(members)
        members, places = members + members[-1:] * lacking, places + places[-1:] * lacking
        lengths = np.array([len(self.prompts[index]) for index in members], np.int32)
        width = self.length or bucket_length(int(lengths.max()))
        tokens = np.zeros((group, width), np.int32)
        for number, index in enumerate(members):
            tokens[number, : lengths[number]] = self.prompts[index]
        # The last sampled token is never fed back.
        slots = width + self.sampler.config.max_new_tokens - 1
        if self.rows is None:
            self.rows = programs.begin(self.batch_size, slots, self.row_keys[0])
        elif slots > self.rows.cache.valid.shape[1]:
            self.rows = programs.lengthen(self.rows, slots)
        self.rows = programs.read(
            params,
            self.rows,
            tokens,
            lengths,
            np.array(places, np.int32),
            self.row_keys[np.array(members)],
            self._allowed(places),
        )
        if self.constraints:
            self.collect()

    def extend(self, params: Params) -> None:
        """Sample until enough rows have ended, or until the host has to look."""
        config = self.sampler.config
        steps = 1 if self.constraints else config.max_new_tokens
        if config.stop_strings:
            steps = min(steps, _STEPS_PER_LOOK)
        ended = np.array([row not in self.holders for row in range(self.batch_size)])
        due = self.group if self.waiting else self.batch_size
        allowed = self._allowed(range(self.batch_size))
        self.rows = self.sampler.programs.extend(
            params, self.rows, ended, allowed, np.int32(steps), np.int32(due)
        )

    def collect(self) -> bool:
        """Look at the new tokens, take out the prompts that are done; return whether any are."""
        assert self.rows is not None
        samples = jax.tree.map(processes.gather, self.rows.samples)
        before = len(self.done)
        for place, index in list(self.holders.items()):
            ids = samples.tokens[place, : samples.lengths[place]].tolist()
            finished = bool(samples.finished[place])
            size, stop = self._stop(ids[:-1] if finished else ids, self.seen[place])
            if stop or finished or len(ids) == self.sampler.config.max_new_tokens:
                kept = ids[:size] if stop else ids
                logprobs = samples.logprobs[place, : len(kept)].tolist()
                self.done[index] = Generation(kept, logprobs, finished or bool(stop), stop)
                del self.holders[place]
            elif self.constraints:
                for token in ids[self.seen[place] :]:
                    self.states[place] = self.constraints[index].advance(self.states[place], token)
            self.seen[place] = len(ids)
        return len(self.done) > before

    def _allowed(self, places: Sequence[int]) -> np.ndarray | None:
        """Return ``[len(places), V]`` bool of the tokens that may come next, or None if all may."""
        if not self.constraints:
            return None
        allowed = np.ones((len(places), self.sampler.vocab_size), bool)
        for number, place in enumerate(places):
            if place in self.holders:
                found = self.constraints[self.holders[place]].allowed(self.states[place])
                allowed[number] = True if found is None else found
        return allowed

    def _stop(self, ids: list[int], seen: int) -> tuple[int, str]:
        """Return up to which token the ids go, and the stop string that this token completes."""
        strings, text_of = self.sampler.config.stop_strings, self.sampler.text_of
        if strings and text_of is not None and any(x in text_of(ids) for x in strings):
            # A string may be spelt by many sequences of tokens, so the text decides, not the ids.
            for size in range(seen + 1, len(ids) + 1):
                text = text_of(ids[:size])
                found = [(text.find(x), x) for x in strings if x in text]
                if found:
                    return size, min(found)[1]
        return len(ids), ""
