"""TL-Training in JAX: teach language models to call tools.

The public names are imported when they are first used, so that ``import tl_jax`` is quick and
needs no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl_jax import config as config
    from tl_jax.api import export, generate, prepare, train_rl, train_sft
    from tl_jax.calls.call import ToolCall, ToolSpec
    from tl_jax.calls.parse import parse_calls
    from tl_jax.calls.render import render_calls
    from tl_jax.config import RunConfig
    from tl_jax.data.examples.key_tokens import key_token_weights
    from tl_jax.data.mae.feedback import classify_feedback
    from tl_jax.data.trajectory import Trajectory
    from tl_jax.evaluate.run import evaluate_phase as evaluate
    from tl_jax.rewards.penalties import Reward
    from tl_jax.rewards.rules import score
    from tl_jax.run.directory import Run

__version__ = "0.1.0"

__all__ = [
    "Reward",
    "Run",
    "RunConfig",
    "ToolCall",
    "ToolSpec",
    "Trajectory",
    "__version__",
    "classify_feedback",
    "config",
    "evaluate",
    "export",
    "generate",
    "key_token_weights",
    "parse_calls",
    "prepare",
    "render_calls",
    "score",
    "train_rl",
    "train_sft",
]

_HOMES = {
    "Reward": "rewards.penalties",
    "Run": "run.directory",
    "RunConfig": "config",
    "ToolCall": "calls.call",
    "ToolSpec": "calls.call",
    "Trajectory": "data.trajectory",
    "classify_feedback": "data.mae.feedback",
    "config": "config",
    "evaluate": "evaluate",
    "export": "api",
    "generate": "api",
    "key_token_weights": "data.examples.key_tokens",
    "parse_calls": "calls.parse",
    "prepare": "api",
    "render_calls": "calls.render",
    "score": "rewards.rules",
    "train_rl": "api",
    "train_sft": "api",
}
"""Public name -> the module that holds it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    # `config` is a room, and the room `evaluate` is itself what is called.
    found = home if _HOMES[name] == name else getattr(home, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
