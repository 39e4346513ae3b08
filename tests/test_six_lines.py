"""Six lines of Python train a model on a user's file, score it and export it."""

import json

import pytest

from tl_jax.data import synthetic
from tl_jax.data.trajectory import to_json

LINES = """
import tl_jax as tl
run = tl.Run(tl.RunConfig(run_dir="runs/mine", data=tl.config.DataConfig(path="mine.jsonl")))
tl.prepare(run)
tl.train_sft(run)
tl.evaluate(run)
tl.export(run)
"""
SMALL = {
    'path="mine.jsonl"': 'path="mine.jsonl", batch_size=8, max_length=512',
    'run_dir="runs/mine", ': (
        'run_dir="runs/mine", train=tl.config.TrainConfig(steps=1, eval_batches=0), optim=ONCE, '
        "evaluate=FEW, "
    ),
}
"""What the test changes, so that it ends soon."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps(to_json(t)) for t in synthetic.trajectories(20, seed=3, split="train")]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_lines_train_score_and_export_a_model(folder):
    from tl_jax.config import EvaluateConfig, OptimConfig

    program = LINES
    assert len(program.strip().splitlines()) == 6
    for printed, small in SMALL.items():
        assert printed in program
        program = program.replace(printed, small)
    few = EvaluateConfig(synthetic_trajectories=1, max_tasks=1, max_new_tokens=4)
    names = {"ONCE": OptimConfig(warmup_steps=0), "FEW": few}
    exec(program, names)
    run = folder / "runs" / "mine"
    assert (run / "export" / "model.safetensors").exists()
    assert "Steps trained: 1 supervised." in (run / "export" / "README.md").read_text()
    assert {path.name for path in (run / "results" / "supervised").glob("*.json")} == {
        *(f"synthetic-{split}.json" for split in ("seen", "reworded", "unseen")),
        "own.json",  # what was held out of the user's file
    }
    assert json.loads((run / "config.json").read_text())["data"]["path"] == "mine.jsonl"
