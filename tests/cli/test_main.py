"""A command ends with the status and the message that its outcome deserves."""

import sys

import pytest

from tl_jax.cli import main as main_lib
from tl_jax.cli import report
from tl_jax.config import ConfigError
from tl_jax.data.dataset import DataError
from tl_jax.train.checkpoint import CheckpointError, LoaderMismatch
from tl_jax.train.loop import Diverged, Stopped


@pytest.fixture
def outcome(monkeypatch, console):
    """Run a stage that raises, and return the exit status and what was printed."""

    def outcome(error):
        def fail(*_):
            raise error

        monkeypatch.setattr(main_lib, "open_workspace", lambda *_: None)
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

    monkeypatch.setattr(main_lib, "open_workspace", fail)
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
