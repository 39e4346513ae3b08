"""Metrics survive a stop and a resume; progress reads well with and without a terminal."""

import io
import json
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from tl_jax.run import metrics, record
from tl_jax.run.progress import ProgressPrinter


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_on_disk_as_soon_as_written(tmp_path):
    writer = metrics.MetricsWriter(tmp_path)
    writer.write("supervised", 3, {"loss": jnp.float32(1.5), "tokens": 7, "rate": np.float64(2)})
    writer.write_sample("reward", 1, {"prompt_id": "p", "sampled": "é()", "reward": -0.25})
    (row,) = rows(tmp_path / "metrics.jsonl")
    assert row.pop("time_s") > 1.7e9
    assert row == {"stage": "supervised", "step": 3, "loss": 1.5, "tokens": 7, "rate": 2.0}
    assert rows(tmp_path / "samples.jsonl") == [
        {"stage": "reward", "step": 1, "prompt_id": "p", "sampled": "é()", "reward": -0.25}
    ]
    assert list((tmp_path / "tensorboard" / "supervised").glob("events.*"))
    writer.close()


def test_values_that_are_not_finite_stay_valid_json(tmp_path):
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write("supervised", 1, {"loss": float("nan"), "norm": jnp.inf})
    (row,) = rows(tmp_path / "metrics.jsonl")
    assert row["loss"] is None and row["norm"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_value_that_is_no_scalar_is_named(tmp_path):
    with metrics.MetricsWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="'loss' must be one number"):
            writer.write("supervised", 1, {"loss": [1.0, 2.0]})


def test_resume_leaves_one_row_per_stage_and_step(tmp_path):
    with metrics.MetricsWriter(tmp_path) as writer:
        for step in range(1, 7):
            writer.write("supervised", step, {"loss": step})
        for step in range(1, 5):
            writer.write("reward", step, {"reward_mean": step})
            writer.write_sample("reward", step, {"reward": step})
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.resume("reward", 2)
        writer.write("reward", 3, {"reward_mean": 30})
    found = [(row["stage"], row["step"]) for row in rows(tmp_path / "metrics.jsonl")]
    assert found == [("supervised", s) for s in range(1, 7)] + [("reward", s) for s in (1, 2, 3)]
    assert rows(tmp_path / "metrics.jsonl")[-1]["reward_mean"] == 30
    assert [row["step"] for row in rows(tmp_path / "samples.jsonl")] == [1, 2]


def test_a_line_cut_by_a_kill_is_removed_before_appending(tmp_path):
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write("supervised", 1, {"loss": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "superv')
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write("supervised", 2, {"loss": 2})
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_damaged_rows_end_no_training_and_are_left_out_with_a_word(tmp_path, caplog):
    with metrics.MetricsWriter(tmp_path) as writer:
        for step in range(1, 8):
            writer.write("supervised", step, {"loss": step})
    file = tmp_path / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    damages = (
        b"\xf3 no text\n",
        lines[2].replace(b"loss", b"l\xefss"),
        b"[1]\n",
        b"[" * 9999 + b"\n",
    )
    lines[1:5] = damages
    lines.append(b'{"stage": "superv')  # as a kill leaves it: nothing to say
    file.write_bytes(b"".join(lines))
    with metrics.MetricsWriter(tmp_path) as writer:
        assert writer.resume("supervised", 6)["step"] == 7
    assert "left out: 4 of 8 rows (line 2, 3, 4, 5)" in caplog.text
    assert [row["step"] for row in rows(file)] == [1, 6]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\r\n"])
def test_a_sample_with_any_character_outlives_the_next_start(tmp_path, mark):
    with metrics.MetricsWriter(tmp_path) as writer:
        writer.write_sample("reward", 1, {"sampled": f"a{mark}b"})
    before = (tmp_path / "samples.jsonl").read_bytes()
    with metrics.MetricsWriter(tmp_path):
        pass
    assert (tmp_path / "samples.jsonl").read_bytes() == before
    assert json.loads(before)["sampled"] == f"a{mark}b"


def test_plain_progress_prints_first_and_last_and_not_every_step():
    out = io.StringIO()
    console = rich.console.Console(file=out, width=200)
    with ProgressPrinter("supervised", 50, every_s=60, console=console) as progress:
        for step in range(1, 51):
            progress.update(step, {"loss": 1 / step, "tokens_per_s": 12345.6, "x": "[red]"})
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("supervised 1/50  loss 1  tokens_per_s 12,346  x [red]")
    assert lines[1].startswith("supervised 50/50  loss 0.02")


def test_a_line_to_keep_is_printed_between_others():
    out = io.StringIO()
    console = rich.console.Console(file=out, width=200)
    with ProgressPrinter("supervised", 50, every_s=60, console=console) as progress:
        for step in range(1, 51):
            progress.update(step, {"loss": step}, keep=step == 20)
    assert [line[:24] for line in out.getvalue().splitlines()] == [
        "supervised 1/50  loss 1 ",
        "supervised 20/50  loss 2",
        "supervised 50/50  loss 5",
    ]


def test_terminal_progress_draws_a_bar():
    out = io.StringIO()
    console = rich.console.Console(file=out, force_terminal=True, width=160)
    with ProgressPrinter("reward", 4, start=2, console=console) as progress:
        progress.update(3, {"reward": 0.5})
        progress.update(4)
    assert "4/4" in out.getvalue() and "reward 0.5" in out.getvalue()


def test_config_is_written_and_changes_are_named(tmp_path):
    config = {"seed": 0, "data": {"path": "synthetic", "tools": ("a", "b")}}
    assert record.changed_settings(tmp_path / "run", config) == []
    record.write_config(tmp_path / "run", config)
    assert record.changed_settings(tmp_path / "run", config) == []
    config["data"]["path"] = "x.jsonl"
    config["new"] = 1
    assert record.changed_settings(tmp_path / "run", config) == ["data.path", "new"]
    record.write_config(tmp_path / "run", config)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["path"] == "x.jsonl"


def test_a_setting_that_had_another_name_is_no_change(tmp_path):
    old = {"mae": {"rules": "off", "action": "mask"}, "data": {"path": "synthetic"}}
    record.write_config(tmp_path, old)
    config = {"mae": {"rules": "off"}, "data": {"path": "synthetic", "samples": "per_trajectory"}}
    assert record.changed_settings(tmp_path, config) == []
    config["data"]["samples"] = "per_turn"
    assert record.changed_settings(tmp_path, config) == ["data.samples"]


def test_versions_name_software_and_devices(tmp_path):
    versions = record.write_versions(tmp_path)
    assert json.loads((tmp_path / "versions.json").read_text()) == versions
    assert versions["packages"]["jax"] and versions["devices"] == 8
    assert versions["device_kind"]


def test_rows_are_seen_on_a_bucket_while_training_runs(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    faked = types.SimpleNamespace(monotonic=lambda: clock.now, time=time.time)
    monkeypatch.setattr(metrics, "time", faked)
    with metrics.MetricsWriter(tmp_path) as writer:
        seen = []
        for step in range(1, 6):
            clock.now += 25
            file = writer._files["metrics.jsonl"]
            writer.write("supervised", step, {"loss": 1.0})
            seen.append(file.closed)
    assert seen == [False, False, True, False, False]
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4, 5]
