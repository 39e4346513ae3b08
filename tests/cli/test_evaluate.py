"""What is scored, and when scores and the export are out of date."""

import dataclasses
import json
import pathlib

import jax
import pytest

from tl_jax.cli import evaluate, generate
from tl_jax.cli import run as run_command
from tl_jax.config import EvaluateConfig, ModelSourceConfig, RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.data.prepare.files import REPORT, source_hash
from tl_jax.errors import ConfigError
from tl_jax.evaluate import run as scoring
from tl_jax.evaluate.suites import choose, embedded_world
from tl_jax.publish import export as export_lib
from tl_jax.run.directory import Run


@pytest.fixture
def workspace(tmp_path, model_dir):
    return Run(
        RunConfig(
            run_dir=str(tmp_path),
            model=ModelSourceConfig(path=str(model_dir)),
            evaluate=EvaluateConfig(synthetic_trajectories=8),
        )
    )


@pytest.fixture
def saved(monkeypatch):
    """Newest step of each phase; change it to pretend that a phase was trained."""
    steps = {"before": 0, "supervised": None, "reward": None}
    monkeypatch.setattr(Run, "saved_step", lambda self, phase: steps[phase])
    return steps


def without_sets(workspace):
    empty = EvaluateConfig(synthetic_trajectories=0)
    return Run(RunConfig(run_dir=workspace.config.run_dir, evaluate=empty))


def score(percent):
    return {"percent": percent, "low": percent, "high": percent}


def summary(percent):
    return {"items": 4} | {metric: score(percent) for metric in ("ts", "pi", "cf")}


def write_result(workspace, phase, step, **more):
    sets = {
        "synthetic/seen": {**summary(90.0), "groups": {"service": summary(70.0)}},
        "synthetic/reworded": summary(80.0),
        "synthetic/unseen": summary(60.0),
        "rotbench/clean": summary(50.0),
    }
    settings = to_dict(workspace.config.evaluate)
    for position, (name, found) in enumerate((more.pop("sets", None) or sets).items()):
        path = scoring.result_path(workspace, phase, name)
        path.parent.mkdir(exist_ok=True, parents=True)
        content = {"step": step, "settings": settings, "version": "", "position": position}
        path.write_text(json.dumps(content | {"sets": {name: found}} | more))


def test_questions_to_the_user_are_scored_beside_service_calls_and_final_answers(workspace):
    items = list(embedded_world.read(embedded_world.source(workspace.config), "seen"))
    assert {item.tags["group"] for item in items} == {"service", "finish", "ask"}
    for item in items:
        assert (item.tags["group"] == "ask") == (item.gold[0][0].name == "ask_to_user")


def test_scores_hold_for_one_step_and_one_set_of_settings(workspace, saved):
    assert not scoring.is_current(workspace, "supervised")
    saved["supervised"] = 20
    write_result(workspace, "supervised", 20)
    assert scoring.is_current(workspace, "supervised")
    saved["supervised"] = 40
    assert not scoring.is_current(workspace, "supervised")
    saved["supervised"] = 20
    limits = dataclasses.replace(workspace.config.evaluate, max_tasks=5)
    other = Run(dataclasses.replace(workspace.config, evaluate=limits))
    assert not scoring.is_current(other, "supervised")
    scoring.result_path(workspace, "supervised", "synthetic/reworded").unlink()
    assert [s.name for s in scoring.outdated(workspace, "supervised")] == ["synthetic/reworded"]


def test_the_table_shows_service_calls_first_and_marks_scores_of_an_older_step(
    workspace, saved, console
):
    write_result(workspace, "before", 0)
    saved["supervised"] = 40
    write_result(workspace, "supervised", 20)
    console.width = 200
    evaluate.show(workspace, console)
    printed = console.file.getvalue()
    assert "before" in printed and "supervised (outdated, step 20)" in printed
    service, whole, clean = (
        printed.index(text)
        for text in ("synthetic/seen: service calls", "synthetic/seen: all turns", "rotbench/clean")
    )
    assert service < whole < clean
    assert "70.0 / 70.0 / 70.0" in printed[service:whole]
    assert "90.0 / 90.0 / 90.0" in printed[whole:clean]


def test_scores_of_another_kind_than_ts_pi_and_cf_are_shown_too(workspace, saved, console):
    sets = {"mine[/]sums": {"items": 3, "parsed_percent": 50.0, "too_long": 0}}
    scores = {"scores": {"add[ed]": 66.6667, "ts": 1.0}, "suite": "mine[/]sums"}
    write_result(workspace, "before", 0, sets=sets, **scores)
    saved["supervised"] = 20
    write_result(workspace, "supervised", 20)
    console.width = 200
    evaluate.show(workspace, console)
    printed = " ".join(console.file.getvalue().split())
    assert "mine[/]sums: add[ed] │ 66.7 │" in printed and "rotbench/clean" in printed
    assert "mine[/]sums │" not in printed


