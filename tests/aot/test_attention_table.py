"""What the committed table says of the attention kernels on TPUs, compiled without one."""

import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tools" / "bench" / "results" / "aot_attention.json"
TABLE = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "aot_attention.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_instructions_of_a_step_are_the_longest_stretch_without_a_branch(tool):
    text = """\
// 0x1 is no line
0x1  : > { a }
0x2  : > { b ;; sbr.rel (%p) target = $r }
0x3  : > { c }
0x4 PF: > { d }
0x5  : > { e }
0x6  : > { f }
0x7 LB: > {}
"""
    assert tool.longest_stretch(text) == 2


@pytest.mark.parametrize("chip", TABLE.get("kernels", {}))
def test_a_step_of_our_kernel_takes_what_one_of_splash_takes(tool, chip):
    """So the kernel that makes fewer of them is the faster one, for plain rows, too."""
    ours, splash = (TABLE["kernels"][chip][name] for name in tool.KERNELS)
    times = [sum(one[part] for part in tool.PARTS.values()) for one in (ours, splash)]
    assert times[0] < 1.1 * times[1] and ours["peak_bytes"] < splash["peak_bytes"]
    assert TABLE["rows"]["plain"]["tree_steps"] < TABLE["rows"]["plain"]["splash_steps"]


@pytest.mark.parametrize("name", TABLE.get("steps", {}))
def test_a_trajectory_of_shared_rows_takes_a_part_of_the_estimated_time(name):
    """Between them: the tokens that are left out, and the attention to what is hidden."""
    times = {kind: one["trajectory_ms"] for kind, one in steps_of(name)}
    assert times["shared, tree"] < times["plain, tree"] / 2.5 < times["plain, splash"] / 2.5


def steps_of(name):
    return ((kind, one) for kind, one in TABLE["steps"][name].items() if isinstance(one, dict))
