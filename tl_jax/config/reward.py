"""Settings of reward training: the reward, rollouts and losses, and tools that run."""

from __future__ import annotations

import dataclasses

from tl_jax.config.fields import above_zero, choice, not_negative, number, positive, share


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Reward of a sampled reply: by rule, or by a function of yours.

    ``path`` is ``FILE:function``, a Python file and a function ``(reply, prompt) -> float`` or
    ``Reward`` in it; the settings below but ``clip`` are then not read (empty: by rule). Replies
    that are cut off stay format errors.

    ``mode``: ``"strict"`` (a real parser, typed values, the published penalty table),
    ``"graded"`` (the same errors, each costs its share of the call's arguments) or
    ``"reference"`` (as published). Rewards are clipped to ``[-clip, clip]``.

    String arguments of ``free_text_tools``, each a tool or ``"tool.parameter"``, are free text:
    ``free_text_match`` wants them ``"exact"``, in the same words in order (``"normalised"``), or
    in about the same words (``"token_f1"``, an F1 of at least ``free_text_min_f1``; a word too
    many in a long text may be a wrong one, so what is trained on this learns to be vague). The
    reference mode does not read these.
    """

    path: str = ""
    mode: str = choice("reference", "strict", "graded", default="strict")
    clip: float = above_zero(5.0)
    free_text_tools: tuple[str, ...] = ("finish", "ask_to_user")
    free_text_match: str = choice("exact", "normalised", "token_f1", default="normalised")
    free_text_min_f1: float = number(0.85, above=0, most=1)


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """Reward training: rollouts, advantages and the clipped losses.

    Rollouts sample from the ``top_k`` most likely tokens (0: all) and of those from the smallest
    set with the probability ``top_p``.

    ``kl``: the divergence from the supervised model is taken off the reward token by token
    (``"reward_k1"``), or is a loss of its own (``"loss_k2"``, ``"loss_k3"``); ``kl_coef`` is the
    KL coefficient, which with a ``kl_target`` above 0 follows the divergence measured, in nats per
    token.

    ``advantage``: ``"gae"`` needs the critic; ``"grpo"`` and ``"rloo"`` compare the samples of a
    prompt, need two or more and ``value_coef=0``, and do not read the settings of the critic.
    ``group_std`` divides by the deviation in each group. ``critic``: a head on the policy's own
    trunk (``"shared"``; ``value_stop_gradient`` keeps its loss from the trunk), or a second trunk
    (``"separate"``) that starts as the supervised model's and learns with
    ``critic_learning_rate``.

    ``missed_share`` of the prompts of a rollout are those whose most likely reply at the start of
    reward training is wrong: there is more to learn from them. 0 takes prompts as they come, and
    spares that look at every prompt.

    ``truncated`` samples, cut off at ``max_new_tokens``, get the reward of a format error
    (``"penalise"``; the published reward scores them like any other) or are left out (``"mask"``).
    ``aggregation`` weighs all sampled tokens alike or all samples. ``dual_clip`` of 0 is off; it
    must be above 1 otherwise. Once the updates of a rollout have moved the policy by more than
    ``stop_kl`` nats per token the rest of them is left out (0: never). A rollout whose first update
    sees a log-ratio above ``max_first_log_ratio`` stops the run (0: never): nothing has moved yet,
    so the programs that score and train disagree.

    Every one of ``epochs`` cuts the samples of a rollout into ``minibatches``, which keep those of
    a prompt together where they can. What the samples of a prompt begin with is computed once
    (``data.shared_prefixes``).

    ``idle_memory`` is where the reference waits until it scores a rollout, and the moments of the
    optimiser until the updates: on the device, or in the memory of its host (``"host"``).
    """

    steps: int = not_negative(30)
    prompts_per_step: int = positive(16)
    samples_per_prompt: int = positive(2)
    missed_share: float = share(0.0)
    max_prompt_length: int = positive(896)
    max_new_tokens: int = positive(64)
    temperature: float = not_negative(1.0)
    top_k: int = not_negative(0)
    top_p: float = number(1.0, above=0, most=1)
    kl: str = choice("reward_k1", "loss_k2", "loss_k3", default="reward_k1")
    kl_coef: float = not_negative(0.1)
    kl_target: float = not_negative(0.0)
    advantage: str = choice("gae", "grpo", "rloo", default="gae")
    group_std: bool = False
    gamma: float = share(1.0)
    gae_lambda: float = share(1.0)
    whiten_advantages: bool = True
    truncated: str = choice("penalise", "mask", default="penalise")
    aggregation: str = choice("token_mean", "sequence_mean", default="token_mean")
    clip_low: float = above_zero(0.2)
    clip_high: float = above_zero(0.2)
    dual_clip: float = not_negative(0.0)
    clip_value: float = above_zero(0.2)
    entropy_coef: float = not_negative(0.0)
    stop_kl: float = not_negative(0.0)
    max_first_log_ratio: float = not_negative(1e-3)
    epochs: int = positive(1)
    minibatches: int = positive(1)
    critic: str = choice("shared", "separate", default="shared")
    critic_learning_rate: float = not_negative(1e-5)
    critic_warmup_steps: int = not_negative(2)
    value_stop_gradient: bool = True
    value_learning_rate: float = not_negative(1e-2)
    ce_coef: float = not_negative(0.0)
    reward_coef: float = not_negative(1.0)
    value_coef: float = not_negative(1.0)
    idle_memory: str = choice("device", "host", default="device")


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    """Tools that run in reward training, so that a sample is a dialogue (``path`` empty: off).

    The public functions of the Python file ``path`` answer the calls of their names with JSON text.
    A call of a tool that it lacks (``finish``) ends the sample, as do words, ``max_turns`` replies,
    and no room for one more in ``max_tokens`` tokens after the prompt. The reward is that of the
    last call against the last right one before the user speaks. Each sample's tools run, with your
    rights, in their own process: a call has ``timeout_s`` seconds, the process ``memory_mib`` MiB,
    a result ``result_chars`` characters.
    """

    path: str = ""
    max_turns: int = positive(4)
    max_tokens: int = positive(768)
    timeout_s: float = above_zero(5.0)
    memory_mib: int = positive(1024)
    result_chars: int = positive(1000)
