"""Evaluation suites: one file each, and one table of those that the package has."""

from collections.abc import Mapping

from tl_jax.evaluate.suites import (
    acebench,
    bfcl,
    bfcl_executable,
    bfcl_multi_turn,
    embedded_world,
    own_data,
    rotbench,
    toolalpaca,
    tooleyes,
)
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
    suite.name: suite
    for suite in (
        *embedded_world.SUITES,
        *rotbench.SUITES,
        *toolalpaca.SUITES,
        bfcl.SUITE,
        bfcl_executable.SUITE,
        bfcl_multi_turn.SUITE,
        acebench.SUITE,
        tooleyes.SUITE,
        *own_data.SUITES,
    )
}
"""Suites by name, in the order of tables."""
