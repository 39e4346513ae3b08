"""Which settings of a run may still change, and which its training has fixed."""

from __future__ import annotations

from collections.abc import Iterable

from tl_jax.config.fields import to_dict
from tl_jax.errors import ConfigError
from tl_jax.run.directory import Run
from tl_jax.run.record import changed_settings, write_config, write_versions

# What no result depends on, or only results that are made anew.
_ALWAYS = (
    *("run_dir", "train.steps", "train.epochs", "train.log_every", "train.eval_", "ppo.steps"),
    *("evaluate.", "checkpoint.", "tracking.", "mesh.", "data.prefetch"),
    *("data.max_bad_fraction", "data.max_without_tools"),
    *("model.attention", "model.splash.", "model.remat", "model.unroll"),
)
_OF_REWARD = ("reward.", "ppo.", "ppo_optim.", "environment.")
# Training data are kept apart from this set when they are prepared.
_KEPT_APART = "evaluate.rotbench_path"


def fixed(run: Run, changed: Iterable[str], *, prepares: bool) -> list[str]:
    """Return which changed settings may change no more.

    Until anything is trained all may: what was prepared is prepared again. Settings of reward
    training may change until it has begun.

    Args:
      run: The run as it lies in its directory.
      changed: Dotted names.
      prepares: Whether the command would prepare data.
    """
    trained = [phase for phase in ("supervised", "reward") if run.saved_step(phase) is not None]
    if not trained:
        return []
    free = _ALWAYS if "reward" in trained else (*_ALWAYS, *_OF_REWARD)
    return [
        name for name in changed if not name.startswith(free) or (name == _KEPT_APART and prepares)
    ]


def check_changes(run: Run, *, prepares: bool) -> list[str]:
    """Return the settings that differ from those the run was last used with.

    Raises:
      ConfigError: One of them may change no more; the message says how to keep the run.
    """
    changed = changed_settings(run.run_dir, to_dict(run.config))
    if names := fixed(run, changed, prepares=prepares):
        shown = ", ".join(f"config.{name}" for name in names[:5])
        ways = "leave it as it was (--run takes all settings of the run as they are)"
        if names == [_KEPT_APART]:
            ways += ", score the set with `tl-jax evaluate`"
        raise ConfigError(
            f"{run.run_dir} has been trained with another value of {shown}, which its model "
            f"depends on; {ways}, or begin another run beside it with --config.run_dir=DIR"
        )
    return changed


def record(run: Run) -> None:
    """Write the settings and versions of the run into its directory."""
    write_config(run.run_dir, to_dict(run.config))
    write_versions(run.run_dir)
