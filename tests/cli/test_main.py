"""Commands end with the status and message of their outcome; nothing is written unchecked."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import pytest

import tl_jax
from tl_jax.cli import help as help_lib
from tl_jax.cli import main as main_lib
from tl_jax.cli import report
from tl_jax.config import (
    DataConfig,
    EvaluateConfig,
    ModelSourceConfig,
    PpoConfig,
    RewardConfig,
    RunConfig,
)
from tl_jax.config.fields import to_dict
from tl_jax.data.importers import FORMATS
from tl_jax.data.prepare.files import EXAMPLES
from tl_jax.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Diverged,
    LoaderMismatch,
    ModelError,
    ScoringMismatch,
    Stopped,
)
from tl_jax.run import changes
from tl_jax.run.directory import Run


@pytest.fixture
def outcome(monkeypatch, capsys):
    """Run the command line with some words, and return the exit status and what was printed."""

    def outcome(*words):
        monkeypatch.setattr(sys, "argv", ["tl-jax", *words])
        with pytest.raises(SystemExit) as ended:
            main_lib.run()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return outcome


@pytest.fixture
def failing(monkeypatch, outcome):
    """The same with a command that raises."""

    def failing(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(main_lib, "open_run", lambda *_: None)
        monkeypatch.setattr(report, "main", fail)
        return outcome("report")

    return failing


KINDS = (
    *(ConfigError, DataError, ModelError, CheckpointError),
    *(LoaderMismatch, Diverged, ScoringMismatch),
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_user_can_mend_is_a_message_and_status_2(failing, kind):
    assert failing(kind("mend [this]")) == (2, "tl-jax: mend [this]\n", "")


def test_an_orderly_stop_is_status_3(failing):
    assert failing(Stopped("stopped at step 3"))[:2] == (3, "stopped at step 3\n")


@pytest.mark.parametrize("kind", [ZeroDivisionError, FileNotFoundError, KeyError])
def test_a_fault_of_the_software_shows_where_and_what_to_report(failing, kind):
    status, out, err = failing(kind("x\x1b[2J"))
    assert status == 1 and kind.__name__ in err and "Traceback" in err and "\x1b[2J" not in err
    assert "fault of tl_jax" in out and "report it" in out and tl_jax.__version__ in out


def wrapped(error):
    try:
        raise RuntimeError("saving failed") from error
    except RuntimeError as found:
        return found


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "run/a"), "run/a: No space left on device; free"),
        (wrapped(OSError(30, "Read-only file system")), "Read-only file system; give a place"),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device"), "(ValueError); free some"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied; give yourself"),
        (OSError(122, "Disk quota exceeded"), "Disk quota exceeded; free some space or"),
        (NotADirectoryError(20, "Not a directory", "a/b"), "a/b: Not a directory; a part of this"),
        (
            IsADirectoryError(21, "Is a directory", "a"),
            "a: Is a directory; give the path of a file",
        ),
        (OSError(36, "File name too long", "a"), "a: File name too long; give a shorter name"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_and_status_2(failing, error, told):
    status, out, err = failing(error)
    assert (status, err) == (2, "") and told in out


def test_an_interruption_is_a_sentence_and_status_130(failing):
    assert failing(KeyboardInterrupt()) == (
        130,
        "tl-jax: interrupted; the same command goes on\n",
        "",
    )


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "usage: tl-jax <command>"),
        (["--help"], 0, "usage: tl-jax <command>"),
        (["--version"], 0, f"tl-jax {tl_jax.__version__}"),
        (["convert", "--help"], 0, "--source=model.gguf --target=DIR"),
        (["evaluate", "--config=x.py", "-h"], 0, "--phase: before, supervised or reward"),
        (["evalute"], 2, "unknown command evalute; did you mean evaluate?"),
        (["train"], 2, "give --config=NAME_OR_FILE, or --run=DIR"),
        (["train", "--config=quickstart", "--config.ppo.step=3"], 2, "mean config.ppo.steps?"),
        (["train", "--config=quickstart", "--config.ppo.steps=x"], 2, "config.ppo.steps=x: "),
        (["train", "--config=quikstart"], 2, "did you mean quickstart?"),
        (["train", "--config=quickstart:paper_cod"], 2, "recommended, paper_script, paper_code"),
        (["train", "--config=quickstart", "--dryrun"], 2, "did you mean --dry_run?"),
        (["train", "quickstart"], 2, "does not take 'quickstart'; flags are written --name=value"),
        (["train", "--example=3"], 2, "--example is a flag of `tl-jax inspect`; `tl-jax train`"),
        (["run", "--phase=before"], 2, "--phase is a flag of `tl-jax evaluate`"),
        (["inspect", "--noforce"], 2, "--force is a flag of `tl-jax prepare` and `tl-jax train`"),
        (["train", "--steps=3"], 2, "--config.train.steps=VALUE or --config.ppo.steps=VALUE"),
        (["run", "--data.path=x"], 2, "settings are written --config.data.path=VALUE"),
        (["evaluate", "--runs=x"], 2, "--runs is a flag of `tl-jax report`"),
        (["evaluate", "--suite=bfcl", "--oracle", "--out=gs://b/x"], 2, "--out: gs://b/x is a pl"),
        (["convert", "--source=m.gguf", "--target=~/m"], 2, "--target: ~/m would be a folder"),
        (["report", "suites", "--results=ours=~/r"], 2, "--results: ours=~/r would be a folder"),
        (["inspect", "--example=two"], 2, "two"),
        (["convert", "--dtype=int8"], 2, "float32"),
        (["evaluate", "--run=nowhere"], 2, "--run: nowhere holds no run (no config.json)"),
    ],
)
def test_the_command_line_answers_before_anything_heavy_is_loaded(
    outcome, monkeypatch, words, status, told
):
    monkeypatch.setattr(main_lib.importlib, "import_module", lambda *_: pytest.fail("loaded"))
    found, out, _ = outcome(*words)
    assert found == status and told in out


def test_help_tells_what_sections_are_for_and_the_flags_of_the_command():
    page = help_lib.page("prepare")
    assert f"data.format=auto  one of auto, {', '.join(FORMATS)}" in page
    assert {"anthropic", "responses", "langchain", "gemini", "prompt_completion"} <= FORMATS.keys()
    page = help_lib.page("convert")
    assert "--source: model to read" in page and "--dtype: " in page and "--tools" not in page
    assert "one of 'float32', 'bfloat16' (default float32)" in page and "--dry_run: " in page
    section = page.index("Sizes of the device mesh axes")
    assert section < page.index("mesh.data=1") < page.index("Training trajectories, their text")
    assert "--phase" in help_lib.page("evaluate")
    assert "packing_fit=stream  one of stream, sorted" in page
    assert "contamination_checks=('query', 'ngrams')  some of query, ngrams, tools" in page
    page = help_lib.page("inspect")
    assert "--example: which training example, from 1 (default 1)" in page and "--html: " in page
    assert "red and struck" in page and "NO_COLOR" in page


@pytest.fixture
def opened(console, model_dir, tmp_path, monkeypatch):
    """Open the run of a command as the command line does."""
    monkeypatch.chdir(tmp_path)
    arguments = main_lib.Arguments("given", "", False, (), {}, False)

    def opened(command, dry_run=False, rotbench="", run_dir="run", **sections):
        config = RunConfig(
            run_dir=run_dir,
            model=ModelSourceConfig(path=str(model_dir)),
            evaluate=EvaluateConfig(rotbench_path=rotbench),
        )
        for name, section in sections.items():
            section = dataclasses.replace(getattr(config, name), **section)
            config = dataclasses.replace(config, **{name: section})
        monkeypatch.setattr("tl_jax.cli.settings.read_config", lambda *_: config)
        with contextlib.ExitStack() as writing:
            return main_lib.open_run(
                command, dataclasses.replace(arguments, dry_run=dry_run), writing
            )

    return opened


@pytest.fixture
def trained(monkeypatch):
    """Pretend that phases have been trained."""

    def trained(*phases):
        saved = lambda self, phase: 0 if phase == "before" else 5 if phase in phases else None  # noqa: E731
        monkeypatch.setattr(Run, "saved_step", saved)

    return trained


@pytest.mark.parametrize("command", ["evaluate", "generate", "convert", "report"])
def test_commands_that_read_a_run_make_and_change_none(opened, tmp_path, command):
    with pytest.raises(ConfigError, match="run holds no run; give --run=DIR of one"):
        opened(command)
    assert list(tmp_path.iterdir()) == []
    opened("train")
    files = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {path.name for path in files} == {"config.json", "versions.json"}
    (tmp_path / "run" / "versions.json").write_text("as trained")
    opened(command)
    assert (tmp_path / "run" / "versions.json").read_text() == "as trained"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["batch_size"] == 8


@pytest.mark.parametrize("where", ["./run", "run/", "../{here}/run", "{path}/run"])
def test_where_a_run_lies_is_no_setting_of_it(opened, trained, tmp_path, where):
    opened("train")
    trained("supervised", "reward")
    assert opened("train", run_dir=where.format(here=tmp_path.name, path=tmp_path)).config.run_dir


def test_a_moved_run_goes_on(opened, trained, tmp_path):
    opened("train")
    (tmp_path / "run").rename(tmp_path / "home")
    trained("supervised")
    opened("train", run_dir="home")


def test_a_typo_in_the_first_command_leaves_nothing_behind(opened, tmp_path):
    for sections in ({"data": {"path": "typo.jsonl"}}, {"optim": {"warmup_steps": 5000}}):
        with pytest.raises(ConfigError, match="typo.jsonl|warmup_steps"):
            opened("run", **sections)
        assert list(tmp_path.iterdir()) == []


def test_until_anything_is_trained_every_setting_may_change(opened):
    opened("run")
    changed = opened("run", data={"max_length": 512}, mae={"rules": "static"}, optim={"b1": 0.8})
    assert changed.config.data.max_length == 512
    assert changes.check_changes(changed, prepares=True) == []


def test_prepared_data_are_inspected_without_their_source(opened, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    gone = {"data": {"path": "rows.jsonl"}}
    opened("prepare", **gone)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(ConfigError, match="no file rows.jsonl"):
        opened("inspect", **gone)
    (tmp_path / "run" / "data" / EXAMPLES).mkdir(parents=True)
    opened("inspect", **gone)


FREE = {
    "train": {"steps": 900, "log_every": 3},
    "evaluate": {"max_tasks": 4},
    "checkpoint": {"keep": 5},
    "model": {"remat": "full"},
}


@pytest.mark.parametrize("phases", [("supervised",), ("supervised", "reward")])
def test_after_training_what_no_result_depends_on_may_change(opened, trained, phases):
    opened("run")
    trained(*phases)
    opened("run", **FREE)
    for sections in (
        {"data": {"max_length": 512}},
        {"optim": {"b1": 0.8}},
        {"mae": {"rules": "off"}},
    ):
        with pytest.raises(
            ConfigError, match="has been trained with another value of config"
        ) as told:
            opened("run", **sections)
        assert "delete" not in str(told.value) and "--run takes" in str(told.value)


def test_reward_settings_may_change_until_reward_training_has_begun(opened, trained):
    opened("run")
    changed = {"ppo": {"value_coef": 0.5, "max_prompt_length": 512}, "reward": {"clip": 2.0}}
    trained("supervised")
    opened("run", **changed)
    trained("supervised", "reward")
    opened("run", **changed)
    with pytest.raises(ConfigError, match="config.ppo.value_coef"):
        opened("run")
    opened("run", **{**changed, "ppo": {**changed["ppo"], "steps": 99}})


def test_a_set_that_data_are_kept_apart_from_changes_only_where_none_are_prepared(
    opened, trained, tmp_path
):
    (tmp_path / "first_turn.jsonl").write_text("{}")
    opened("run")
    trained("supervised")
    for command in ("run", "prepare"):
        with pytest.raises(ConfigError, match=r"rotbench_path, .* `tl-jax evaluate`"):
            opened(command, rotbench="first_turn.jsonl")
    assert opened("evaluate", rotbench="first_turn.jsonl") is not None


@pytest.mark.parametrize("command", ["prepare", "train", "run"])
@pytest.mark.parametrize("template", ["script", "chat", "chatml_tools"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_the_published_reward_is_refused_where_it_cannot_read_the_calls(
    opened, tmp_path, command, template, dry_run
):
    reads = {"reward": {"mode": "reference"}}
    with pytest.raises(ConfigError, match=f"{template!r} does not write; take mode 'strict'"):
        opened(command, dry_run, data={"template": template}, **reads)
    assert list(tmp_path.iterdir()) == []
    opened(command, True, data={"template": "released"}, **reads)
    opened(command, True, data={"template": template})
    opened(command, True, data={"template": template}, **reads, ppo={"steps": 0})


@pytest.mark.parametrize("command", ["prepare", "train", "run", "evaluate"])
def test_texts_longer_than_the_context_are_refused_at_the_door(opened, tmp_path, command):
    with pytest.raises(ConfigError, match="max_length is 2049, but the model's context is 2048"):
        opened(command, True, data={"max_length": 2049})
    opened("run", dry_run=True, data={"max_length": 2048})
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_with_the_settings_in_its_directory(tmp_path):
    from tl_jax.cli.settings import read_config

    config = RunConfig(
        run_dir="elsewhere",
        data=DataConfig(max_length=99, sources=("a.jsonl",)),
        ppo=PpoConfig(steps=3),
        reward=RewardConfig(clip=2.0),
    )
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    found = read_config("", str(tmp_path), ["--config.train.steps=7"])
    assert found.train.steps == 7
    rest = dataclasses.replace(found, train=config.train, run_dir="elsewhere")
    assert rest == config and found.run_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("m.gguf", "GGUF", "--model: no directory .*m.gguf; .* convert --source=FILE.gguf"),
        ("org/name", None, "--model: no directory .*org/name; .*`hf "),
        ("run/config.json", '{"run_dir": "x"}', "settings of a run, not of a model"),
        ("adapter/adapter_config.json", "{}", "config.model.path: .*adapter: it holds adapters"),
    ],
)
def test_what_is_scored_by_itself_must_be_a_model(tmp_path, name, text, told):
    path = tmp_path / name
    if text is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    model = path.parent if path.suffix == ".json" else path
    arguments = main_lib.Arguments("", "", False, (), {"model": str(model)}, True)
    with contextlib.ExitStack() as writing, pytest.raises(ConfigError, match=told):
        main_lib.open_run("evaluate", arguments, writing)


def begun(*words, **options):
    code = "from tl_jax.cli.main import run; run()"
    return subprocess.run([sys.executable, "-c", code, *words], check=False, **options)


def test_a_terminal_that_lacks_a_character_gets_its_number():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = begun("prepare", "--config=öl", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "") and "configuration '\\xf6l'" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_how_a_command_ended_is_told_also_where_its_output_is_full():
    with open("/dev/full", "w") as full:
        done = begun("prepare", "--config=none", stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "no shipped configuration 'none'" in done.stderr
    assert "Traceback" not in done.stderr
