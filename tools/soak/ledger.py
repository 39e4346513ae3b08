"""What was tried and how it ended, kept in a directory so that a soak goes on where it stopped."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

SURVIVED = ("as before", "refused by name", "mended")
FAILED = ("silent", "traceback", "lost", "hang", "crash")


class Outcome(NamedTuple):
    """What something that was tried led to.

    Attributes:
      fault: What was tried.
      outcome: One of ``SURVIVED`` and ``FAILED``.
      note: What repeats it.
      times: How often.
    """

    fault: str
    outcome: str
    note: str = ""
    times: int = 1


def draw_of(seed: int, kind: str, number: int) -> random.Random:
    """Return the randomness of one unit, the same whenever it is asked for."""
    return random.Random(f"{seed} {kind} {number}")


class Ledger:
    """Counts of outcomes by fault, and the failures with what repeats them.

    Args:
      folder: Where the state lies; made if absent.
      seed: Of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.json"
        found = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.counts: dict[str, dict[str, int]] = found.get("counts", {})
        self.units: dict[str, int] = found.get("units", {})
        self._lock = threading.Lock()

    def finish(self, kind: str, number: int, found: Iterable[Outcome]) -> None:
        """Count what units of a kind led to, note that they are done up to a number, and save.

        All at once: a soak that is killed counts no unit twice.
        """
        with self._lock:
            for fault, outcome, note, times in found:
                entry = self.counts.setdefault(fault, {})
                entry[outcome] = entry.get(outcome, 0) + times
                if outcome in FAILED:
                    with (self.folder / "failures.jsonl").open("a", encoding="utf-8") as file:
                        row = {"fault": fault, "outcome": outcome, "note": note}
                        file.write(json.dumps(row, ensure_ascii=True) + "\n")
            self.units[kind] = number
            draft = self._file.with_suffix(".tmp")
            draft.write_text(json.dumps({"counts": self.counts, "units": self.units}, indent=1))
            draft.replace(self._file)

    def failures(self) -> int:
        """Return how many times something did not survive."""
        return sum(n for entry in self.counts.values() for k, n in entry.items() if k in FAILED)

    def rows(self) -> list[dict[str, Any]]:
        """Return fault, times, survived and how."""
        found = []
        for fault, entry in sorted(self.counts.items()):
            times = sum(entry.values())
            survived = sum(entry.get(name, 0) for name in SURVIVED)
            how = ", ".join(f"{name} {count:,}" for name, count in sorted(entry.items()))
            found.append({"fault": fault, "times": times, "survived": survived, "how": how})
        return found

    def write_table(self) -> str:
        """Write ``table.json`` and ``table.md``, and return the latter."""
        with self._lock:
            rows = self.rows()
        (self.folder / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
        lines = ["| fault | times | survived | how |", "|---|---|---|---|"]
        lines += [
            f"| {r['fault']} | {r['times']:,} | {r['survived']:,} | {r['how']} |" for r in rows
        ]
        text = "\n".join(lines) + "\n"
        (self.folder / "table.md").write_text(text)
        return text
