"""Training that stands still is noticed, and nothing else is taken for that."""

import subprocess
import sys
import time

import pytest

from tl_jax.run import watchdog
from tl_jax.run.watchdog import Watchdog


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(watchdog, "LEAST_S", 0.2)
    monkeypatch.setattr(watchdog, "FIRST_S", 0.6)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def stand_still_here(seconds):
    time.sleep(seconds)


def test_a_step_that_does_not_end_leaves_the_stacks_of_all_threads_once(tmp_path, quick, caplog):
    with Watchdog(tmp_path, "supervised", leave=False) as dog:
        for done in (1, 2, 3):
            time.sleep(0.02)
            dog.step(done)
        stand_still_here(1.0)
        assert files(tmp_path) == ["stacks-supervised-3-0.txt"]
        dog.step(4)
    text = (tmp_path / "stacks-supervised-3-0.txt").read_text()
    assert "stand_still_here" in text and text.lower().count("thread 0x") > 1
    assert caplog.text.count("no step of the supervised phase has ended") == 1


def test_compiling_validating_and_slow_steps_are_no_hang(tmp_path, quick):
    with Watchdog(tmp_path, "reward", leave=False) as dog:
        assert dog.limit() == 0.6
        time.sleep(0.4)  # the first step
        dog.step(1)
        assert dog.limit() > 7  # 20 of such steps
        for done in range(2, 102):
            dog.step(done)
        assert dog.limit() == 0.2
        with dog.paused():
            time.sleep(0.5)
        dog.step(102)
        with dog.saving():
            assert dog.limit() == 0.6
            time.sleep(0.4)
        assert dog.limit() == 0.2
        dog.step(103)
    time.sleep(0.5)  # ended
    assert files(tmp_path) == []


def test_a_process_that_hangs_leaves_with_its_own_status_if_wanted(tmp_path):
    program = (
        "import pathlib, sys, time\n"
        "from tl_jax.run import watchdog\n"
        "watchdog.LEAST_S = 0.2\n"
        "with watchdog.Watchdog(pathlib.Path(sys.argv[1]), 'reward', leave=True) as dog:\n"
        "    dog.step(1)\n"
        "    time.sleep(99)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=90, check=False)
    assert done.returncode == watchdog.STATUS and files(tmp_path) == ["stacks-reward-1-0.txt"]
