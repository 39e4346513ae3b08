"""Trackers beside the files of a run: who is told what, when, and what a failing one does."""

import importlib.machinery
import json
import logging
import sys
import types

import pytest

from tl_jax.config import RunConfig, TrackingConfig
from tl_jax.errors import ConfigError
from tl_jax.run import trackers
from tl_jax.run.metrics import MetricsWriter

BOTH = ("wandb", "trackio")


class Fake(types.ModuleType):
    """Stands for the package of a tracker, and for the run that it begins."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.begun, self.logged, self.defined, self.finished = [], [], [], 0
        self.broken = ""

    def init(self, **settings):
        if self.broken == "init":
            raise RuntimeError("no key")
        self.begun.append(settings)
        return self

    def define_metric(self, name, step_metric):
        self.defined.append((name, step_metric))

    def log(self, values):
        if self.broken == "log":
            raise RuntimeError("gone")
        self.logged.append(values)

    def finish(self):
        self.finished += 1


@pytest.fixture
def fakes(monkeypatch):
    found = {name: Fake(name) for name in BOTH}
    for name, fake in found.items():
        monkeypatch.setitem(sys.modules, name, fake)
    return found


def config(folder, *names, **settings):
    return RunConfig(run_dir=str(folder), tracking=TrackingConfig(trackers=names, **settings))


def writer(config):
    return MetricsWriter(config.run_dir, lambda: trackers.open_trackers(config))


def test_every_tracker_gets_the_finite_values_with_the_steps_of_their_stage(fakes, tmp_path):
    with writer(config(tmp_path, *BOTH)) as metrics:
        metrics.write("supervised", 3, {"loss": 1.5, "norm": float("nan")})
        metrics.write("reward", 1, {"reward_mean": -0.5})
    for fake in fakes.values():
        assert fake.logged == [
            {"supervised/loss": 1.5, "supervised/step": 3},
            {"reward/reward_mean": -0.5, "reward/step": 1},
        ]
        assert fake.finished == 1
    assert ("reward/*", "reward/step") in fakes["wandb"].defined
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert list((tmp_path / "tensorboard" / "supervised").glob("events.*"))


def test_a_resumed_run_goes_on_under_the_same_name(fakes, tmp_path):
    for _ in range(2):
        with writer(config(tmp_path, *BOTH, project="mine")) as metrics:
            metrics.resume("supervised", 4)
    for name, fake in fakes.items():
        first, second = fake.begun
        assert first == second and first["project"] == "mine" and first["resume"] == "allow"
        identity = json.loads((tmp_path / trackers.ID_FILE).read_text())["id"]
        assert identity in {"wandb": first.get("id", ""), "trackio": first["name"]}[name]
        assert first["config"]["tracking"]["project"] == "mine"


@pytest.mark.parametrize(("offline", "mode"), [(True, "offline"), (False, "online")])
def test_what_is_offline_lies_in_the_run_directory(fakes, tmp_path, offline, mode):
    trackers.open_trackers(config(tmp_path, "wandb", offline=offline))
    (settings,) = fakes["wandb"].begun
    assert (settings["mode"], settings["dir"]) == (mode, str(tmp_path))


def test_trackers_that_nobody_asks_for_are_not_imported(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib, "import_module", pytest.fail)
    with writer(config(tmp_path)) as metrics:
        metrics.write("supervised", 1, {"loss": 1})


@pytest.mark.parametrize("name", BOTH)
def test_one_that_is_not_installed_is_refused_with_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"{name} is not installed; `pip install 'tl_jax\[{name}"
    ):
        trackers.open_trackers(config(tmp_path, name))


def test_one_that_cannot_begin_is_refused_and_one_that_fails_later_ends_nothing(
    fakes, tmp_path, caplog
):
    fakes["wandb"].broken = "init"
    with pytest.raises(ConfigError, match=r"wandb cannot begin a run \(RuntimeError: no key\)"):
        trackers.open_trackers(config(tmp_path, "wandb"))
    fakes["trackio"].broken = "log"
    with caplog.at_level(logging.WARNING), writer(config(tmp_path, "trackio")) as metrics:
        for step in (1, 2):
            metrics.write("supervised", step, {"loss": 1})
    assert caplog.text.count("trackio gets no more metrics (RuntimeError: gone)") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
