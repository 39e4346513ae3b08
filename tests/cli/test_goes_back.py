"""A phase that diverges is tried again by every command that trains."""

import types

import pytest

from tl_jax.cli import run, train
from tl_jax.config.presets import tiny
from tl_jax.errors import Diverged
from tl_jax.run.directory import Run
from tl_jax.train import ppo, sft
from tl_jax.train.rollback import Rollbacks


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_phase_that_diverges_is_tried_again(command, tmp_path, monkeypatch):
    tried, went_back = [], []

    def phase(name):
        def once_badly(_):
            tried.append(name)
            if tried.count(name) == 1:
                raise Diverged("bad steps", first=3, last=12)

        return once_badly

    phases = {name: phase(name) for name in ("supervised", "reward")}
    monkeypatch.setattr(sft, "train", phases["supervised"])
    monkeypatch.setattr(ppo, "train", phases["reward"])
    monkeypatch.setattr(run, "TRAIN", phases)
    for module, name in ((run.prepare, "main"), (run.report, "main"), (run, "export_newest")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(run.scoring, "has_sets", lambda _: False)
    monkeypatch.setattr(Rollbacks, "go_back", lambda _, error: went_back.append(error) or True)
    console = types.SimpleNamespace(print=lambda *_, **__: None)
    {"train": train, "run": run}[command].main(Run(tiny(str(tmp_path))), console)
    assert tried == ["supervised", "supervised", "reward", "reward"] and len(went_back) == 2
