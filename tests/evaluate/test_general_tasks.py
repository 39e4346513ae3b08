"""The table of general tasks, from result files as lm-evaluation-harness writes them."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "tools" / "general_tasks.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("general_tasks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(accuracy, **more):
    entry = {"name": "arc", "alias": "arc", "acc,none": accuracy, "acc_stderr,none": 0.03}
    return {"results": {"arc": entry | more}}


def test_a_row_has_both_values_and_their_difference_with_intervals(tool):
    (row,) = tool.compared(tool.figures(result(0.5)), tool.figures(result(0.6)))
    assert row["before"] == {"percent": 50, "reach": 5.88}
    assert row["difference"] == {"percent": 10, "reach": 8.32}
    assert tool.as_text(row) == (
        "arc acc: before 50.00 ± 5.88, after 60.00 ± 5.88, difference 10.00 ± 8.32"
    )


def test_filters_are_named_and_what_has_no_error_has_no_interval(tool):
    more = {"exact_match,flexible-extract": 0.25, "exact_match_stderr,flexible-extract": "N/A"}
    before = tool.figures(result(0.5, **more))
    rows = tool.compared(before, tool.figures(result(0.5, **more)))
    assert [row["figure"] for row in rows] == ["acc", "exact_match (flexible-extract)"]
    assert rows[1]["after"] == {"percent": 25, "reach": None}
    assert tool.compared(before, {}) == []
