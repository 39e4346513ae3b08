"""The counts of the prepared data are shown whatever words are in them."""

import dataclasses
import json
import shutil

import pytest

from tl_jax.cli import prepare
from tl_jax.config import DataConfig, EvaluateConfig, ModelSourceConfig, PpoConfig, RunConfig
from tl_jax.data import synthetic
from tl_jax.data.prepare.split import is_validation
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.data.trajectory import to_json
from tl_jax.errors import ConfigError
from tl_jax.run import prepare as run_prepare
from tl_jax.run.directory import Run
from tl_jax.train import prompt_pools


def test_reasons_from_the_data_are_shown_as_they_are(console):
    prepare._show({"rows": 1200, "reasons": {"error: [/error]": 3, "[bold]x": 1}}, console)
    shown = console.file.getvalue()
    assert "1,200" in shown and "error: [/error] 3, [bold]x 1" in " ".join(shown.split())


def test_only_the_commonest_entries_of_a_row_are_shown():
    counts = {str(number): number for number in range(1, 10)}
    assert prepare._commonest(counts) == "4 4, 5 5, 6 6, 7 7, 8 8, 9 9, and 3 more"
    assert prepare._commonest({"a": 1, "b": 5}) == "a 1, b 5"


def test_the_rows_of_every_source_are_shown(console):
    sources = {"a.jsonl": {"rows": 1200, "tokens": {"train": 9}}, "synthetic": {"rows": 7}}
    prepare._show({"sources": sources}, console)
    shown = " ".join(console.file.getvalue().split())
    assert "rows by source" in shown and "a.jsonl 1,200, synthetic 7" in shown


def test_the_context_of_a_model_from_scratch_holds_every_text_of_the_run():
    config = RunConfig(
        data=DataConfig(max_length=100),
        ppo=PpoConfig(max_prompt_length=300, max_new_tokens=5),
        evaluate=EvaluateConfig(max_prompt_length=200, max_new_tokens=50),
    )
    assert run_prepare.scratch_config(config, 300).max_position == 305


def workspace(tmp_path, model_dir="", rotbench="", **data):
    settings = {"synthetic_trajectories": 12, "max_length": 8192, "validation_fraction": 0.0}
    return Run(
        RunConfig(
            run_dir=str(tmp_path / "run"),
            model=ModelSourceConfig(path=str(model_dir) if model_dir else "scratch"),
            data=DataConfig(**{**settings, **data}),
            evaluate=EvaluateConfig(rotbench_path=str(rotbench)),
        )
    )


def test_trajectories_that_ask_what_rotbench_asks_are_not_trained(tmp_path, model_dir, console):
    (first, *_) = synthetic.trajectories(12, seed=0, split="train")
    rotbench = tmp_path / "first_turn.jsonl"
    turns = [{"from": "user", "value": f"{first.messages[0].content}\nBegin!\n"}]
    rotbench.write_text(json.dumps({"noise": "clean", "conversations": turns}) + "\n")
    report = run_prepare.prepare(workspace(tmp_path, model_dir, rotbench))
    assert report["removed"]["contamination"] >= 1
    assert [entry["path"] for entry in report["checked_against"]] == [str(rotbench)]
    console.width = 400
    prepare._show(report, console)
    shown = " ".join(console.file.getvalue().split())
    assert "evaluation queries compared" in shown and "first_turn.jsonl 1" in shown


@pytest.mark.parametrize("stops", [True, False])
def test_a_tokenizer_that_outgrew_its_model_is_refused(tmp_path, model_dir, monkeypatch, stops):
    model = tmp_path / "model"
    shutil.copytree(model_dir, model)
    config = json.loads((model / "config.json").read_text())
    size = load_tokenizer(model).eos_id if stops else config["vocab_size"] // 2
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    run = workspace(tmp_path, model)
    if stops:
        monkeypatch.setattr(
            run_prepare.dataset, "prepare", lambda *_, **__: pytest.fail("was read")
        )
    with pytest.raises(ConfigError, match=f"has {size} ids and its tokenizer .* resize the model"):
        run_prepare.prepare(run)
    assert not run.data_dir.exists()


