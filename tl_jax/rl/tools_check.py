"""The tools of config.environment.path, held against the prompts and the template of a run."""

from __future__ import annotations

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.prepare.files import PROMPTS
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError
from tl_jax.rl.tool_loop import BEFORE, ToolTurns
from tl_jax.rl.tool_process import open_environment
from tl_jax.run.directory import Run


def open_tools(run: Run) -> ToolTurns | None:
    """Return what answers the calls of a sample; None if tools do not run.

    Raises:
      ConfigError: The file has no tool of any prompt, or the template cannot write their results.
    """
    config = run.config
    if not config.environment.path:
        return None
    environment = open_environment(config.environment)
    prompts = read_prompts(run.data_dir / PROMPTS)
    if not any(tool.name in environment.names for prompt in prompts for tool in prompt.tools):
        raise ConfigError(
            f"config.environment.path: none of the functions of {config.environment.path} "
            f"({', '.join(sorted(environment.names))}) has the name of a tool in the data"
        )
    check_template(run)
    return ToolTurns(environment, run.renderer)


def check_template(run: Run) -> None:
    """Refuse a template by which what stands between two replies depends on earlier turns.

    Raises:
      ConfigError: The template numbers its calls, or rewrites a reply that has results.
    """
    call = ToolCall("probe")
    earlier = (*BEFORE, Message("assistant", "", (call,)), Message("tool", "1"))
    template = run.renderer.template
    try:
        first, later = (
            run.renderer.feedback_ids((ToolSpec("probe"),), before, (call,), ("2",))
            for before in (BEFORE, earlier)
        )
    except ValueError as error:
        raise ConfigError(
            f"config.environment.path: config.data.template {template!r}: {error}"
        ) from error
    if first != later:
        raise ConfigError(
            f"config.environment.path: config.data.template {template!r} writes results otherwise "
            "in the course of a dialogue, as templates that number their calls do; take another"
        )
