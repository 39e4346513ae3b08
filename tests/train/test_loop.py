"""A phase writes metrics one step late, stops in order, resumes, and gives up when it must."""

import io
import json
import logging
import os
import signal
import time
import types

import jax
import jax.numpy as jnp
import pytest
import rich.console
from jax.sharding import SingleDeviceSharding

from tl_jax.errors import Diverged, Stopped
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.metrics import MetricsWriter
from tl_jax.run.progress import ProgressPrinter
from tl_jax.train import loop
from tl_jax.train.divergence import MAX_BAD_IN_A_ROW
from tl_jax.train.loop import Loop
from tl_jax.types import TrainState


def new_state():
    return TrainState(
        step=jnp.int32(0), params={"w": jnp.float32(1)}, opt_state=(), skipped=jnp.int32(0)
    )


def advance(state, step):
    """Count; the loss of the first step is 100."""
    assert int(state.step) == step
    state = state.replace(step=state.step + 1, params={"w": state.params["w"] * 2})
    return state, {"loss": jnp.float32(100 + step), "tokens": jnp.float32(5)}, ()


def rows(run_dir, name="metrics"):
    return [json.loads(line) for line in (run_dir / f"{name}.jsonl").read_text().splitlines()]


def run(run_dir, steps=6, advance=advance, every_steps=100, validate=None, **settings):
    """Start a phase, or resume it from its newest checkpoint; ``validate`` is ``(every, measure)``.

    ``advance`` is ``(state, step) -> (state, values, samples)``.
    """
    with (
        Checkpoints(run_dir / "checkpoints", every_steps, keep=3) as checkpoints,
        MetricsWriter(run_dir) as metrics,
    ):
        state, start = new_state(), 0
        if checkpoints.latest() is not None:
            where = SingleDeviceSharding(jax.devices()[0])
            target = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state
            )
            state, metadata = checkpoints.restore(target)
            assert metadata["stage"] == "toy"
            start = metadata["phase_step"]
        written = {"checkpoints": checkpoints, "metrics": metrics}
        with Loop("toy", steps, start, **written, **settings) as loop:
            for step in loop:
                state, values, samples = advance(state, step)
                loop.record(values, samples)
                if validate and loop.every(validate[0]):
                    with loop.validation() as measured:
                        measured.update(validate[1](state))
                loop.save(state)
    return state


def saved_steps(run_dir):
    return sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdigit())


def test_every_step_is_measured_and_the_final_state_is_saved(tmp_path):
    state = run(tmp_path, every_steps=4)
    assert int(state.step) == 6 and float(state.params["w"]) == 64
    assert [(r["stage"], r["step"], r["loss"]) for r in rows(tmp_path)] == [
        ("toy", step, 99 + step) for step in range(1, 7)
    ]
    assert all(row["tokens_per_s"] > 0 for row in rows(tmp_path))
    assert saved_steps(tmp_path) == [4, 6]


def test_values_are_written_one_step_late(tmp_path):
    seen = []

    def watched(state, step):
        seen.append([row["step"] for row in rows(tmp_path)])
        return advance(state, step)

    run(tmp_path, 4, watched)
    # While step n + 1 is under way, the newest row on disk is that of step n - 1.
    assert seen == [[], [], [1], [1, 2]]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_rows_come_at_the_interval_at_the_start_and_at_the_end(tmp_path):
    run(tmp_path, 8, log_every=3)
    assert [row["step"] for row in rows(tmp_path)] == [1, 3, 6, 8]


def test_samples_carry_their_step(tmp_path):
    def sampling(state, step):
        state, values, _ = advance(state, step)
        return state, values, [{"reward": step / 2}]

    run(tmp_path, 2, sampling)
    assert rows(tmp_path, "samples") == [
        {"stage": "toy", "step": 1, "reward": 0.0},
        {"stage": "toy", "step": 2, "reward": 0.5},
    ]


def test_validation_joins_the_row_of_its_step_and_ends_the_phase(tmp_path):
    def validate(state):
        return {"validation_loss": float(state.step) * 10}

    run(tmp_path, 5, log_every=100, validate=(2, validate))
    found = [(row["step"], row["loss"], row.get("validation_loss")) for row in rows(tmp_path)]
    assert found == [(1, 100, None), (2, 101, 20), (4, 103, 40), (5, 104, 50)]


def test_validation_does_not_slow_down_the_reported_training(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: clock.now))

    def timed(state, step):
        clock.now += 1
        return advance(state, step)

    def validate(state):
        clock.now += 100
        return {"validation_loss": 0}

    run(tmp_path, 4, timed, log_every=100, validate=(4, validate))
    # The row of step 1 was written at 2 s, that of step 4 holds 15 tokens and 2 s of training.
    assert [(row["step"], row["tokens_per_s"]) for row in rows(tmp_path)] == [(1, 2.5), (4, 7.5)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_next_run_goes_on_from_there(tmp_path, number):
    seen = []

    def interrupted(state, step):
        seen.append(step)
        if step == 3 and seen.count(3) == 1:
            os.kill(os.getpid(), number)
        return advance(state, step)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="stopped at toy step 4 of 6; .*run the same command"):
        run(tmp_path, 6, interrupted)
    assert signal.getsignal(number) is before
    assert saved_steps(tmp_path) == [4]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]

    state = run(tmp_path, 6, interrupted)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert int(state.step) == 6 and float(state.params["w"]) == 64
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert saved_steps(tmp_path) == [4, 6]


