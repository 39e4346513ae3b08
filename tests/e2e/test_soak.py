"""The harness of long trials: what it tries survives, and it goes on where it stopped."""

import json
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "tools" / "soak"


@pytest.fixture(scope="module", autouse=True)
def harness():
    """Let the programs of the harness find each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SOAK))
        yield


def in_this_process(known, seed):
    """Return what runs units one after another."""
    import fuzz

    return lambda numbers: (fuzz.run_unit(known, seed, number) for number in numbers)


def test_readers_survive_small_mutations_of_what_they_read(tmp_path, monkeypatch):
    import fuzz
    from ledger import Ledger

    monkeypatch.setattr(fuzz, "BATCH", 30)
    monkeypatch.setattr(fuzz.template_limits, "SECONDS", 10.0)
    with fuzz.scratch() as folder:
        run = in_this_process(fuzz.targets(Path(folder)), seed=7)
        fuzz.fuzz(Ledger(tmp_path, seed=7), 30 * 6, run)
        assert Ledger(tmp_path).units == {"fuzz": 6}
        ledger = Ledger(tmp_path, seed=7)
        fuzz.fuzz(ledger, 30 * 12, run)
    rows = ledger.rows()
    assert len(rows) == 12 and all(row["times"] == 30 for row in rows)
    assert ledger.failures() == 0, (tmp_path / "failures.jsonl").read_text()
    assert "| fuzzing: GGUF header | 30 | 30 | " in ledger.write_table()
    assert json.loads((tmp_path / "table.json").read_text()) == rows


def test_a_failure_is_counted_and_can_be_repeated(tmp_path, monkeypatch):
    import fuzz
    from ledger import Ledger

    def broken(draw):
        if draw.random() < 0.2:
            raise KeyError("x")
        return True

    monkeypatch.setattr(fuzz, "BATCH", 20)
    found = []
    for number in range(2):
        ledger = Ledger(tmp_path / str(number))
        fuzz.fuzz(ledger, 40, in_this_process([fuzz.Target("broken", broken)], seed=0))
        assert 0 < ledger.failures() < 40
        found.append((tmp_path / str(number) / "failures.jsonl").read_text())
    assert found[0] == found[1] and "unit 1 execution" in found[0] and "KeyError" in found[0]


def test_damaged_files_and_killed_trainings_lose_nothing(tmp_path):
    from injuries import injure
    from kills import kill
    from ledger import SURVIVED, Ledger
    from soak import again

    ledger = Ledger(tmp_path)
    injure(ledger, 40)
    kill(ledger, 2)
    assert ledger.failures() == 0, (tmp_path / "failures.jsonl").read_text()
    assert sum(row["times"] for row in ledger.rows()) >= 42
    for kind in ("injuries", "fuzz"):
        assert {found.outcome for found in again(ledger, kind, 3)} <= set(SURVIVED)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_processes_of_pods_lose_nothing(tmp_path):
    from ledger import Ledger
    from pods import kill_pods

    ledger = Ledger(tmp_path)
    kill_pods(ledger, 2)  # of two processes, and of four
    assert ledger.failures() == 0, (tmp_path / "failures.jsonl").read_text()
    assert sum(row["times"] for row in ledger.rows()) >= 2


def test_a_worker_that_dies_is_counted_and_replaced(tmp_path, monkeypatch):
    import fuzz
    import workers
    from ledger import Ledger

    start, started = workers._start, []

    def start_or_die(seed, number):
        worker = start(seed, number)
        if number == 1:
            worker.process.kill()
        started.append(number)
        return worker

    monkeypatch.setattr(workers, "_start", start_or_die)
    ledger = Ledger(tmp_path, seed=7)
    fuzz.fuzz(ledger, fuzz.BATCH * 4, lambda numbers: workers.run(2, 7, numbers))
    assert [number for number in started if number is not None] == [0, 1, 2]
    assert ledger.failures() == 1 and ledger.units == {"fuzz": 4}
    assert "unit 1: exit status -9" in (tmp_path / "failures.jsonl").read_text()
    assert sum(row["times"] for row in ledger.rows()) == 3 * fuzz.BATCH + 1
