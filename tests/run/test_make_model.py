"""The first process writes what several processes share; the others read it when it is whole."""

import shutil

import pytest
from rich.console import Console

from tl_jax.config import DataConfig, ModelSourceConfig, RunConfig
from tl_jax.convert import hub
from tl_jax.parallel import processes
from tl_jax.run import prepare
from tl_jax.run.directory import Run

SCRATCH = ModelSourceConfig(
    path="scratch",
    scratch_vocab_size=300,
    scratch_embed_dim=16,
    scratch_num_layers=1,
    scratch_num_heads=2,
    scratch_num_kv_heads=1,
    scratch_mlp_dim=32,
)


@pytest.fixture
def second_process(monkeypatch):
    """Be the second of two processes; return where to put what the first does meanwhile."""
    meanwhile = []
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "agree", lambda good: True)
    monkeypatch.setattr(
        processes, "wait_for_all", lambda name: meanwhile.pop(0)() if meanwhile else None
    )
    return meanwhile


def test_only_the_first_process_writes_the_tokenizer(tmp_path, monkeypatch, second_process):
    config = RunConfig(
        model=SCRATCH, data=DataConfig(synthetic_trajectories=20), run_dir=str(tmp_path / "first")
    )
    with monkeypatch.context() as first:
        first.setattr(processes, "is_first", lambda: True)
        first.setattr(processes, "wait_for_all", lambda name: None)
        prepare.make_model(Run(config), Console(quiet=True))
    seen = []

    def first_is_done():
        seen.extend(path.name for path in (tmp_path / "second").rglob("*"))
        shutil.copytree(tmp_path / "first" / "tokenizer", tmp_path / "second" / "tokenizer")

    second_process.append(first_is_done)
    second = Run(RunConfig(model=SCRATCH, data=config.data, run_dir=str(tmp_path / "second")))
    prepare.make_model(second, Console(quiet=True))
    assert second_process == [] and seen == []
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["tokenizer"]


def test_the_first_process_decides_the_commit_of_a_model(tmp_path, monkeypatch, second_process):
    pinned = []
    made = hub.HubModel("org/name", "main", "0" * 40, tmp_path)
    monkeypatch.setattr(hub, "pin", lambda *_: pinned.append("second") or made)
    second_process.append(lambda: pinned.append("first"))
    run = Run(RunConfig(model=ModelSourceConfig(path="org/name"), run_dir=str(tmp_path / "run")))
    prepare.make_model(run, Console(quiet=True))
    assert pinned == ["first", "second"]
