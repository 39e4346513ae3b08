"""A phase that diverges goes back to where it went well, and on with other data, and no further."""

import json
import logging
import os
import signal
import types

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import load_file

from tl_jax.data.loader.host_shards import HostRows
from tl_jax.errors import ConfigError, Diverged, Stopped
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.metrics import MetricsWriter
from tl_jax.train.divergence import Guard
from tl_jax.train.loop import Loop
from tl_jax.train.rollback import Rollbacks, dropped
from tl_jax.types import TrainState

STEPS, EVERY = 60, 10


def open_loader():
    """Batches 0, 1, 2, ..., with a position that is saved."""

    def stream(_):
        numbers = grain.MapDataset.range(1000).map(lambda n: {"tokens": np.full(3, n, np.int32)})
        return iter(numbers.to_iter_dataset().batch(1))

    return HostRows(stream, 1, 1, [0])


def train(run, spoils, stop_at=0, seen=None):
    """Train a toy: the batches ``spoils`` break it, and what is broken has a loss of 9."""
    rollbacks = Rollbacks(run, "toy")
    with (
        Checkpoints(run.checkpoint_dir("toy"), EVERY, keep=2) as checkpoints,
        MetricsWriter(run.run_dir) as metrics,
    ):
        state, start, loader = new_state(), 0, open_loader()
        if checkpoints.latest() is not None:
            where = SingleDeviceSharding(jax.devices()[0])
            target = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state
            )
            state, facts = checkpoints.restore(target, loader)
            start = facts["phase_step"]
        with Loop(
            *("toy", STEPS, start),
            checkpoints=checkpoints,
            metrics=metrics,
            loader=loader,
            spike=run.config.checkpoint.spike,
            rollbacks=len(rollbacks),
        ) as loop:
            for done in loop:
                batch = int(rollbacks.next(loader, done)["tokens"][0, 0])
                if seen is not None:
                    seen.append((done + 1, batch))
                broken = float(state.params["broken"])
                state = state.replace(
                    step=state.step + 1,
                    params={
                        "sum": state.params["sum"] * 31 % 10007 + batch,
                        "broken": jnp.float32(broken or batch in spoils),
                    },
                )
                loop.record({"loss": 9.0 if broken else 1.0 + batch % 7 / 10})
                if done + 1 == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                loop.save(state)
    return state


def new_state():
    params = {"sum": jnp.float32(0), "broken": jnp.float32(0)}
    return TrainState(step=jnp.int32(0), params=params, opt_state=(), skipped=jnp.int32(0))


def new_run(folder, rollbacks=2, spike=12.0):
    folder.mkdir(exist_ok=True)
    settings = types.SimpleNamespace(rollbacks=rollbacks, spike=spike)
    return types.SimpleNamespace(
        run_dir=folder,
        config=types.SimpleNamespace(checkpoint=settings),
        checkpoint_dir=lambda phase: folder / "checkpoints" / phase,
    )


def run_on(run, spoils, **options):
    """Train with rollbacks, and again where it was stopped."""
    for attempt in Rollbacks(run, "toy"):
        with attempt:
            state = train(run, spoils, **options)
    return float(state.params["sum"])


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_spike_goes_back_over_its_data_and_the_run_ends_well(tmp_path, caplog):
    run, seen = new_run(tmp_path / "run"), []
    with caplog.at_level(logging.WARNING):
        found = run_on(run, spoils={40}, seen=seen)
    # Batch 40 is that of step 41; steps 42 to 51 are bad, so 40 is the newest good checkpoint.
    (entry,) = json.loads((run.run_dir / "rollbacks" / "toy.json").read_text())
    assert (entry["restored"], entry["first"], entry["last"]) == (40, 41, 51)
    assert "loss was 9, above" in entry["why"] and "config.checkpoint.spike" in entry["why"]
    assert [(bad["step"], bad["loss"]) for bad in entry["bad"]] == [(s, 9.0) for s in range(42, 52)]
    assert "passes over the data of steps 41 to 51" in caplog.text
    # Values are read one step late: step 52 was under way.
    assert seen[52:] == [(step, step + 10) for step in range(41, STEPS + 1)]
    expected = 0
    for batch in [*range(40), *range(51, 71)]:
        expected = expected * 31 % 10007 + batch
    assert found == expected
    found = rows(run.run_dir)
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    assert [row.get("rollbacks", 0) for row in found] == [0] * 40 + [1] * 20
    assert found[-1]["seconds/lost"] > 0 and 0 < found[-1]["goodput"] < 1
    kept = sorted((run.run_dir / "rollbacks").glob("toy-41-*-0.safetensors"))
    assert sorted(int(load_file(file)["tokens"][0, 0]) for file in kept) == list(range(40, 51))
    assert "toy-1-metrics.jsonl" in [path.name for path in (run.run_dir / "rollbacks").iterdir()]

    # Stopped among bad steps, of which nothing is saved, it is the same run.
    stopped = new_run(tmp_path / "stopped")
    with pytest.raises(Stopped):
        run_on(stopped, spoils={40}, stop_at=45)
    assert run_on(stopped, spoils={40}) == expected


