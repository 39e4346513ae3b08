"""Rows of evaluation sets are refused as training data by what they are."""

import gzip
import itertools
import json
import os
import pathlib

import pytest

from tl_jax.data.importers import read
from tl_jax.data.importers.evaluation_sets import evaluation_set
from tl_jax.errors import DataError

SYSTEM = {"from": "system", "value": 'Tools:\n[{"name": "f", "parameters": {}}]\nLet us begin!'}
USER = {"from": "user", "value": "Do it.\nBegin!"}
REACT = 'Thought: x\nAction: f\nAction Input: {"a": "1"}'
CALL = {"from": "assistant", "value": REACT}
RESULT = {"from": "function", "value": "done"}


def dialogue(*turns, **more):
    return {"id": "Turn 1: Do it.", "conversations": [SYSTEM, USER, *turns], **more}


LISTED = {"from": "assistant", "value": [REACT, REACT]}
ROWS = {
    "first turn": (dialogue(LISTED, scenario="TG"), "RoTBench"),
    "third turn": (dialogue(CALL, RESULT, CALL, RESULT, LISTED, scenario="TG"), "RoTBench"),
    "first turn, one answer": (dialogue(CALL, scenario="TG"), "RoTBench"),
    "third turn, one answer": (
        {**dialogue(CALL, RESULT, CALL, noise="heavy", index=3), "id": 4},
        "RoTBench",
    ),
    "ToolAlpaca": (
        {"Name": "x", "Documentation": "{}", "Function_Projection": {}, "Golden_Answers": []},
        "ToolAlpaca",
    ),
    "ToolEyes": ({"query": "x", "path": "ToolEyes/x", "scenario": "TG"}, "ToolEyes"),
    "BFCL": ({"id": "live_multiple_3-2-0", "question": [[]], "function": []}, "BFCL"),
    "BFCL, several turns": ({"id": "multi_turn_base_3", "initial_config": {}}, "BFCL"),
    "BFCL's golds": ({"id": "simple_python_9", "ground_truth": []}, "BFCL"),
    "ACEBench": ({"id": "normal_atom_bool_1", "question": "x", "function": []}, "ACEBench"),
    "BFCL, as messages": ({"id": "live_simple_3-2-0", "messages": []}, "BFCL"),
    "ACEBench, as messages": ({"id": "normal_atom_bool_1", "messages": []}, "ACEBench"),
    "messages of one's own": ({"id": "parallel_1", "messages": []}, ""),
    "trajectories of the same family": (dialogue(CALL, RESULT, tool_folder="x"), ""),
    "a question of one's own": ({"id": "simple_1", "question": "x"}, ""),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_evaluation_row_is_known_by_what_it_is(name, tmp_path):
    row, known = ROWS[name]
    assert evaluation_set(row) == known
    if not known:
        return
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    try:
        found = list(read(path))
    except DataError as error:
        assert f"rows of {known}, an evaluation set, which must not be trained on" in str(error)
    else:
        reason = f"an evaluation row ({known}), which must not be trained on"
        assert [bad.reason for bad in found] == [reason] * 2


@pytest.mark.parametrize("name", ["first turn", "first turn, one answer", "third turn"])
@pytest.mark.parametrize("form", [lambda row: row, json.dumps])
def test_an_evaluation_row_inside_another_is_known_too(name, form, tmp_path):
    row, known = ROWS[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(2 * (json.dumps({"row": form(row), "row_idx": 0}) + "\n"))
    found = list(read(path))
    reason = f"an evaluation row ({known}), which must not be trained on"
    assert [bad.reason for bad in found] == [reason] * 2


@pytest.mark.skipif(not os.environ.get("TL_JAX_DATA"), reason="TL_JAX_DATA is not set")
def test_every_public_evaluation_row_is_known_and_no_training_row_is():
    folder = pathlib.Path(os.environ["TL_JAX_DATA"])
    for name in ("rotbench/first_turn", "toolalpaca/eval_simulated", "bfcl/multi_turn"):
        with gzip.open(folder / f"eval_{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = map(json.loads, itertools.islice(lines, 100))
            assert all(map(evaluation_set, rows))
    for name in ("rotllama_gpt4/trajectories", "glaive_toolcall_demo/glaive_toolcall_en_demo"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = map(json.loads, itertools.islice(lines, 100))
            assert not any(map(evaluation_set, rows))
