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


def test_readers_survive_small_mutations_of_what_they_read(tmp_path, monkeypatch):
    import fuzz
    from ledger import Ledger

    monkeypatch.setattr(fuzz, "BATCH", 30)
    monkeypatch.setattr(fuzz.template_limits, "SECONDS", 10.0)
    ledger = Ledger(tmp_path, seed=7)
    fuzz.fuzz(ledger, 30 * 6)
    assert Ledger(tmp_path).units == {"fuzz": 6}
    ledger = Ledger(tmp_path, seed=7)
    fuzz.fuzz(ledger, 30 * 12)
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
    monkeypatch.setattr(fuzz, "targets", lambda folder: [fuzz.Target("broken", broken)])
    found = []
    for number in range(2):
        ledger = Ledger(tmp_path / str(number))
        fuzz.fuzz(ledger, 40)
        assert 0 < ledger.failures() < 40
        found.append((tmp_path / str(number) / "failures.jsonl").read_text())
    assert found[0] == found[1] and "unit 1 execution" in found[0] and "KeyError" in found[0]


@pytest.mark.slow
def test_damaged_files_and_killed_processes_lose_nothing(tmp_path):
    from injuries import injure
    from kills import kill
    from ledger import Ledger

    ledger = Ledger(tmp_path)
    injure(ledger, 40)
    kill(ledger, 2)
    assert ledger.failures() == 0, (tmp_path / "failures.jsonl").read_text()
    assert sum(row["times"] for row in ledger.rows()) >= 42