def test_a_new_tokenizer_learns_only_from_what_is_trained(tmp_path):
    world = list(synthetic.trajectories(40, seed=0, split="train"))
    trained = next(t for t in world if not is_validation(t, 0.5))
    name = trained.messages[1].calls[0].name
    unwritable = json.loads(json.dumps(to_json(trained)).replace(name, "two words("))
    asked = [trajectory.messages[0].content for trajectory in world]
    path, rotbench = tmp_path / "rows.jsonl", tmp_path / "first_turn.jsonl"
    rows = [{"a": 1}, unwritable, *map(to_json, world)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rotbench.write_text(json.dumps({"query": asked[5]}))
    data = {"path": str(path), "format": "canonical", "validation_fraction": 0.5}
    texts = list(run_prepare._texts(workspace(tmp_path, "", rotbench, **data)))
    kept = [t for t in world if not is_validation(t, 0.5) and t.messages[0].content != asked[5]]
    assert len(texts) == len(kept) and 5 < len(kept) < 35
    for text, trajectory in zip(texts, kept, strict=True):
        assert trajectory.messages[0].content in text
    run = workspace(tmp_path, "", rotbench, **data, contamination_action="report")
    assert len(list(run_prepare._texts(run))) == sum(not is_validation(t, 0.5) for t in world)


def test_rows_are_measured_once_for_the_same_data_and_packing(tmp_path, model_dir, monkeypatch):
    measured = []
    measure = run_prepare.measure

    def counted(path, **settings):
        measured.append(settings)
        return measure(path, **settings)

    monkeypatch.setattr(run_prepare, "measure", counted)

    def report(**changes):
        run = workspace(tmp_path, model_dir, **changes)
        run_prepare.prepare(run)
        return run_prepare.measure_loader(run)

    first = report()
    assert report() == first and len(measured) == 1
    assert report(packing=False)["rows"] > first["rows"]
    assert report(packing=False, packing_fit="sorted", batch_size=3)["steps_per_epoch"] > 3
    assert len(measured) == 3
    more = report(packing=False, synthetic_trajectories=20)
    assert more["tokens"] > first["tokens"] and len(measured) == 4


def test_an_evaluation_set_in_both_settings_is_read_once(tmp_path):
    rotbench = tmp_path / "first_turn.jsonl"
    rotbench.write_text("{}")
    for named in ((), (str(rotbench),)):
        run = workspace(tmp_path, "", rotbench, contamination_paths=named)
        assert prepare.checked_data(run.config).contamination_paths == (str(rotbench),)
    plain = workspace(tmp_path).config
    assert prepare.checked_data(plain) == plain.data


def test_missing_evaluation_sets_are_refused_before_a_model_is_made(tmp_path, console):
    runs = {
        "evaluate.rotbench_path": workspace(tmp_path, rotbench="nowhere.jsonl"),
        "data.contamination_paths": workspace(tmp_path, contamination_paths=("nowhere.jsonl",)),
    }
    for setting, run in runs.items():
        with pytest.raises(ConfigError, match=f"config.{setting}: no file nowhere"):
            prepare.main(run, console)
    assert list(tmp_path.iterdir()) == []


def test_other_processes_prepare_their_part_and_leave_the_rest_to_the_first(
    tmp_path, console, monkeypatch
):
    shared = []
    monkeypatch.setattr(prepare, "prepare", lambda run: shared.append(run) or {})
    monkeypatch.setattr(prepare.processes, "is_first", lambda: False)
    run = Run(RunConfig(run_dir=str(tmp_path / "run")))
    prepare.main(run, console)
    assert shared == [run]
    assert list(tmp_path.iterdir()) == [] and console.file.getvalue() == ""


def prepared(tmp_path, model_dir, **sections):
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        model=ModelSourceConfig(path=str(model_dir)),
        data=DataConfig(synthetic_trajectories=12, validation_fraction=0.5, max_length=2048),
    )
    run = Run(dataclasses.replace(config, **sections))
    return run, run_prepare.prepare(run)


def test_prompts_left_out_are_told_when_the_data_are_prepared(tmp_path, model_dir):
    limits = PpoConfig(max_prompt_length=2048, max_new_tokens=40)
    run, report = prepared(tmp_path, model_dir, ppo=limits)
    [told] = prepare.warnings(run, report)
    assert "right answer longer than 40 tokens" in told and "config.ppo.max_new_tokens" in told
    used = int(told.split("uses ")[1].split()[0])
    assert used == len(prompt_pools.select(run)[0]) > 0
    none = dataclasses.replace(run.config, ppo=PpoConfig(max_prompt_length=1))
    [told] = prepare.warnings(Run(none), report)
    assert "no prompt can be used" in told and "config.ppo.max_prompt_length" in told
    off = dataclasses.replace(run.config, ppo=PpoConfig(steps=0, max_prompt_length=1))
    assert prepare.warnings(Run(off), report) == []


@pytest.mark.parametrize(("held_out", "words"), [(0, "nothing"), (1, "one trajectory")])
def test_a_validation_that_says_little_is_told(tmp_path, model_dir, held_out, words):
    run, report = prepared(tmp_path, model_dir, ppo=PpoConfig(steps=0))
    assert prepare.warnings(run, report) == []
    [told] = prepare.warnings(run, {"trajectories": {"train": 9, "validation": held_out}})
    assert words in told and "config.data.validation_fraction" in told
