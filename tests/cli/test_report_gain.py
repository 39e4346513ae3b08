"""``report gain`` compares the two models of every run on the run's own tasks."""

import json

import pytest

from tl_jax.cli import main as main_lib
from tl_jax.cli import report
from tl_jax.errors import ConfigError


def make_run(path, right, seed):
    """A run whose supervised model is right in 2 of 8 tasks, half of them service calls."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"seed": seed, "run_dir": "x", "ppo": {"n": 1}}))
    (path / "versions.json").write_text(json.dumps({"backend": "cpu<b>"}))
    for phase, count in (("supervised", 2), ("reward", right)):
        rows = []
        for number in range(8):
            row = {
                "set": "toy",
                "group": ("service", "finish")[number % 2],
                "prompt_id": f"{number}",
            }
            rows.append(json.dumps(row | dict.fromkeys(("ts", "pi", "cf"), number < count)))
        (path / "results" / phase).mkdir(parents=True)
        (path / "results" / phase / "toy.replies.jsonl").write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [make_run(tmp_path / f"run{n}", n, seed=n) for n in (4, 6)]


def test_gains_are_printed_and_written(runs, console, tmp_path):
    report.main(None, console, "gain", runs=runs)
    shown = " ".join(console.file.getvalue().split())
    assert "CF │ 25.0 │ 62.5 │ +37.5 │ -121.3 to +196.3" in shown and "toy: service calls" in shown
    content = json.loads((tmp_path / "gain.json").read_text())
    assert content["differ"] == {"seed": [4, 6]}
    assert content["same"] == {"ppo.n": 1, "versions.backend": "cpu<b>"}
    assert [content["runs"][run]["toy"]["cf"]["gain"] for run in runs] == [25, 50]
    page = (tmp_path / "gain.html").read_text()
    assert "seed 4, 6" in page and "<b>+37.5</b>" in page and "cpu&lt;b&gt;" in page
    assert 'src="data:image/svg' in page and "<script" not in page
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="names a run twice"):
        report.compare([runs[0], f"{runs[0]}/../run4"])
    later = tmp_path / "run6" / "results" / "reward" / "toy.replies.jsonl"
    later.write_text("".join(later.read_text().splitlines(True)[:-1]))
    with pytest.raises(ConfigError, match="run6: the two models were not scored on the same"):
        report.compare(runs)
    later.rename(later.with_name("other.replies.jsonl"))
    with pytest.raises(ConfigError, match="run6: .* not scored on the same suites"):
        report.compare(runs)
    later.with_name("other.replies.jsonl").unlink()
    with pytest.raises(ConfigError, match="evaluate --phase=reward"):
        report.compare(runs)


def test_a_suite_that_one_model_was_scored_on_is_left_out(runs, tmp_path):
    before = report.compare(runs)
    folder = tmp_path / "run6" / "results" / "reward"
    row = {"set": "more", "prompt_id": "1", "ts": True, "pi": True, "cf": True}
    (folder / "more.replies.jsonl").write_text(json.dumps(row) + "\n")
    assert report.compare(runs) == before


def test_suites_with_scores_of_their_own_are_no_part_of_the_gain(runs, tmp_path):
    before = report.compare(runs)
    row = {"set": "bfcl", "id": "1", "multiple": True, "readable": True}
    for run in ("run4", "run6"):
        for phase in ("supervised", "reward"):
            folder = tmp_path / run / "results" / phase
            (folder / "bfcl.replies.jsonl").write_text(json.dumps(row) + "\n")
    assert report.compare(runs) == before
    for file in tmp_path.glob("run*/results/*/toy.replies.jsonl"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"none of its suites \(bfcl\) is scored by TS, PI"):
        report.compare(runs)


def test_replies_may_hold_any_separator_of_lines(runs, tmp_path):
    before = report.compare(runs)
    for file in tmp_path.glob("run*/results/*/*.jsonl"):
        rows = [json.loads(line) | {"reply": "a\u2028b\x85c"} for line in file.open()]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_text(text, encoding="utf-8")
    assert report.compare(runs) == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_command_needs_no_configuration(runs, console, tmp_path, dry_run):
    words = ["report", "gain", f"--runs={','.join(runs)}", *(["--dry_run"] if dry_run else [])]
    main_lib.main(words, console)
    assert runs[1] in console.file.getvalue() or not dry_run
    assert (tmp_path / "gain.json").exists() == (not dry_run)


@pytest.mark.parametrize("words", [["gain"], ["mae", "--runs=x"], ["--runs=x"]])
def test_runs_are_for_gain_and_gain_needs_them(console, words):
    with pytest.raises(ConfigError, match="--runs=DIR"):
        main_lib.main(["report", *words], console)
