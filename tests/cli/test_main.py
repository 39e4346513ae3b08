"""A command ends with the status and the message that its outcome deserves."""

import json
import sys
import types

import ml_collections
import pytest
from absl import flags
from absl.testing import flagsaver

from tl_jax.cli import main as main_lib
from tl_jax.cli import report
from tl_jax.config import RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.errors import CheckpointError, ConfigError, DataError, Diverged, LoaderMismatch, Stopped


@pytest.fixture
def outcome(monkeypatch, console):
    """Run a stage that raises, and return the exit status and what was printed."""

    def outcome(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(main_lib, "open_run", lambda *_: None)
        monkeypatch.setattr(report, "main", fail)
        with pytest.raises(SystemExit) as ended:
            main_lib.main("report", console)
        return ended.value.code, console.file.getvalue()

    return outcome


@pytest.mark.parametrize(
    "kind", [ConfigError, DataError, CheckpointError, LoaderMismatch, Diverged, FileNotFoundError]
)
def test_what_the_user_can_mend_is_a_message_and_status_2(outcome, kind):
    assert outcome(kind("mend [this]")) == (2, "tl-jax: mend [this]\n")


def test_an_orderly_stop_is_status_3(outcome):
    assert outcome(Stopped("stopped at step 3")) == (3, "stopped at step 3\n")


def test_a_fault_of_the_software_is_not_hidden(monkeypatch, console):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(main_lib, "open_run", fail)
    with pytest.raises(ZeroDivisionError):
        main_lib.main("report", console)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "usage: tl-jax <stage>"),
        (["--help"], 0, "usage: tl-jax <stage>"),
        (["convert", "--help"], 0, "--source=model.gguf --target=DIR"),
        (["evaluate", "--config=x.py", "-h"], 0, "--phase=before|supervised|reward"),
        (["evalute"], 2, "unknown stage evalute"),
        (["train", "--config.ppo.step=3"], 2, "did you mean config.ppo.steps?"),
    ],
)
def test_the_command_line_answers_before_anything_heavy_is_loaded(
    monkeypatch, capsys, arguments, status, words
):
    monkeypatch.setattr(sys, "argv", ["tl-jax", *arguments])
    monkeypatch.setattr(main_lib.app, "run", lambda *_, **__: pytest.fail("a stage was run"))
    with pytest.raises(SystemExit) as ended:
        main_lib.run()
    assert ended.value.code == status
    assert words in capsys.readouterr().out


def test_help_tells_what_sections_are_for_and_the_flags_of_the_stage():
    page = main_lib.stage_help("convert")
    assert "--source: model to read." in page and "--dtype: " in page and "--tools" not in page
    assert "(default float32)" in page and "--dry_run: " in page
    section = page.index("Sizes of the device mesh axes")
    assert section < page.index("mesh.data=1") < page.index("Training trajectories, their text")
    assert "--phase" in main_lib.stage_help("evaluate")
    assert "packing_fit=stream  one of stream, sorted" in page
    assert "contamination_checks=('query', 'ngrams')  some of query, ngrams, tools" in page
    page = main_lib.stage_help("inspect")
    assert "--example: which training example, from 1. (default 1)" in page and "--html: " in page
    assert "red and struck" in page and "NO_COLOR" in page


@pytest.mark.parametrize(
    ("stage", "words", "owner"),
    [
        ("train", ["--example=3"], "--example is a flag of `tl-jax inspect`; `tl-jax train` does"),
        ("run", ["--phase=before"], "--phase is a flag of `tl-jax evaluate`"),
        ("inspect", ["--noforce"], "--force is a flag of `tl-jax convert`"),
        ("evaluate", ["--data=x.jsonl"], "--data is a flag of `tl-jax report`"),
        ("prepare", ["--topic=mae"], "--topic is a flag of `tl-jax report`"),
    ],
)
def test_a_flag_of_another_stage_is_refused(console, stage, words, owner):
    values = flags.FLAGS
    parsed, saved = values.is_parsed(), flagsaver.save_flag_values(values)
    try:
        values(["tl-jax", *words])
        with pytest.raises(SystemExit) as ended:
            main_lib.main(stage, console)
    finally:
        flagsaver.restore_flag_values(saved, values)
        if not parsed:
            values.unparse_flags()
    assert ended.value.code == 2 and owner in console.file.getvalue()


@pytest.fixture
def opened(monkeypatch, console, model_dir, tmp_path):
    """Open the workspace of a stage as the command line does."""

    def opened(stage, dry_run=False, rotbench="", sections=None, **data):
        values = to_dict(RunConfig(run_dir=str(tmp_path / "run")))
        values["model"]["path"] = str(model_dir)
        for name, section in {"data": data, **(sections or {})}.items():
            values[name] |= section
        values["evaluate"]["rotbench_path"] = rotbench
        flag = types.SimpleNamespace(value=ml_collections.ConfigDict(values))
        monkeypatch.setattr(main_lib, "_CONFIG", flag)
        monkeypatch.setattr(main_lib, "_DRY_RUN", types.SimpleNamespace(value=dry_run))
        return main_lib.open_run(stage, console)

    return opened


@pytest.mark.parametrize("stage", ["evaluate", "generate", "convert", "report"])
def test_stages_that_read_a_run_make_and_change_none(opened, tmp_path, stage):
    with pytest.raises(ConfigError, match="run holds no run; give the --config.run_dir of one"):
        opened(stage)
    assert list(tmp_path.iterdir()) == []
    opened("train")
    files = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {path.name for path in files} == {"config.json", "versions.json"}
    (tmp_path / "run" / "versions.json").write_text("as trained")
    opened(stage)
    assert (tmp_path / "run" / "versions.json").read_text() == "as trained"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["batch_size"] == 8


def test_a_set_that_data_are_kept_apart_from_changes_only_where_none_are_prepared(opened):
    opened("run")
    for stage in ("run", "prepare", "train"):
        with pytest.raises(ConfigError, match=r"rotbench_path\).* `tl-jax evaluate` may score"):
            opened(stage, rotbench="first_turn.jsonl")
    assert opened("evaluate", rotbench="first_turn.jsonl") is not None


@pytest.mark.parametrize("stage", ["prepare", "train", "run"])
@pytest.mark.parametrize("template", ["script", "chat", "chatml_tools"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_the_published_reward_is_refused_where_it_cannot_read_the_calls(
    opened, tmp_path, stage, template, dry_run
):
    reads = {"reward": {"mode": "reference"}}
    with pytest.raises(ConfigError, match=f"{template!r} does not write; take mode 'strict'"):
        opened(stage, dry_run, template=template, sections=reads)
    assert list(tmp_path.iterdir()) == []
    opened(stage, True, template="released", sections=reads)
    opened(stage, True, template=template)
    opened(stage, True, template=template, sections={**reads, "ppo": {"steps": 0}})


@pytest.mark.parametrize("stage", ["prepare", "train", "run", "evaluate"])
def test_texts_longer_than_the_context_are_refused_at_the_door(opened, tmp_path, stage):
    with pytest.raises(ConfigError, match="max_length is 2049, but the model's context is 2048"):
        opened(stage, max_length=2049)
    assert list(tmp_path.iterdir()) == []
    opened("run", dry_run=True, max_length=2048)
    assert list(tmp_path.iterdir()) == []