@pytest.fixture
def interruptible():
    """Let SIGINT interrupt, as in a terminal; a shell's job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_acts_at_once(tmp_path, interruptible):
    def impatient(state, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # a second one before the first is handled would be the same
                if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                    break
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        return advance(state, step)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 6, impatient)
    assert saved_steps(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_steps_after_the_last_checkpoint_are_run_again_with_one_row_each(tmp_path):
    def crashing(state, step):
        if step == 5:
            raise OSError("power cut")
        return advance(state, step)

    with pytest.raises(OSError, match="power cut"):
        run(tmp_path, 7, crashing, every_steps=3)
    assert saved_steps(tmp_path) == [3]
    run(tmp_path, 7, every_steps=3)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_finished_phase_is_not_run_again(tmp_path):
    run(tmp_path, 3)
    before = rows(tmp_path)

    def never(state, step):
        raise AssertionError("a step was run")

    assert int(run(tmp_path, 3, never).step) == 3
    assert rows(tmp_path) == before


def skipping(bad_steps):
    """Advance, but the numbered steps (from 0) are left out as not finite."""

    def advance_or_skip(state, step):
        state, values, samples = advance(state, step)
        state = state.replace(skipped=state.skipped + (step in bad_steps))
        skipped = state.skipped.astype(jnp.float32)
        loss = jnp.float32("nan") if step in bad_steps else values["loss"]
        return state, {**values, "loss": loss, "skipped": skipped}, samples

    return advance_or_skip


def test_training_gives_up_after_many_skipped_steps_in_a_row(tmp_path, caplog):
    bad = range(2, 40)
    with caplog.at_level(logging.WARNING), pytest.raises(Diverged, match="lower the learning rate"):
        run(tmp_path, 40, skipping(bad))
    warned = [r for r in caplog.records if "was not finite and was skipped" in r.getMessage()]
    assert len(warned) == MAX_BAD_IN_A_ROW
    assert warned[0].getMessage() == "toy step 3 was not finite and was skipped"


def test_single_skipped_steps_are_no_reason_to_give_up(tmp_path):
    bad = {*range(6, 15), *range(16, 25)}
    state = run(tmp_path, 40, skipping(bad))
    assert int(state.step) == 40 and int(state.skipped) == 18
    assert rows(tmp_path)[6]["loss"] is None


def test_repeating_a_phase_that_diverges_brings_it_no_further(tmp_path):
    bad = range(7, 24)
    for _ in range(3):
        with pytest.raises(Diverged, match="up to 17 .*'loss' was no finite number"):
            run(tmp_path, 24, skipping(bad), every_steps=2)
        assert saved_steps(tmp_path) == [2, 4, 6]


def test_a_phase_of_skipped_steps_does_not_end_well(tmp_path):
    bad = set(range(24)) - {8, 17}
    with pytest.raises(Diverged, match="22 of 24 updates of the toy phase were not finite"):
        run(tmp_path, 24, skipping(bad), every_steps=9)
    assert saved_steps(tmp_path) == [9, 18]


def test_a_signal_among_skipped_steps_keeps_the_state_before_them(tmp_path):
    def interrupted(state, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return skipping({4, 5})(state, step)

    with pytest.raises(Stopped, match="the state before them is the saved one"):
        run(tmp_path, 9, interrupted, every_steps=3)
    assert saved_steps(tmp_path) == [3]


def test_no_checkpoint_is_ahead_of_the_rows(tmp_path, monkeypatch):
    ahead = []
    save = Checkpoints.save

    def watched(self, step, *arguments, **options):
        if (saved := save(self, step, *arguments, **options)) and step not in [
            row["step"] for row in rows(tmp_path)
        ]:
            ahead.append(step)
        return saved

    monkeypatch.setattr(Checkpoints, "save", watched)
    run(tmp_path, 7, every_steps=2)
    assert saved_steps(tmp_path) == [4, 6, 7] and not ahead


def printed(monkeypatch, **settings):
    """Let progress be printed into what is returned, every step of it."""
    out = io.StringIO()
    console = rich.console.Console(file=out, width=200, highlight=False, **settings)

    def printer(*arguments, **options):
        return ProgressPrinter(*arguments, **options, every_s=0, console=console)

    monkeypatch.setattr(loop, "ProgressPrinter", printer)
    return out


def test_every_line_on_the_screen_shows_a_step_with_its_own_values(tmp_path, monkeypatch):
    out = printed(monkeypatch)
    run(tmp_path, 4)
    lines = [line.split("  ")[:2] for line in out.getvalue().splitlines()]
    assert lines == [[f"toy {step}/4", f"loss {99 + step}"] for step in range(1, 5)]


def test_the_last_line_before_a_stop_is_that_of_the_step_that_was_saved(tmp_path, monkeypatch):
    def interrupted(state, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(state, step)

    out = printed(monkeypatch)
    with pytest.raises(Stopped):
        run(tmp_path, 6, interrupted)
    assert out.getvalue().splitlines()[-1].startswith("toy 3/6  loss 102  ")
    assert saved_steps(tmp_path) == [3]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_validation_is_on_the_screen_with_its_step(tmp_path, monkeypatch, terminal):
    out = printed(monkeypatch, force_terminal=terminal)
    run(tmp_path, 5, validate=(2, lambda state: {"validation_loss": float(state.step) * 10}))
    found = {
        line[line.index("toy ") :].split("  ")[0]: line.split("validation_loss ")[1].split()[0]
        for line in out.getvalue().splitlines()
        if "validation_loss" in line and "/5  loss" in line
    }
    assert found == {"toy 2/5": "20", "toy 4/5": "40", "toy 5/5": "50"}
