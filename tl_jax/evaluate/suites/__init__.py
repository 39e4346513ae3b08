"""Evaluation suites: one file each, and one table of those that the package has."""

from collections.abc import Mapping

from tl_jax.evaluate.suites import embedded_world, rotbench
from tl_jax.evaluate.suites.run_suite import Suite, plain_score, prompt_of

__all__ = ["SUITES", "Suite", "plain_score", "prompt_of"]

SUITES: Mapping[str, Suite] = {
    suite.name: suite for suite in (*embedded_world.SUITES, *rotbench.SUITES)
}
"""Suites by name, in the order of tables."""
