"""What goes wrong for reasons a user can mend; one root, and the message says where and how.

Anything else that is raised is a fault of this package.
"""

from __future__ import annotations


class TlJaxError(Exception):
    """The root: a message for the user, not a fault of the package."""


class ConfigError(TlJaxError, ValueError):
    """A setting that cannot be used; the message says where and what to write."""


class DoesNotFit(ConfigError):
    """A program needs more memory than a device has; the message is the compiler's."""


class DataError(TlJaxError, ValueError):
    """A file of trajectories or prepared data that cannot be used."""


class RowError(TlJaxError, ValueError):
    """One row that cannot be read."""


class ModelError(TlJaxError, ValueError):
    """A model directory, weights file or tokenizer that cannot be read or written."""


class CheckpointError(TlJaxError, RuntimeError):
    """A saved state that is damaged or of another model."""


class LoaderMismatch(CheckpointError, ValueError):
    """A saved position in data that have changed since."""


class RunNotWritable(TlJaxError, RuntimeError):
    """Another process writes the run directory, or nobody can."""


class RewardError(TlJaxError, ValueError):
    """A user's reward function that raises or returns no reward."""


class Diverged(TlJaxError, RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite, or a loss too high.

    Args:
      message: For the user.
      first: The first of these steps, from 1; None if it is not about steps in a row.
      last: The last of them.
      bad: What these steps measured, as JSON has it.
    """

    def __init__(
        self,
        message: str,
        *,
        first: int | None = None,
        last: int | None = None,
        bad: tuple[dict[str, float | None], ...] = (),
    ):
        super().__init__(message)
        self.first, self.last, self.bad = first, last, bad


class ScoringMismatch(TlJaxError, RuntimeError):
    """The programs that score a rollout and train on it disagree about an unchanged policy."""


class Stopped(TlJaxError):
    """Training was asked to stop, and the state was saved first."""
