"""Rollouts: prompts to sampled calls, their rewards and the batch the train step reads."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.calls.parse import reply_call_text
from tl_jax.calls.render import render_calls
from tl_jax.config import ModelConfig, PpoConfig, RewardConfig
from tl_jax.data.examples import Prompt
from tl_jax.data.tokenizer import Tokenizer
from tl_jax.models import critic, functional
from tl_jax.ops.cross_entropy import token_logprobs
from tl_jax.ops.policy import kl_estimates
from tl_jax.parallel import memory, processes
from tl_jax.rewards import rules, taxonomy
from tl_jax.rl import advantages
from tl_jax.rl.choice import scoring_temperature
from tl_jax.rl.episode import Episode, play
from tl_jax.rl.sampler import Generation, Sampler, bucket_length, generate, reply_text
from tl_jax.rl.tool_turns import ToolTurns
from tl_jax.types import Batch, Params

LogprobStep = Callable[[Params, Batch], tuple[jax.Array, jax.Array, jax.Array]]
Record = dict[str, Any]

_NOT_ENDED = rules.format_error("not ended")


class RolloutResult(NamedTuple):
    """One rollout.

    Attributes:
      batch: Rows in the order of ``records``, ``rollout`` filled, ``weights`` 0.
      metrics: Plain floats: reward, share of each category, divergence, lengths, critic; with
        tools that run, ``turns`` per sample.
      records: JSON-ready, one per sample, for the sample log: those of ``score_samples`` with
        the advantage of the reply's last token; with tools that run, the whole ``dialogue``.
      sampled_tokens: Tokens that were sampled.
    """

    batch: Batch
    metrics: dict[str, float]
    records: list[Record]
    sampled_tokens: int


def rollout(
    params: Params,
    ref_params: Params,
    prompts: Sequence[Prompt],
    *,
    sample: Sampler,
    logprob_step: LogprobStep,
    tokenizer: Tokenizer,
    ppo: PpoConfig,
    reward: RewardConfig,
    seed: int,
    step: int,
    batch_size: int,
    prompt_length: int,
    call_style: str = "python",
    tools: ToolTurns | None = None,
) -> RolloutResult:
    """Sample replies to the prompts, score them and estimate advantages.

    With tools that run a sample is a dialogue in one row. Only its replies are trained; what the
    tools answer is context, and no divergence is measured there.

    Args:
      params: The policy, with its value head.
      ref_params: The frozen supervised model (a value head is not needed). In the host's memory,
        it is on the device only while it scores.
      prompts: Each is sampled ``ppo.samples_per_prompt`` times.
      sample: From ``sampler.make_sampler`` with the limits and temperature of ``ppo``.
      logprob_step: From ``make_logprob_step`` at the same temperature.
      tokenizer: Turns sampled ids into text.
      ppo: Sampling and advantage settings.
      reward: How replies are scored.
      seed: Of the run.
      step: Reward-training step; with the seed, the prompt's id and the sample index it decides
        what is sampled.
      batch_size: Rows per call of ``sample``.
      prompt_length: Tokens every prompt is padded to; one value for a whole run means that
        sampler, scoring and train step compile once.
      call_style: Style of the calls, one of ``calls.parse.STYLES``.
      tools: Answer the calls of a reply, so that it is followed by another; None: one reply each.

    Raises:
      ValueError: A prompt without tokens or longer than ``prompt_length``, or one whose gold calls
        the published reward cannot read.
    """
    repeated = [prompt for prompt in prompts for _ in range(ppo.samples_per_prompt)]
    # A prompt that a rollout visits twice gets other samples the second time.
    seen: collections.Counter[str] = collections.Counter()
    numbers = []
    for prompt in repeated:
        numbers.append(seen[prompt.id])
        seen[prompt.id] += 1
    prompt_ids = [prompt.ids for prompt in repeated]
    keys = sample_keys(seed, step, [prompt.id for prompt in repeated], numbers)
    limits = None if tools is None else tools.environment.config
    max_tokens = ppo.max_new_tokens if limits is None else limits.max_tokens
    longest = prompt_length + max_tokens - ppo.max_new_tokens

    def sample_turn(turn: int, rows: list[int], contexts: list[list[int]]) -> list[Generation]:
        row_keys = keys if not turn else jax.vmap(jax.random.fold_in, (0, None))(keys, turn)
        return generate(
            sample,
            params,
            contexts,
            row_keys[np.array(rows)],
            batch_size=batch_size,
            length=longest if turn else prompt_length,
        )

    answering = contextlib.nullcontext() if tools is None else tools.responses(repeated)
    with answering as respond:
        episodes = play(
            prompt_ids,
            sample_turn,
            respond,
            max_turns=1 if limits is None else limits.max_turns,
            max_tokens=max_tokens,
            max_reply=ppo.max_new_tokens,
        )
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
        tokenizer=tokenizer,
        reward=reward,
        step=step,
        call_style=call_style,
    )
    records = processes.join_parts(own_records)
    scores_B = np.array([record["reward"] for record in records], np.float32)
    replies = [episode.ids for episode in episodes]
    batch, mask_BT = build_batch(
        prompt_ids,
        replies,
        [episode.sampled for episode in episodes],
        length=prompt_length + max_tokens,
    )
    trained_BT = mask_BT
    if ppo.truncated == "mask":
        finished_B = np.array([episode.last.finished for episode in episodes], np.float32)
        trained_BT = mask_BT * finished_B[:, None]
    # On every process whole, so that whatever is computed of them is global.
    asked = batch.replace(weights=mask_BT)
    logprobs_BT, values_BT, entropy_BT = map(processes.gather, logprob_step(params, asked))
    reference = memory.held_in(memory.DEVICE, ref_params)
    ref_logprobs_BT = processes.gather(logprob_step(reference, asked)[0])
    filled = advantages.estimate(
        scores_B,
        logprobs_BT,
        ref_logprobs_BT,
        values_BT,
        trained_BT,
        kl_coef=ppo.kl_coef,
        reward_clip=reward.clip,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        whiten=ppo.whiten_advantages,
        method=ppo.advantage,
        group_size=ppo.samples_per_prompt,
        scale_groups=ppo.group_std,
    )
    last_B = [len(p) + len(r) - 2 for p, r in zip(prompt_ids, replies, strict=True)]
    advantages_B = processes.gather(filled.advantages)[np.arange(len(records)), last_B]
    for record, advantage in zip(records, advantages_B, strict=True):
        record["advantage"] = float(advantage)
    if tools is not None:
        for record, episode in zip(records, episodes, strict=True):
            record["dialogue"] = tools.log(episode)
    metrics = {
        **_sample_metrics(records, episodes, ppo.samples_per_prompt),
        **_token_metrics(logprobs_BT, ref_logprobs_BT, entropy_BT, mask_BT),
        "sampler_logprob_gap": _sampler_gap(episodes, logprobs_BT, mask_BT),
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


def score_samples(
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    *,
    tokenizer: Tokenizer,
    reward: RewardConfig,
    step: int,
    call_style: str = "python",
) -> tuple[np.ndarray, list[Record]]:
    """Reward each sampled reply against the gold calls of its prompt.

    A reply that was cut off before its stop token is a format error, whatever it says so far; the
    published reward alone does not look at the end. Where the prompt has no gold call, a reply in
    words is right. Control tokens inside a reply are part of its text. A thought before a call
    that its style marks is not scored.

    Args:
      prompts: One per generation.
      generations: Sampled replies; their stop token is no part of the text.
      tokenizer: Turns ids into text.
      reward: How replies are scored (see ``rewards.rules``).
      step: Written to the records.
      call_style: Style of the calls, one of ``calls.parse.STYLES``.

    Returns:
      ``(scores_B, records)``: float32 rewards (never integers, most are fractions) and, per
      sample, ``step, prompt_id, sampled, gold, category, reward, details``.

    Raises:
      ValueError: A prompt without exactly one gold call, by the published reward.
    """
    replies = [reply_text(generation, tokenizer) for generation in generations]
    rewards = rules.score_batch(
        [reply_call_text(reply, call_style) for reply in replies],
        [rules.Parallel(prompt.golds) for prompt in prompts],
        [prompt.tools for prompt in prompts],
        mode=reward.mode,
        style=call_style,
        free_text_tools=reward.free_text_tools,
        free_text_match=reward.free_text_match,
        free_text_min_f1=reward.free_text_min_f1,
    )
    records: list[Record] = []
    for prompt, generation, reply, found in zip(
        prompts, generations, replies, rewards, strict=True
    ):
        if reward.mode != "reference" and not generation.finished:
            found = _NOT_ENDED
        records.append(
            {
                "step": step,
                "prompt_id": prompt.id,
                "sampled": reply,
                "gold": render_calls(prompt.golds, call_style) if prompt.golds else "",
                "category": found.category,
                "reward": found.value,
                "details": list(found.details),
            }
        )
    return np.array([record["reward"] for record in records], np.float32), records


def build_batch(
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    sampled: Sequence[Sequence[bool]],
    *,
    length: int = 0,
) -> tuple[Batch, np.ndarray]:
    """Lay each prompt and what follows it out as one row.

    Args:
      prompts: Token ids of each row's prompt, at least one.
      replies: Ids after the prompt: those sampled as they came from the sampler, with the stop
        token, or without one if a reply was cut off, and those of feedback between replies.
      sampled: For each of these ids whether it was sampled.
      length: Tokens per row; 0 takes the bucket of the longest row.

    Returns:
      ``(batch, mask_BT)`` of numpy arrays. ``mask_BT`` is
      float32, 1 where the target is a sampled token; it comes from lengths, so a stop token
      counts even if its id is also the padding id. Cross-entropy weights are 0.
    """
    lengths = [len(p) + len(r) - 1 for p, r in zip(prompts, replies, strict=True)]
    shape = (len(prompts), length or bucket_length(max(lengths)))
    tokens, targets, positions, segments = (np.zeros(shape, np.int32) for _ in range(4))
    mask = np.zeros(shape, np.float32)
    columns = zip(prompts, replies, sampled, lengths, strict=True)
    for row, (prompt, reply, trained, end) in enumerate(columns):
        text = [*prompt, *reply]
        tokens[row, :end] = text[:-1]
        targets[row, :end] = text[1:]
        positions[row, :end] = np.arange(end)
        segments[row, :end] = 1
        mask[row, len(prompt) - 1 : end] = trained
    weights = np.zeros(shape, np.float32)
    return Batch(tokens, targets, weights, positions, segments), mask


def make_logprob_step(model_config: ModelConfig, *, temperature: float, chunk: int) -> LogprobStep:
    """Build the compiled training forward that scores the targets of a batch.

    Old policy and reference are both scored by it, never by the sampler: two programs round
    differently, and the difference would look like divergence and like a ratio off 1.

    Args:
      model_config: The architecture.
      temperature: That of the sampler; a greedy one (0) is scored at 1.
      chunk: Positions per chunk of the cross-entropy.

    Returns:
      ``(params, batch) -> (logprobs_BT, values_BT, entropy_BT)``, float32. Log-probabilities and
      entropy are 0 where the weight of a target is, values if the parameters have no value head.
    """
    temperature = scoring_temperature(temperature)

    @jax.jit
    def logprob_step(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden_BTD = functional.hidden_states(params, batch, model_config)
        kernel_DV = functional.head_kernel(params, model_config)
        logprobs_BT, entropy_BT = token_logprobs(
            *(hidden_BTD, kernel_DV, batch.targets, batch.weights),
            chunk=chunk,
            temperature=temperature,
        )
        if critic.HEAD in params:
            values_BT = critic.values(params, hidden_BTD, batch, model_config, stop_gradient=True)
        else:
            values_BT = jnp.zeros_like(logprobs_BT)
        return logprobs_BT, values_BT, entropy_BT

    return logprob_step


def _sample_metrics(
    records: Sequence[Record], episodes: Sequence[Episode], group_size: int
) -> dict[str, float]:
    rewards = np.array([record["reward"] for record in records], np.float32)
    counts = collections.Counter(record["category"] for record in records)
    shares = {f"category/{name}": counts[name] / len(records) for name in taxonomy.CATEGORIES}
    return {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        # Samples of one reward tell a comparison within the group nothing.
        "equal_groups_share": float(np.mean(np.ptp(rewards.reshape(-1, group_size), axis=1) == 0)),
        **shares,
        "truncated_share": float(np.mean([not e.last.finished for e in episodes])),
        "response_length": float(np.mean([len(e.logprobs) for e in episodes])),
    }


def _token_metrics(
    logprobs_BT: jax.Array, ref_logprobs_BT: jax.Array, entropy_BT: jax.Array, mask_BT: np.ndarray
) -> dict[str, float]:
    k1_BT, _, k3_BT = kl_estimates(logprobs_BT, ref_logprobs_BT)
    arrays = {"kl_k1": k1_BT, "kl_k3": k3_BT, "entropy": entropy_BT}
    count = mask_BT.sum()
    return {
        name: float(jnp.sum(jnp.where(mask_BT > 0, array_BT, 0.0)) / count)
        for name, array_BT in arrays.items()
    }


def _sampler_gap(episodes: Sequence[Episode], logprobs_BT: jax.Array, mask_BT: np.ndarray) -> float:
    """Return the largest absolute difference between sampler and training log-probabilities."""
    sampled = np.concatenate([episode.logprobs for episode in episodes])
    return float(np.max(np.abs(sampled - np.asarray(logprobs_BT)[mask_BT > 0])))
