"""A run directory has one writer; the lock of one that is gone is taken over."""

import json
import os
import subprocess
import sys
import time

import pytest

from tl_jax.errors import RunNotWritable
from tl_jax.run import lock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr(lock, "PATIENCE_S", 0.4)


def there(run_dir):
    """Return the lock that is there."""
    return json.loads((run_dir / lock.FILE).read_text())


@pytest.fixture
def other(tmp_path):
    """Leave the lock of another writer."""

    def write(**changes):
        text = json.loads(lock._text("other", 0))
        (tmp_path / lock.FILE).write_text(json.dumps({**text, **changes}))

    return write


HOLD = """
import sys, time
from tl_jax.run import lock
with lock.hold(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(300)
"""


def test_the_second_writer_says_who_is_the_first_and_a_kill_frees_the_run(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "ready\n"
        known = rf"process {first.pid} on .* since 20\d\d-"
        with pytest.raises(RunNotWritable, match=known), lock.hold(tmp_path):
            pass
        first.kill()
    with lock.hold(tmp_path):
        assert there(tmp_path)["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_used_again_is_another_process(tmp_path, other):
    other(began="1")
    with lock.hold(tmp_path):
        pass


def test_a_writer_on_another_machine_is_gone_if_it_does_not_count(tmp_path, other, caplog):
    other(machine="far away")
    with lock.hold(tmp_path):
        assert "taken over" in caplog.text
    other(machine="far away", process="?")
    with lock.hold(tmp_path):
        pass


def test_a_writer_on_another_machine_that_counts_stays(tmp_path, other, monkeypatch):
    other(machine="far-away boot")
    counts = iter(range(1, 100))
    read = lock._read

    def counting(path):
        found = read(path)
        other(machine="far-away boot", count=next(counts))
        return found

    monkeypatch.setattr(lock, "_read", counting)
    with pytest.raises(RunNotWritable, match="on far-away writes this run"), lock.hold(tmp_path):
        pass
    assert there(tmp_path)["token"] == "other"


def test_a_damaged_lock_is_taken_over(tmp_path):
    for text in ("", "[]", '{"machine": 3, "process": []}'):
        (tmp_path / lock.FILE).write_text(text)
        with lock.hold(tmp_path):
            pass


def test_a_writer_counts_and_may_hold_twice(tmp_path):
    with lock.hold(tmp_path):
        with lock.hold(tmp_path):
            pass
        until = time.monotonic() + 20
        while there(tmp_path)["count"] < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert there(tmp_path)["count"] >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_somebody_else_took_is_left_alone(tmp_path, other):
    """The one set aside must be the one that was judged."""
    other(machine="new")
    lock._set_aside(tmp_path / lock.FILE, {"token": "judged"})
    assert there(tmp_path)["machine"] == "new"


def test_what_a_writer_left_that_was_killed_as_it_took_the_lock_goes_in_time(tmp_path):
    for name, age in (("old", 2 * lock._DRAFT_S), ("new", 0)):
        draft = tmp_path / f"{lock.FILE}.{name}"
        draft.touch()
        at = time.time() - age
        os.utime(draft, (at, at))
    with lock.hold(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {lock.FILE, f"{lock.FILE}.new"}


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunNotWritable, match="cannot be written"), lock.hold(tmp_path / "file"):
        pass
