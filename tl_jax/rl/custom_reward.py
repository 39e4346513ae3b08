"""A reward of the user's own: a function of a reply and its prompt."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

from tl_jax.config import RewardConfig
from tl_jax.config.user_file import defined, load_file
from tl_jax.data.examples.build import Prompt
from tl_jax.errors import ConfigError, RewardError
from tl_jax.rewards import taxonomy
from tl_jax.rewards.penalties import Reward

RewardFunction = Callable[[str, Prompt], Reward | float]
"""Given the text of a reply, control tokens and thought included, and the prompt it answers."""

_SETTING = "config.reward.path"


def open_reward(config: RewardConfig) -> RewardFunction | None:
    """Return the function that ``reward.path`` names; None where the reward is by rule.

    Raises:
      ConfigError: It is not ``FILE:function``, or there is no such file or function.
    """
    if not config.path:
        return None
    path, colon, name = config.path.rpartition(":")
    if not (path and colon and name.isidentifier()):
        raise ConfigError(
            f"{_SETTING}: {config.path!r} must be FILE:function, such as my_reward.py:reward"
        )
    return defined(load_file(path, _SETTING), name, path, _SETTING)


def custom_reward(function: RewardFunction, reply: str, prompt: Prompt) -> Reward:
    """Ask a user's function for the reward of one reply.

    Args:
      function: What is asked. A number becomes a ``Reward`` of category ``taxonomy.CUSTOM``.
      reply: Text of the reply.
      prompt: What it answers, with tools and gold calls.

    Raises:
      RewardError: The function raises, or returns no finite number and no ``Reward`` of a known
        category; the message names its file, its name and the prompt.
    """
    try:
        found = function(reply, prompt)
    except Exception as error:
        raise RewardError(
            f"{_name(function)} raised for prompt {prompt.id!r}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, numbers.Real):
        found = Reward(float(found), taxonomy.CUSTOM)
    if not (
        isinstance(found, Reward)
        and isinstance(found.value, numbers.Real)
        and math.isfinite(found.value)
    ):
        raise RewardError(
            f"{_name(function)} returned {found!r} for prompt {prompt.id!r}; return a finite "
            "number or a tl_jax.Reward"
        )
    if found.category not in (*taxonomy.CATEGORIES, taxonomy.CUSTOM):
        raise RewardError(
            f"{_name(function)} returned the category {found.category!r} for prompt "
            f"{prompt.id!r}; known: {', '.join((*taxonomy.CATEGORIES, taxonomy.CUSTOM))}"
        )
    return found


def _name(function: RewardFunction) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"the reward {code.co_filename}:{name}" if code else f"the reward {name}"
