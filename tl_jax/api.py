"""Training from Python: what the commands do, as functions of a ``Run``.

Each goes on from where the run directory stands, as the command of its name does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from tl_jax.calls.call import ToolSpec, tool_from_schema
from tl_jax.data.trajectory import Message
from tl_jax.models import registry
from tl_jax.parallel import processes
from tl_jax.publish import export as publish
from tl_jax.rl.custom_reward import RewardFunction
from tl_jax.run import prepare as preparation
from tl_jax.run.chat import Reply, make_answer
from tl_jax.run.directory import Run
from tl_jax.train import ppo, sft
from tl_jax.train.rollback import Rollbacks
from tl_jax.train.validate import checked


def prepare(run: Run) -> dict[str, Any]:
    """Write the initial model and the token files of a run, unless they are there.

    Returns:
      The report of ``data/mae_report.json``.

    Raises:
      TlJaxError: A setting or a file that cannot be used.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.config.presets import tiny
      >>> report = tl.prepare(tl.Run(tiny("runs/tiny")))
      >>> report["rows"]
      60
    """
    with checked(run, prepares=True, computes=False, writes=True):
        if processes.is_first():
            preparation.make_model(run, _console())
            registry.check_lengths(run.config, run.model)
        processes.wait_for_all("make_model")
        report = preparation.prepare(run)
        if processes.is_first():
            preparation.measure_loader(run)
        processes.wait_for_all("prepare")
        return report


def train_sft(run: Run) -> None:
    """Train ``config.train.steps`` supervised steps, or ``epochs``, from the newest checkpoint on.

    Raises:
      TlJaxError: The data are not prepared, or a setting cannot be used.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.config.presets import tiny
      >>> run = tl.Run(tiny("runs/tiny"))
      >>> _ = tl.prepare(run)
      >>> tl.train_sft(run)  # doctest: +ELLIPSIS
      supervised ...
      >>> run.newest_phase()
      'supervised'
    """
    with checked(run, prepares=False, computes=True, writes=True):
        for attempt in Rollbacks(run, sft.PHASE):
            with attempt:
                sft.train(run)


def train_rl(run: Run, reward: RewardFunction | None = None) -> None:
    """Train ``config.ppo.steps`` rollouts with a reward, from the newest checkpoint on.

    Args:
      run: The run, its data prepared.
      reward: ``function(reply, prompt) -> float or Reward``, in place of ``config.reward``. A run
        that goes on needs it again: a function is not kept in the run directory.

    Raises:
      TlJaxError: The data are not prepared, a setting cannot be used, or the reward fails.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.config.presets import tiny
      >>> run = tl.Run(tiny("runs/tiny"))
      >>> _ = tl.prepare(run)
      >>> def short(reply, prompt):
      ...     return 1.0 - len(reply) / 100
      >>> tl.train_rl(run, reward=short)  # doctest: +ELLIPSIS
      reward ...
      >>> run.newest_phase()
      'reward'
    """
    with checked(run, prepares=False, computes=True, writes=True):
        rewarded = run if reward is None else dataclasses.replace(run, reward=reward)
        for attempt in Rollbacks(rewarded, ppo.PHASE):
            with attempt:
                ppo.train(rewarded)


def generate(
    run: Run,
    messages: str | Sequence[Message | Mapping[str, Any]],
    tools: Sequence[ToolSpec | Mapping[str, Any]] = (),
) -> Reply:
    """Ask the newest model of a run for the next turn of a dialogue, greedily.

    Args:
      run: The run; ``config.evaluate`` limits prompt and reply.
      messages: The user's request, or the turns so far: ``Message``, or objects with ``role`` and
        ``content``.
      tools: Offered tools, or their OpenAI-style function objects.

    Returns:
      The reply: its ``text``, ``thought`` and ``calls``.

    Raises:
      TlJaxError: The dialogue is too long, or a setting does not fit the template.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.config.presets import tiny
      >>> run = tl.Run(tiny("runs/tiny"))
      >>> _ = tl.prepare(run)
      >>> weather = {"name": "weather", "parameters": {"properties": {"city": {}}}}
      >>> reply = tl.generate(run, "Is it warm in Rome?", tools=[weather])
      >>> isinstance(reply.text, str), isinstance(reply.calls, tuple)
      (True, True)
    """
    processes.require_one("a chat")
    asked = [Message("user", messages)] if isinstance(messages, str) else messages
    turns = [
        entry if isinstance(entry, Message) else Message(entry["role"], entry.get("content") or "")
        for entry in asked
    ]
    offered = tuple(
        tool if isinstance(tool, ToolSpec) else tool_from_schema(tool) for tool in tools
    )
    with jax.set_mesh(run.mesh):
        return make_answer(run, offered)(turns)


def export(run: Run, target: str = "") -> Path:
    """Write the newest model of a run as a Hugging Face directory and return its path.

    Args:
      run: The run.
      target: The directory, which must not be there yet; empty: ``export`` in the run directory,
        written anew if the model has changed.

    Raises:
      TlJaxError: ``target`` is occupied, or nothing is trained yet.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.config.presets import tiny
      >>> run = tl.Run(tiny("runs/tiny"))
      >>> _ = tl.prepare(run)
      >>> tl.train_sft(run)  # doctest: +ELLIPSIS
      supervised ...
      >>> (tl.export(run) / "config.json").exists()
      True
    """
    if target:
        request = publish.Request(target=target)
        publish.source_and_target(run, request)
        return publish.export(run, request, _console())
    publish.export_newest(run, _console())
    return run.export_dir


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False, quiet=True)
