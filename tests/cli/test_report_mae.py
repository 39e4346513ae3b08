"""``report mae`` tells which errors a data set holds, with or without a run."""

import json

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.cli import main as main_lib
from tl_jax.cli import report
from tl_jax.config import MaeConfig, RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.data.trajectory import Message, Trajectory, to_json
from tl_jax.errors import ConfigError
from tl_jax.run.directory import Run


@pytest.fixture
def rows(tmp_path):
    """A file with one wrong call, one that found nothing, one that is right; and a bad row."""
    messages = [Message("user", "q")]
    for answer in ("Error: invalid date", "[]", '["found"]'):
        messages += [
            Message("assistant", "", (ToolCall("f", {"a": answer}),)),
            Message("tool", answer),
        ]
    messages.append(Message("assistant", "done"))
    path = tmp_path / "rows.jsonl"
    row = json.dumps(to_json(Trajectory("t", (), tuple(messages))))
    path.write_text(f"{row}\n{{}}\n")
    return path


def test_a_file_is_judged_without_a_run(rows, console, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.main(None, console, "mae", f"{rows}:canonical")
    shown = " ".join(console.file.getvalue().split())
    for words in (
        "content filling",
        "33.33",
        "nothing found",
        "1 trajectories",
        "1 rows could not",
    ):
        assert words in shown
    assert (tmp_path / report.CHART).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("configured", [False, True])
def test_a_dry_run_says_what_would_be_judged(rows, console, tmp_path, monkeypatch, configured):
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    config = to_dict(RunConfig(run_dir=str(tmp_path / "run"), mae=MaeConfig(rules="static")))
    path = tmp_path.parent / f"{tmp_path.name}.json"
    path.write_text(json.dumps(config))
    words = [f"--config={path}"] if configured else []
    main_lib.main(["report", "mae", f"--data={rows}", "--dry_run", *words], console)
    shown = " ".join(console.file.getvalue().split())
    assert "rows.jsonl (canonical; row 1: " in shown and report.CHART in shown
    assert ("static" if configured else "structured") in shown
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_policy_of_the_configuration_judges(rows):
    found = report.judge(str(rows), RunConfig())
    assert found["calls"] == {"content_filling": 1, "nothing_found": 1, "all_right": 1}
    own = RunConfig(mae=MaeConfig(extra_rules=("service: invalid date",)))
    assert report.judge(str(rows), own)["calls"]["service"] == 1
    off = RunConfig(mae=MaeConfig(rules="off"))
    assert report.judge(str(rows), off)["calls"] == {"no_feedback": 3}


def test_a_file_without_calls_to_judge_is_told_for_what_it_is(rows, console, tmp_path):
    with pytest.raises(ConfigError, match=r"2 rows could not be read; row 1: 'conv"):
        report.main(None, console, "mae", f"{rows}:sharegpt")
    words = Trajectory("t", (), (Message("user", "q"), Message("assistant", "a")))
    rows.write_text(json.dumps(to_json(words)))
    with pytest.raises(ConfigError, match="no calls to judge; its rows call no tools"):
        report.main(None, console, "mae", f"{rows}:canonical")


def test_a_prepared_run_is_read_and_not_judged_again(console, tmp_path):
    workspace = Run(RunConfig(run_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match="tl-jax prepare"):
        report.main(workspace, console, "mae")
    workspace.data_dir.mkdir()
    counts = {"turns": 9, "kept": 8, "calls": {"service": 1, "all_right": 3}}
    counts |= {"trajectories_with_error": 1, "bad_rows": 0, "reasons": {"error: [http] 503": 1}}
    (workspace.data_dir / "mae_report.json").write_text(json.dumps(counts))
    report.main(workspace, console, "mae")
    shown = console.file.getvalue()
    assert "25.00 % of the calls are wrong" in shown and "error: [http] 503" in shown
    assert (tmp_path / report.CHART).exists()


@pytest.mark.parametrize(("words", "topic"), [([], ""), (["mae"], "mae")])
def test_the_word_after_the_command_is_its_topic(monkeypatch, console, words, topic):
    seen = []
    monkeypatch.setattr(main_lib, "open_run", lambda command, given, writing: seen.append(given))
    monkeypatch.setattr(report, "main", lambda *_, **__: None)
    main_lib.main(["report", *words, "--config=x.py"], console)
    assert seen[0].options["topic"] == topic and seen[0].config == "x.py"
