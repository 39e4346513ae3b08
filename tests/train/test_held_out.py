"""The best model by a held-out score is kept, and a phase ends that gets no better."""

import json
import types

import pytest

from tl_jax.config import EvaluateConfig, RunConfig
from tl_jax.errors import ConfigError
from tl_jax.run.directory import Run
from tl_jax.train import held_out
from tl_jax.train.validate import validate


class Kept:
    """Checkpoints of which only the steps are kept."""

    steps = []

    def __init__(self, directory, every_steps, keep):
        assert keep == 1
        self.directory = directory

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def save(self, step, state, loader, facts, *, force):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.steps.append((step, facts["value"]))

    def wait(self):
        pass


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(held_out, "Checkpoints", Kept)
    Kept.steps = []
    return Kept.steps


def run_with(tmp_path, **limits):
    return Run(RunConfig(run_dir=str(tmp_path), evaluate=EvaluateConfig(**limits)))


def seen(run, values, *, start=0, name="held_out_cf"):
    best = held_out.Best(run, "supervised", start)
    steps = enumerate(values, start=start + 1)
    return [best.see({name: value}, step, types.SimpleNamespace()) for step, value in steps]


def test_the_highest_score_is_kept_and_the_lowest_loss(tmp_path, kept):
    run = run_with(tmp_path, best="cf")
    assert not any(seen(run, [5.0, float("nan"), 4.0, 6.0, 6.0]))
    assert kept == [(1, 5.0), (4, 6.0)]
    kept.clear()
    losses = run_with(tmp_path, best="validation_loss")
    seen(losses, [2.0, 1.0, 1.5], name="validation_loss")
    assert kept == [(1, 2.0), (2, 1.0)]


def test_a_phase_ends_after_as_many_scores_that_are_no_better(tmp_path, kept):
    run = run_with(tmp_path, best="cf", patience=2)
    assert seen(run, [5.0, 4.0, 6.0, 6.0, 5.0]) == [False, False, False, False, True]


def test_a_resumed_phase_goes_on_the_same_and_a_new_one_begins_anew(tmp_path, kept):
    run = run_with(tmp_path, best="cf", patience=2)
    seen(run, [5.0, 4.0])
    # What was measured before the stop is measured again after it.
    assert seen(run, [4.0, 4.0, 3.0], start=1) == [False, True, True]
    assert kept == [(1, 5.0)]
    assert run.best_dir("supervised").is_dir()
    seen(run, [1.0])
    assert kept[-1] == (1, 1.0)
    assert json.loads(run.best_dir("supervised").with_suffix(".json").read_text())["value"] == 1.0


def test_with_another_score_the_best_is_looked_for_anew(tmp_path, kept):
    seen(run_with(tmp_path, best="cf", patience=2), [50.0, 40.0])
    by_loss = run_with(tmp_path, best="validation_loss", patience=2)
    assert seen(by_loss, [2.0, 3.0], start=2, name="validation_loss") == [False, False]
    seen(run_with(tmp_path, best="ts", patience=2), [1.0], start=4, name="held_out_ts")
    assert kept == [(1, 50.0), (3, 2.0), (5, 1.0)]


def test_a_best_model_is_not_replaced_because_its_score_cannot_be_read(tmp_path, kept):
    run = run_with(tmp_path, best="cf")
    seen(run, [5.0])
    for content in ("", "{", "[]"):
        run.best_dir("supervised").with_suffix(".json").write_text(content)
        with pytest.raises(ConfigError, match=r"supervised-best\.json is damaged.*put it back"):
            held_out.Best(run, "supervised", 1)
    assert kept == [(1, 5.0)]
    held_out.Best(run, "supervised", 0)  # what begins anew needs none


def test_without_a_score_nothing_is_kept(tmp_path, kept):
    assert not any(seen(run_with(tmp_path), [5.0, 6.0])) and not kept


def test_a_phase_that_was_ended_is_done_until_it_is_to_be_longer(tmp_path, monkeypatch):
    run = run_with(tmp_path)
    monkeypatch.setattr(Run, "saved_step", lambda self, phase: 20)
    assert not run.phase_done("supervised")
    run.ended_file("supervised").parent.mkdir()
    run.ended_file("supervised").write_text(json.dumps([20, run.steps("supervised")]))
    assert run.phase_done("supervised")
    run.ended_file("supervised").write_text(json.dumps([20, run.steps("supervised") - 1]))
    assert not run.phase_done("supervised")
    run.ended_file("supervised").write_text("[20,")
    with pytest.raises(ConfigError, match=r"supervised-ended\.json is damaged.*move it away"):
        run.phase_done("supervised")


@pytest.mark.parametrize(
    "limits,message",
    [
        ({"best": "cf"}, "measured every config.evaluate.every steps"),
        ({"patience": 3}, "config.evaluate.patience .* config.evaluate.best"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(limits, message):
    with pytest.raises(ConfigError, match=message):
        validate(RunConfig(evaluate=EvaluateConfig(**limits)))
    validate(RunConfig(evaluate=EvaluateConfig(every=5, best="cf", patience=2)))
