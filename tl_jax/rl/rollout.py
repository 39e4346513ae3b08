"""Rollouts: prompts to sampled calls, their rewards and the batch the train step reads."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax.config import PpoConfig, RewardConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.parallel import memory, processes
from tl_jax.rl import advantages
from tl_jax.rl.batch import build_batch
from tl_jax.rl.custom_reward import RewardFunction
from tl_jax.rl.episode import play
from tl_jax.rl.logprobs import LogprobStep
from tl_jax.rl.rollout_metrics import sample_metrics, sampler_gap, token_metrics
from tl_jax.rl.rows import SharedRows, share
from tl_jax.rl.scoring import Record, score_samples
from tl_jax.rl.tool_loop import ToolTurns
from tl_jax.sampling.held_rows import Kept
from tl_jax.sampling.sampler import Generation, Sampler, generate
from tl_jax.types import Batch, Params


class RolloutResult(NamedTuple):
    """One rollout.

    Attributes:
      batch: One sample a row in the order of ``records``, ``rollout`` filled, ``weights`` 0.
      metrics: Plain floats: reward, share of each category, divergence, lengths, critic; with
        tools that run, ``turns`` per sample.
      records: JSON-ready, one per sample, for the sample log: those of ``scoring.score_samples``
        with the advantage of the reply's last token; with tools that run, the whole ``dialogue``.
      sampled_tokens: Tokens that were sampled.
    """

    batch: Batch
    metrics: dict[str, float]
    records: list[Record]
    sampled_tokens: int


@dataclasses.dataclass(frozen=True)
class RolloutPlan:
    """What all rollouts of a phase share.

    Attributes:
      ppo: Sampling and advantage settings; a call of ``sample`` has the rows of one rollout.
      reward: How replies are scored.
      seed: Of the run.
      sample: From ``sampler.make_sampler`` with the limits and temperature of ``ppo``.
      logprob_step: From ``make_logprob_step`` at the same temperature.
      renderer: Of the model; reads calls out of sampled ids.
      prompt_length: Tokens every prompt is padded to; one value for a whole run means that
        sampler, scoring and train step compile once.
      tools: Answer the calls of a reply, so that it is followed by another; None: one reply each.
      function: Rewards the replies in place of the rules.
      rows: Rows in which samples that begin alike are scored and trained together; None: each
        sample has a row of its own.
    """

    ppo: PpoConfig
    reward: RewardConfig
    seed: int
    sample: Sampler
    logprob_step: LogprobStep
    renderer: Renderer
    prompt_length: int
    tools: ToolTurns | None = None
    function: RewardFunction | None = None
    rows: SharedRows | None = None

    @property
    def max_tokens(self) -> int:
        """Most tokens of a row after its prompt."""
        if self.tools is None:
            return self.ppo.max_new_tokens
        return self.tools.environment.config.max_tokens


def rollout(
    plan: RolloutPlan,
    params: Params,
    ref_params: Params,
    prompts: Sequence[Prompt],
    *,
    step: int,
    kl_coef: float,
) -> RolloutResult:
    """Sample replies to the prompts, score them and estimate advantages.

    With tools that run a sample is a dialogue in one row. Only its replies are trained; what the
    tools answer is context, and no divergence is measured there.

    Args:
      plan: How replies are sampled and scored.
      params: The policy, with its value head.
      ref_params: The frozen supervised model (a value head is not needed). In the host's memory,
        it is on the device only while it scores.
      prompts: Each is sampled ``ppo.samples_per_prompt`` times.
      step: Reward-training step; with the seed, the prompt's id and the sample index it decides
        what is sampled.
      kl_coef: What a nat of divergence takes off the reward, where ``ppo.kl`` is ``"reward_k1"``.

    Raises:
      ValueError: A prompt without tokens or longer than ``plan.prompt_length``, or one whose gold
        calls the published reward cannot read.
    """
    ppo, tools = plan.ppo, plan.tools
    repeated = [prompt for prompt in prompts for _ in range(ppo.samples_per_prompt)]
    # A prompt that a rollout visits twice gets other samples the second time.
    seen: collections.Counter[str] = collections.Counter()
    numbers = []
    for prompt in repeated:
        numbers.append(seen[prompt.id])
        seen[prompt.id] += 1
    prompt_ids = [prompt.ids for prompt in repeated]
    keys = sample_keys(plan.seed, step, [prompt.id for prompt in repeated], numbers)
    longest = plan.prompt_length + plan.max_tokens - ppo.max_new_tokens
    # A dialogue's next turn goes on where its row ends.
    kept = Kept()

    def sample_turn(turn: int, rows: list[int], contexts: list[list[int]]) -> list[Generation]:
        row_keys = keys if not turn else jax.vmap(jax.random.fold_in, (0, None))(keys, turn)
        return generate(
            plan.sample,
            params,
            contexts,
            row_keys[np.array(rows)],
            batch_size=ppo.prompts_per_step * ppo.samples_per_prompt,
            length=longest,
            kept=kept,
        )

    answering = contextlib.nullcontext() if tools is None else tools.responses(repeated)
    with answering as respond:
        episodes = play(
            prompt_ids,
            sample_turn,
            respond,
            max_turns=1 if tools is None else tools.environment.config.max_turns,
            max_tokens=plan.max_tokens,
            max_reply=ppo.max_new_tokens,
        )
    # Scoring needs the memory.
    kept.rows = None
    scored = [(prompt, episode.last) for prompt, episode in zip(repeated, episodes, strict=True)]
    if tools is not None:
        scored = [
            (dataclasses.replace(prompt, golds=prompt.goal), tools.counted(episode, prompt.tools))
            for prompt, episode in zip(repeated, episodes, strict=True)
        ]
    own = scored[processes.own_part(len(scored))]
    _, own_records = score_samples(
        [prompt for prompt, _ in own],
        [reply for _, reply in own],
        renderer=plan.renderer,
        reward=plan.reward,
        step=step,
        function=plan.function,
    )
    records = processes.join_parts(own_records)
    scores_B = np.array([record["reward"] for record in records], np.float32)
    replies = [episode.ids for episode in episodes]
    batch, mask_BT = build_batch(
        prompt_ids,
        replies,
        [episode.sampled for episode in episodes],
        length=plan.prompt_length + plan.max_tokens,
    )
    trained_BT = mask_BT
    if ppo.truncated == "mask":
        finished_B = np.array([episode.last.finished for episode in episodes], np.float32)
        trained_BT = mask_BT * finished_B[:, None]
    asked, places = batch.replace(weights=mask_BT), None
    if plan.rows is not None:
        asked, places = share(asked, mask_BT, plan.rows)

    def by_sample(of_rows: Any) -> np.ndarray:
        # On every process whole, so that whatever is computed of them is global.
        whole = processes.gather(of_rows)
        return whole if places is None else places.by_sample(whole, mask_BT.shape[1])

    logprobs_BT, values_BT, entropy_BT = map(by_sample, plan.logprob_step(params, asked))
    reference = memory.held_in(memory.DEVICE, ref_params)
    ref_logprobs_BT = by_sample(plan.logprob_step(reference, asked)[0])
    filled = advantages.estimate(
        scores_B,
        logprobs_BT,
        ref_logprobs_BT,
        values_BT,
        trained_BT,
        kl_coef=kl_coef if ppo.kl == "reward_k1" else 0.0,
        reward_clip=plan.reward.clip,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        whiten=ppo.whiten_advantages,
        method=ppo.advantage,
        group_size=ppo.samples_per_prompt,
        scale_groups=ppo.group_std,
        aggregation=ppo.aggregation,
    )
    last_B = [len(p) + len(r) - 2 for p, r in zip(prompt_ids, replies, strict=True)]
    advantages_B = processes.gather(filled.advantages)[np.arange(len(records)), last_B]
    for record, advantage in zip(records, advantages_B, strict=True):
        record["advantage"] = float(advantage)
    if tools is not None:
        for record, episode in zip(records, episodes, strict=True):
            record["dialogue"] = tools.log(episode)
    metrics = {
        **sample_metrics(records, episodes, ppo.samples_per_prompt),
        **token_metrics(logprobs_BT, ref_logprobs_BT, entropy_BT, mask_BT),
        "sampler_logprob_gap": sampler_gap(episodes, logprobs_BT, mask_BT),
        "explained_variance": float(advantages.explained_variance(filled)),
    }
    if tools is not None:
        metrics["turns"] = float(np.mean([len(episode.turns) for episode in episodes]))
    sampled = sum(len(episode.logprobs) for episode in episodes)
    return RolloutResult(batch.replace(rollout=filled), metrics, records, sampled)


def sample_keys(
    seed: int, step: int, prompt_ids: Sequence[str], sample_numbers: Sequence[int]
) -> jax.Array:
    """Return one PRNG key per row, from what the row is and not from where it stands.

    Args:
      seed: Of the run.
      step: Reward-training step.
      prompt_ids: Id of each row's prompt.
      sample_numbers: Which of the prompt's samples each row is.

    Returns:
      ``[len(prompt_ids)]`` typed keys.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=4).digest() for text in prompt_ids]
    names = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint32)
    key = jax.random.fold_in(jax.random.key(seed), step)
    fold_rows = jax.vmap(jax.random.fold_in)
    prompt_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, names)
    return fold_rows(prompt_keys, np.array(sample_numbers, np.uint32))
