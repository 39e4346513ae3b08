"""The prompts of reward training: those that can be used, and those that go wrong at first."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence, Sized

import jax

from tl_jax.config import PpoConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.loader.json_lines import JsonlSource
from tl_jax.data.prepare.files import PROMPTS
from tl_jax.errors import ConfigError
from tl_jax.parallel import memory, processes
from tl_jax.rewards import taxonomy
from tl_jax.rl.custom_reward import open_reward
from tl_jax.rl.prompts import StoredPrompts, choose_prompts, select_prompts
from tl_jax.rl.scoring import score_samples
from tl_jax.run.directory import Run
from tl_jax.run.record import read_own, replace_text
from tl_jax.sampling.sampler import generate
from tl_jax.screen import screen
from tl_jax.types import Params

Pools = Sequence[tuple[StoredPrompts, int]]
"""Prompts, and how many of them each rollout takes."""


def select(run: Run) -> tuple[dict[int, int], dict[str, int]]:
    """Return which prompts of the training data fit the limits of the rollout; see ``rl.prompts``.

    Raises:
      ConfigError: There are none; the message names the settings.
    """
    ppo = run.config.ppo
    kept, dropped = select_prompts(
        read_prompts(run.data_dir / PROMPTS),
        max_length=ppo.max_prompt_length,
        max_reply=ppo.max_new_tokens,
        mode="custom" if run.reward or run.config.reward.path else run.config.reward.mode,
        reply_tokens=_longest_reply(run),
    )
    if not kept:
        raise ConfigError(
            f"no prompt can be used for reward training ({dropped}); raise "
            "config.ppo.max_prompt_length or config.ppo.max_new_tokens, look at mae_report.json, "
            "or set config.ppo.steps=0 to leave reward training out"
        )
    return kept, dropped


def left_out(kept: Sized, dropped: Mapping[str, int]) -> str:
    """Say how many prompts are used and left out, by reason and setting."""
    share = sum(dropped.values()) / (len(kept) + sum(dropped.values()))
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    return (
        f"reward training uses {len(kept)} prompts; left out ({share:.0%}): {reasons} (the limits "
        "are config.ppo.max_prompt_length and config.ppo.max_new_tokens)"
    )


def usable_prompts(run: Run) -> StoredPrompts:
    """Return the prompts of the training data that fit the limits of the rollout.

    How many are left out, and why, is printed and written to ``results/prompts.json``.

    Raises:
      ConfigError: There are none.
    """
    kept, dropped = select(run)
    _record(run, {"used": len(kept), "left_out": dropped})
    if dropped:
        _say(left_out(kept, dropped))
    return StoredPrompts(JsonlSource(run.data_dir / PROMPTS), kept)


def _longest_reply(run: Run) -> Callable[[Prompt], int]:
    """Return what tells the tokens of the longest reply that a prompt's reward asks for."""
    if not run.config.environment.path:
        return operator.attrgetter("reply_tokens")

    def tokens(prompt: Prompt) -> int:
        # What is rewarded is the last call of the dialogue, which ends with a stop token.
        goal = run.renderer.render_calls(prompt.goal) if prompt.goal else ""
        ids = run.tokenizer.encode_continuation(goal)[0] if goal else ()
        return max(prompt.reply_tokens, len(ids) + 1)

    return tokens


def prompt_pools(run: Run, start: Params, prompts: StoredPrompts) -> Pools:
    """Return where the prompts of a rollout come from, by ``config.ppo.missed_share``.

    Args:
      run: Of the run.
      start: The policy that reward training starts from; its most likely reply decides.
      prompts: All that can be used.
    """
    ppo = run.config.ppo
    if not ppo.missed_share:
        return [(prompts, ppo.prompts_per_step)]
    wrong = missed(run, start, prompts)
    known = set(range(len(prompts))) - set(wrong)
    _record(run, {"missed": len(wrong)})
    _say(f"at first {len(wrong)} of {len(prompts)} prompts get a wrong reply")
    count = share_of_missed(ppo, len(wrong), len(known))
    return [
        (prompts.part(rows), number)
        for rows, number in ((wrong, count), (sorted(known), ppo.prompts_per_step - count))
        if number
    ]


def missed(run: Run, start: Params, prompts: StoredPrompts) -> list[int]:
    """Return the places of the prompts whose most likely reply is not all right."""
    config, ppo = run.config, run.config.ppo
    every: list[Prompt] = list(prompts)
    generations = generate(
        run.sampler(ppo.max_new_tokens, 0.0, 1.0),
        memory.held_in(memory.DEVICE, start),
        [prompt.ids for prompt in every],
        # The most likely reply needs no randomness.
        jax.random.split(jax.random.key(0), len(every)),
        batch_size=ppo.prompts_per_step * ppo.samples_per_prompt,
    )
    _, records = score_samples(
        every,
        generations,
        renderer=run.renderer,
        reward=config.reward,
        step=0,
        function=run.reward or open_reward(config.reward),
    )
    return [i for i, record in enumerate(records) if record["category"] != taxonomy.ALL_RIGHT]


def share_of_missed(ppo: PpoConfig, missed: int, others: int) -> int:
    """Return how many prompts of a rollout are missed ones; what one kind lacks the other gives."""
    if not missed or not others:
        return ppo.prompts_per_step if missed else 0
    if ppo.missed_share == 1:
        return ppo.prompts_per_step
    # A pool that is never visited would be lost for the whole run.
    return min(max(round(ppo.missed_share * ppo.prompts_per_step), 1), ppo.prompts_per_step - 1)


def chosen(pools: Pools, seed: int, step: int) -> list[Prompt]:
    """Return the prompts of a rollout."""
    return [prompt for pool, count in pools for prompt in choose_prompts(pool, count, seed, step)]


def _record(run: Run, counts: dict[str, object]) -> None:
    if processes.is_first():
        run.results_dir.mkdir(parents=True, exist_ok=True)
        path = run.results_dir / "prompts.json"
        mend = "move it away: it only counts prompts"
        found = read_own(path, mend) if "used" not in counts else None
        replace_text(path, json.dumps((found or {}) | counts, indent=1) + "\n")


def _say(text: str) -> None:
    if processes.is_first():
        screen().print(text, markup=False)