def test_a_checkpoint_between_the_bad_update_and_its_first_bad_loss_is_set_aside(tmp_path):
    run = new_run(tmp_path)
    run_on(run, spoils={39})  # its update is saved with step 40, whose own loss is good
    (entry,) = json.loads((tmp_path / "rollbacks" / "toy.json").read_text())
    assert (entry["restored"], entry["first"]) == (30, 40)
    assert (tmp_path / "checkpoints" / "toy" / "rolled_back" / "40.0").is_dir()


def test_a_phase_goes_back_only_so_often_also_when_it_is_started_again(tmp_path):
    run = new_run(tmp_path)
    for _ in range(2):
        with pytest.raises(Diverged, match="went back 2 times .*the cause is hardly the data"):
            run_on(run, spoils=set(range(30, 200)))
    assert len(Rollbacks(run, "toy")) == 2
    with pytest.raises(Diverged, match="up to 51") as caught:
        run_on(new_run(tmp_path / "none", rollbacks=0), spoils={40})
    assert "went back" not in str(caught.value)
    (tmp_path / "rollbacks" / "toy.json").write_text("[{}]")
    with pytest.raises(ConfigError, match=r"toy.json is damaged"):
        Rollbacks(run, "toy")


def test_what_is_passed_over_adds_up():
    ranges = [{"first": 10, "last": 20}, {"first": 12, "last": 14}]
    assert dropped(ranges) == {10: 11, 12: 3}
    # The second attempt was bad from 5 on, through the place where 11 were passed over.
    assert dropped([{"first": 10, "last": 20}, {"first": 5, "last": 14}]) == {5: 10 + 11}
    assert dropped([{"first": 10, "last": 20}] * 2) == {10: 22}


def judged(found, **settings):
    guard = Guard("toy", **settings)
    for step, loss in enumerate(found, 1):
        guard.see(step, {"loss": loss})
    return guard


def test_a_loss_is_held_against_the_median_and_spread_of_good_ones():
    noisy = [1.0 + (n * 7 % 10) / 100 for n in range(40)]
    guard = judged([*noisy, *[1.2] * 9, 1.05], spike=4.0)
    assert guard.in_a_row == 0 and 1.2 not in guard.losses
    with pytest.raises(Diverged) as caught:
        judged([*noisy, *[1.2] * 10], spike=4.0)
    assert (caught.value.first, caught.value.last) == (41, 50)
    # Wider ones, some higher loss where all are the same, too few to know, nobody asked.
    judged([*[1.0 + (n * 7 % 10) / 10 for n in range(40)], *[2.3] * 12], spike=4.0)
    judged([*[0.001] * 40, *[0.05] * 12], spike=4.0)
    judged([*[1.0] * 5, *[9.0] * 12], spike=4.0)
    judged([*[1.0] * 40, *[9.0] * 12])
    with pytest.raises(Diverged, match="3 steps in a row up to 43 had a loss"):
        judged([*[1.0] * 40, *[9.0] * 3], spike=4.0).end(43, 43)
    judged([*[1.0] * 40, *[9.0] * 2], spike=4.0).end(42, 42)


def test_a_resumed_phase_is_judged_as_one_that_ran_through():
    losses = [1.0 + (n * 7 % 10) / 100 for n in range(150)]
    whole = judged(losses, spike=4.0)
    half = judged(losses[:70], spike=4.0)
    resumed = judged(losses[70:], spike=4.0, losses=json.loads(json.dumps(list(half.losses))))
    assert resumed.losses == whole.losses and len(whole.losses) == 128
