"""Evaluation suites: one file each, and one table of those that the package has."""

from collections.abc import Mapping

from tl_jax.evaluate.suites import embedded_world, own_data, rotbench
from tl_jax.evaluate.suites.suite import (
    Item,
    Share,
    Suite,
    Verdict,
    answers,
    judge_calls,
    write_answer,
)

__all__ = ["SUITES", "Item", "Share", "Suite", "Verdict", "answers", "judge_calls", "write_answer"]

SUITES: Mapping[str, Suite] = {
    suite.name: suite for suite in (*embedded_world.SUITES, *rotbench.SUITES, *own_data.SUITES)
}
"""Suites by name, in the order of tables."""
