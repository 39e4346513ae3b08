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
from tl_jax.sampling import lookup
from tl_jax.sampling.decode import Programs, Prompts, Rows, count_parts, make_programs
from tl_jax.sampling.held_rows import (
    WIDTHS,
    Kept,
    Reading,
    find_homes,
    piece_width,
    plan_reading,
    reading_order,
)
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

    def likely(self, state: Any) -> int | None:
        """Return an allowed token that is likely to come next, or sure to; None if none is."""


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
    kept: Kept | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Generation]:
    """Continue prompts of any length, the short ones first.

    What prompts begin with alike is read once, and copied. Programs are compiled for the bucket of
    the longest prompt, and for the widths of pieces in which prompts are read.

    Args:
      sampler: From ``make_sampler``.
      params: Model parameters.
      prompts: Token ids, at least one per prompt.
      row_keys: ``[len(prompts)]`` typed PRNG keys; they belong to the prompts, so results do not
        depend on which prompts share the rows, nor on when they come.
      batch_size: Rows.
      length: Tokens that the rows have room for before the new ones; 0 takes the bucket of the
        longest prompt.
      constraints: One per prompt, or none. With constraints the host is asked before every forward.
      kept: What rows hold of an earlier call, and what they hold after this one; it must have been
        with the same parameters. Rows of another size begin anew.
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
    config = sampler.config
    room = length or bucket_length(max(map(len, prompts), default=1))
    # Behind a prompt stand its new tokens and what is proposed, before that padding.
    slots = room + max(config.max_new_tokens + config.lookup, WIDTHS[0])
    # What the caller has is donated, so it is his again only when all went well.
    now = Kept() if kept is None else dataclasses.replace(kept)
    if now.rows is not None and now.rows.text.shape != (batch_size, slots):
        now = Kept()
    if kept is not None:
        kept.rows, kept.held = None, []
    texts = [np.asarray(prompt, np.int32) for prompt in prompts]
    desk = _Desk(
        sampler,
        texts,
        row_keys,
        batch_size,
        slots,
        constraints,
        now,
        collections.deque(reading_order(texts)),
        find_homes(texts, now.held),
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
    if kept is not None:
        kept.rows, kept.held = now.rows, now.held
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
      kept: What the rows hold.
      waiting: Prompts that no row holds yet.
      slots: Slots of a row.
      homes: Row of each prompt that goes on where a row of an earlier call ends.
      holders: Prompt of each row that holds one.
      states: State of the constraint of each such row.
      seen: Tokens of each such row that were looked at.
      done: What came of the prompts that are done.
    """

    sampler: Sampler
    prompts: Sequence[np.ndarray]
    row_keys: jax.Array
    batch_size: int
    slots: int
    constraints: Sequence[Constraint]
    kept: Kept
    waiting: collections.deque[int]
    homes: dict[int, int]
    holders: dict[int, int] = dataclasses.field(default_factory=dict)
    states: dict[int, Any] = dataclasses.field(default_factory=dict)
    seen: dict[int, int] = dataclasses.field(default_factory=dict)
    done: dict[int, Generation] = dataclasses.field(default_factory=dict)

    @property
    def group(self) -> int:
        """Rows that must have ended before new prompts are read."""
        return -(-self.batch_size // _REFILL_SHARE)

    @property
    def rows(self) -> Rows:
        assert self.kept.rows is not None
        return self.kept.rows

    def fill(self, params: Params) -> None:
        """Give waiting prompts to rows that hold none, one to each part of the rows at a time."""
        if self.kept.rows is None:
            key = self.row_keys[0]
            self.kept.rows = self.sampler.programs.begin(self.batch_size, self.slots, key)
            self.kept.held = [np.array([], np.int32)] * self.batch_size
        if self.batch_size - len(self.holders) < self.group:
            return
        parts = count_parts(self.batch_size)
        while self.waiting and len(self.holders) < self.batch_size:
            per_part = np.arange(self.batch_size).reshape(parts, -1).tolist()
            self._read(params, [self._take(rows) for rows in per_part])

    def _take(self, rows: list[int]) -> Reading | None:
        """Give the next prompt to one of these rows, if there is one and a row is free."""
        free = [row for row in rows if row not in self.holders]
        if not free or not self.waiting:
            return None
        # Nobody else may take a row that a prompt goes on in, so these come first.
        at_home = (i for i in self.waiting if self.homes.get(i) in free)
        others = (i for i in self.waiting if i not in self.homes)
        index = next(at_home, next(others, self.waiting[0]))
        self.waiting.remove(index)
        reading = plan_reading(index, self.prompts[index], self.kept.held, rows, free)
        place = reading.place
        self.holders[place], self.seen[place] = index, 0
        self.kept.held[place] = reading.ids[:-1]
        if self.constraints:
            self.states[place] = self.constraints[index].start
        return reading

    def _read(self, params: Params, readings: list[Reading | None]) -> None:
        """Read the prompts piece by piece behind what is held of them."""
        parts, per_part = len(readings), self.batch_size // len(readings)
        done = [reading.shared if reading else 0 for reading in readings]
        left = [len(r.ids) - 1 - at if r else 0 for r, at in zip(readings, done, strict=True)]
        unread = [reading is not None for reading in readings]
        while any(unread):
            width = piece_width(max(left), self.slots - max(done))
            piece = Prompts(
                tokens=np.zeros((parts, width), np.int32),
                **{name: np.zeros(parts, np.int32) for name in Prompts._fields[1:6]},
                live=np.array(unread),
                keys=self.row_keys[np.array([r.number if r else 0 for r in readings])],
            )
            for part, reading in enumerate(readings):
                if reading is None or not unread[part]:
                    continue
                at, count = done[part], min(width, left[part])
                piece.tokens[part, :count] = reading.ids[at : at + count]
                piece.counts[part], piece.last[part] = count, reading.ids[at + count]
                first = at == reading.shared
                piece.sources[part] = (reading.source if first else reading.place) % per_part
                piece.shared[part], piece.places[part] = at, reading.place % per_part
                done[part], left[part] = at + count, left[part] - count
                unread[part] = left[part] > 0
            self.kept.rows = self.sampler.programs.read(params, self.rows, piece)

    def extend(self, params: Params) -> None:
        """Sample until enough rows have ended, or until the host has to look."""
        config = self.sampler.config
        steps = 1 if self.constraints else config.max_new_tokens
        if config.stop_strings:
            steps = min(steps, _STEPS_PER_LOOK)
        ended = np.array([row not in self.holders for row in range(self.batch_size)])
        due = self.group if self.waiting else self.batch_size
        allowed, proposals = self._allowed() if self.constraints else (None, None)
        self.kept.rows = self.sampler.programs.extend(
            params, self.rows, ended, allowed, proposals, np.int32(steps), np.int32(due)
        )

    def collect(self) -> bool:
        """Look at the new tokens, take out the prompts that are done; return whether any are."""
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
                new = np.array(ids[:-1], np.int32)
                self.kept.held[place] = np.concatenate([self.prompts[index], new])
                del self.holders[place]
            elif self.constraints:
                for token in ids[self.seen[place] :]:
                    self.states[place] = self.constraints[index].advance(self.states[place], token)
            self.seen[place] = len(ids)
        return len(self.done) > before

    def _allowed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``[B, C + 1, V]`` bool of the tokens that may come next, and ``[B, C]`` proposals.

        C is 0 if nothing is proposed. What may come at a place depends on the tokens before it, so
        the host follows the proposals.
        """
        found = processes.gather(self.sampler.programs.look_up(self.rows))
        proposals = np.full_like(found, lookup.NOTHING)
        shape = (self.batch_size, found.shape[1] + 1, self.sampler.vocab_size)
        allowed = np.ones(shape, bool)
        for place, index in self.holders.items():
            constraint, state = self.constraints[index], self.states[place]
            for number in range(shape[1]):
                may_come = constraint.allowed(state)
                if may_come is not None:
                    allowed[place, number] = may_come
                if number == found.shape[1]:
                    break
                token = constraint.likely(state)
                as_found = np.array_equal(found[place, :number], proposals[place, :number])
                looked_up = int(found[place, number])
                if as_found and looked_up >= 0 and (may_come is None or may_come[looked_up]):
                    token = looked_up
                if token is None:
                    break
                proposals[place, number] = token
                state = constraint.advance(state, token)
        width = shape[1] if np.any(proposals != lookup.NOTHING) else 1
        return allowed[:, :width], proposals[:, : width - 1]

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