def test_tasks_that_were_too_long_to_be_asked_are_told(workspace, saved, console):
    write_result(workspace, "before", 0)
    evaluate.show(workspace, console)
    assert "max_prompt_length" not in console.file.getvalue()
    saved["supervised"] = 20
    for phase, step in (("before", 0), ("supervised", 20)):
        sets = {"rotbench/clean": {**summary(1.0), "items": 105, "too_long": 83}}
        write_result(workspace, phase, step, sets=sets)
    console.width = 200
    evaluate.show(workspace, console)
    told = (
        "83 of 105 tasks of rotbench/clean are longer than config.evaluate.max_prompt_length "
        "(1024 tokens) and count as wrong; raise it"
    )
    assert console.file.getvalue().count(told) == 1


def test_results_say_which_sets_the_training_data_were_kept_apart_from(workspace, saved, console):
    folder = pathlib.Path(workspace.config.run_dir)
    (folder / "set.jsonl").write_text("{}")
    checked = {"path": "elsewhere.jsonl", "sha256": source_hash(folder / "set.jsonl")}
    limits = EvaluateConfig(rotbench_path=str(folder / "set.jsonl"))
    run_ = Run(dataclasses.replace(workspace.config, evaluate=limits))
    unchecked = {"checked_against": [], "not_checked_against": [limits.rotbench_path]}
    assert scoring.overlap_checks(run_) == unchecked
    run_.data_dir.mkdir()
    (run_.data_dir / REPORT).write_text(json.dumps({"checked_against": [checked]}))
    kept_apart = {"checked_against": [checked], "not_checked_against": []}
    assert scoring.overlap_checks(run_) == kept_apart
    saved["supervised"] = 20
    for more, warned in ((kept_apart, False), (unchecked, True)):
        write_result(run_, "supervised", 20, **more)
        evaluate.show(run_, console)
        assert ("were not checked for overlaps with" in console.file.getvalue()) == warned


@pytest.mark.parametrize(
    "content,message",
    [(b'{"noise": "heavy"}\n', "no RoTBench items of noise 'clean'"), (b"\xff\n", ":1: not UTF-8")],
)
def test_a_rotbench_file_that_cannot_be_scored_is_an_error_of_its_setting(
    workspace, tmp_path, content, message
):
    path = tmp_path / "set.jsonl"
    path.write_bytes(content)
    limits = EvaluateConfig(synthetic_trajectories=0, rotbench_path=str(path))
    run_ = Run(dataclasses.replace(workspace.config, evaluate=limits))
    with pytest.raises(ConfigError, match=rf"config\.evaluate\.rotbench_path: .*{message}"):
        scoring.read_tasks(run_, *choose.chosen_suites(run_.config))


def test_without_a_set_evaluation_is_an_error_and_a_run_goes_on_without_it(
    workspace, monkeypatch, console
):
    bare = without_sets(workspace)
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        scoring.evaluate_phase(bare, "before")
    done = []
    monkeypatch.setattr(run_command.prepare, "main", lambda *_: done.append("prepare"))
    for phase in run_command.TRAIN:
        monkeypatch.setitem(run_command.TRAIN, phase, lambda _, phase=phase: done.append(phase))
    monkeypatch.setattr(run_command, "export_newest", lambda *_: done.append("export"))
    monkeypatch.setattr(run_command.report, "main", lambda *_: done.append("report"))
    run_command.main(bare, console)
    assert done == ["prepare", "supervised", "reward", "export", "report"]
    assert "evaluation is left out" in console.file.getvalue()


def test_a_run_scores_again_what_is_of_an_older_step(workspace, saved, monkeypatch, console):
    write_result(workspace, "before", 0)
    write_result(workspace, "supervised", 20)
    saved |= {"supervised": 40, "reward": 5}
    done = []
    monkeypatch.setattr(run_command.prepare, "main", lambda *_: None)
    for phase in run_command.TRAIN:
        monkeypatch.setitem(run_command.TRAIN, phase, lambda _: None)
    monkeypatch.setattr(run_command.scoring, "evaluate_phase", lambda _, phase: done.append(phase))
    monkeypatch.setattr(run_command, "export_newest", lambda *_: None)
    monkeypatch.setattr(run_command.report, "main", lambda *_: None)
    run_command.main(workspace, console)
    assert done == ["supervised", "reward"]


def test_the_export_is_replaced_when_the_model_is_newer(workspace, saved, console, monkeypatch):
    made = []

    def export(workspace, request, _):
        assert request.force
        workspace.export_dir.mkdir(exist_ok=True)
        (workspace.export_dir / "config.json").write_text('{"torch_dtype": "float32"}')
        made.append(workspace.newest_phase())

    monkeypatch.setattr(export_lib, "export", export)
    saved["supervised"] = 20
    export_lib.export_newest(workspace, console)
    export_lib.export_newest(workspace, console)
    assert made == ["supervised"]
    saved["supervised"] = 40
    export_lib.export_newest(workspace, console)
    saved["reward"] = 1
    export_lib.export_newest(workspace, console)
    assert made == ["supervised", "supervised", "reward"]
    found = {path.name for path in workspace.export_dir.iterdir()}
    assert found == {"config.json", "README.md"}


def test_a_chat_with_several_processes_is_refused(workspace, monkeypatch, console):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="a chat needs one process; training and evaluation"):
        generate.main(workspace, console, tools="", prompt="")
