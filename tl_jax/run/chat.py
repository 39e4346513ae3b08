"""Ask the newest model of a run for the next turn of a dialogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_schema
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError
from tl_jax.run.directory import Run
from tl_jax.sampling.held_rows import Kept
from tl_jax.sampling.sampler import generate, reply_text


class Reply(NamedTuple):
    """What the model wrote.

    Attributes:
      text: Without what ended it, control tokens included.
      thought: What stands before the calls, in call styles that mark their calls.
      calls: Empty if the whole is not calls in the run's style.
    """

    text: str
    thought: str
    calls: tuple[ToolCall, ...]


def make_answer(run: Run, tools: tuple[ToolSpec, ...]) -> Callable[[list[Message]], Reply]:
    """Return what asks the newest model of the run for the next turn of a dialogue.

    Raises:
      ConfigError: The settings do not fit the template; or, when it is asked, the dialogue is
        longer than ``config.evaluate.max_prompt_length``.
    """
    config, limits = run.config, run.config.evaluate
    sampler = run.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    constraints = [run.constraints()(tools)] if limits.constrained else []
    params = run.params(run.newest_phase())
    # A turn reads what is new since the last one.
    kept = Kept()

    def answer(messages: list[Message]) -> Reply:
        ids = run.renderer.prompt_ids(tools, messages)
        if len(ids) > limits.max_prompt_length:
            raise ConfigError(
                f"the dialogue has {len(ids)} tokens, more than config.evaluate.max_prompt_length "
                f"({limits.max_prompt_length}); raise it, or begin anew"
            )
        keys = jax.random.split(jax.random.key(config.seed), 1)
        [made] = generate(
            *(sampler, params, [ids], keys),
            batch_size=1,
            length=limits.max_prompt_length,
            constraints=constraints,
            kept=kept,
        )
        # Without control tokens a damaged call could look like a right one.
        return read_reply(reply_text(made, run.tokenizer).strip(), run.renderer, tools)

    return answer


def read_reply(text: str, renderer: Renderer, tools: Sequence[ToolSpec] = ()) -> Reply:
    """Split a reply into its thought and its calls."""
    calls = renderer.parse(text, tools)
    thought = text.removesuffix(renderer.call_text(text)).strip() if calls else ""
    return Reply(text, thought, calls)


def read_tools(path: str) -> tuple[ToolSpec, ...]:
    """Read a JSON list of OpenAI-style function objects.

    Raises:
      ConfigError: No such file, or it is not such a list.
    """
    if not path or not Path(path).is_file():
        raise ConfigError(f"--tools: no file {path!r}; give a JSON list of function objects")
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--tools {path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"--tools {path}: must be a JSON list of function objects")
    tools = []
    for number, entry in enumerate(entries, start=1):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"a tool must be an object, got {entry!r}")
            tools.append(tool_from_schema(entry))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"--tools {path}: entry {number}: {error}") from error
    return tuple(tools)
