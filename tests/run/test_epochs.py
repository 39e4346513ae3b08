"""Epochs: how many steps passes over the data take, once the rows are known."""

import collections
import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from tl_jax.aot import plan
from tl_jax.config import DataConfig, OptimConfig, RunConfig, TrainConfig
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import write_order
from tl_jax.data.examples.shards import write_examples
from tl_jax.data.loader.loader import make_loader
from tl_jax.data.prepare.files import EXAMPLES, FINGERPRINT
from tl_jax.errors import ConfigError
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import optimizer as optim
from tl_jax.train import sft
from tl_jax.train.validate import validate

BATCH = 4
DATA = DataConfig(batch_size=BATCH, max_length=16, packing_bins=2)


def open_run(folder, epochs, **data):
    train = TrainConfig(steps=0, epochs=epochs)
    return Run(RunConfig(run_dir=str(folder), train=train, data=dataclasses.replace(DATA, **data)))


@pytest.fixture
def folder(tmp_path):
    """A run directory with 22 prepared examples, whose beginnings are alike."""
    examples = [
        Example(str(n), [1, 2, 3, 4, 5, 6, 10 + n], [0.0] * 5 + [1.0, 1.0], {}) for n in range(22)
    ]
    write_examples(tmp_path / "data" / EXAMPLES, examples)
    write_order(tmp_path / "data" / EXAMPLES)
    (tmp_path / "data" / FINGERPRINT).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("packing", "fit"), [(True, "stream"), (True, "sorted"), (False, "stream")]
)
def test_the_steps_are_those_that_the_rows_of_the_passes_fill(folder, shared, packing, fit):
    form = {"packing": packing, "packing_fit": fit, "shared_prefixes": shared}
    run = open_run(folder, 3, **form)
    sft.count_rows(run, shared and packing)
    rows = make_loader(
        run.data_dir / EXAMPLES, length=16, rows=1, seed=0, packing_bins=2, repeat=False, **form
    )
    count = sum(1 for _ in rows)
    assert run.steps("supervised") == -(-3 * count // BATCH)
    assert open_run(folder, 0.5, **form).steps("supervised") == -(-count // (2 * BATCH))


def test_as_many_steps_see_every_example_as_often_as_there_are_epochs(folder):
    run = open_run(folder, 2, packing=False, shared_prefixes=False)
    sft.count_rows(run, False)
    assert run.steps("supervised") == 11
    loader = make_loader(
        *(run.data_dir / EXAMPLES,),
        **{"length": 16, "rows": BATCH, "seed": 0, "packing": False, "packing_bins": 2},
    )
    seen = collections.Counter()
    for _ in range(run.steps("supervised")):
        seen.update(np.max(next(loader)["targets"], axis=1).tolist())
    loader.close()
    assert set(seen.values()) == {2} and len(seen) == 22


def test_all_rows_are_counted_for_epochs_and_only_then(folder, monkeypatch):
    monkeypatch.setattr(prepare, "_ROWS_MEASURED", 3)
    run = open_run(folder, 0, packing=False, shared_prefixes=False)
    assert not prepare.measure_loader(run)["complete"]
    run = open_run(folder, 1, packing=False, shared_prefixes=False)
    with pytest.raises(ConfigError, match="config.train.epochs=1 .* run `tl-jax prepare`"):
        run.steps("supervised")
    report = prepare.measure_loader(run)
    assert report["complete"] and report["steps_per_epoch"] == run.steps("supervised") == 6


def test_what_the_devices_that_train_have_counted_stays(folder):
    run = open_run(folder, 1)
    shared = prepare.measure_loader(run)
    sft.count_rows(run, False)
    apart = prepare.measure_loader(run)
    assert apart["rows"] > shared["rows"] and not apart["settings"]["shared_prefixes"]
    assert run.steps("supervised") == -(-apart["rows"] // BATCH)


def test_without_prepared_data_the_phase_is_refused_and_the_plan_says_what_is_known(tmp_path):
    run = open_run(tmp_path, 1.5)
    assert run.trains("supervised") and not run.phase_done("supervised")
    with pytest.raises(ConfigError, match="is not prepared; run `tl-jax prepare`"):
        sft.train(run)
    screen = Console(file=io.StringIO(), width=200)
    plan.show(run, "train", screen)
    assert (
        "1.5 epochs (how many steps is known when the data are prepared)" in screen.file.getvalue()
    )


def test_the_plan_says_how_many_steps_the_epochs_are(folder):
    run = open_run(folder, 2, packing=False)
    prepare.measure_loader(run)
    screen = Console(file=io.StringIO(), width=200)
    plan.show(run, "train", screen)
    assert "11 steps, 2 epochs" in screen.file.getvalue()


def test_epochs_and_steps_together_are_refused():
    for steps, fine in ((0, True), (TrainConfig().steps, True), (260, False)):
        config = RunConfig(train=TrainConfig(steps=steps, epochs=2.0))
        if fine:
            validate(config)
            continue
        with pytest.raises(
            ConfigError, match="epochs is 2 and config.train.steps 260: one of them"
        ):
            validate(config)
    assert not Run(RunConfig(train=TrainConfig(steps=0))).trains("supervised")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_phase_that_gets_longer_follows_the_schedule_of_its_new_length(schedule):
    config = OptimConfig(learning_rate=1.0, warmup_steps=2, schedule=schedule)
    short, long = (optim.make_schedule(config, steps) for steps in (10, 20))
    assert float(short(10)) == pytest.approx(config.final_fraction)
    assert float(long(10)) > float(short(9)) and float(long(20)) == pytest.approx(float(short(10)))
