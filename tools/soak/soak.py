"""Try for long what may go wrong, and write down what survived.

    nice python tools/soak/soak.py STATE --kills=200 --injuries=500 --executions=5000000

Files are damaged and trainings killed while processes beside them fuzz. The state lies in the
directory STATE, so that the same command goes on where it stopped. ``table.md`` and ``table.json``
there hold fault, times, survived and how; ``failures.jsonl`` what did not survive, with what
repeats it. The status is 1 if there is anything in it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pods  # noqa: E402
import workers  # noqa: E402
from fuzz import fuzz, run_unit, scratch, targets  # noqa: E402
from injuries import injure, run_units  # noqa: E402
from kills import kill  # noqa: E402
from ledger import FAILED, Ledger, Outcome  # noqa: E402


def main() -> int:
    """Do what is left and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("state", type=Path, help="directory of the state and the tables")
    parser.add_argument("--kills", type=int, default=200, help="processes that are killed")
    parser.add_argument("--pods", type=int, default=20, help="trainings on 2 or 4 processes")
    parser.add_argument("--injuries", type=int, default=500, help="files that are damaged")
    parser.add_argument(
        "--executions", type=int, default=5_000_000, help="odd inputs that are read"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that fuzz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="repeat one unit and count nothing: pods:3")
    options = parser.parse_args()
    ledger = Ledger(options.state, options.seed)
    if options.only:
        kind, _, number = options.only.partition(":")
        found = again(ledger, kind, int(number))
        print(*found, sep="\n")
        return int(any(outcome.outcome in FAILED for outcome in found))
    run = functools.partial(workers.run, options.workers, options.seed)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        fuzzing = beside.submit(fuzz, ledger, options.executions, run)
        injure(ledger, options.injuries)
        pods.kill_pods(ledger, options.pods)
        kill(ledger, options.kills)
        fuzzing.result()
    print(ledger.write_table())
    return int(ledger.failures() > 0)


def again(ledger: Ledger, kind: str, number: int) -> list[Outcome]:
    """Return what one unit of pods, injuries or executions leads to.

    Raises:
      KeyError: There is no such kind. Kills follow each other, so that none can be repeated alone.
    """

    def fuzzed() -> list[Outcome]:
        with scratch() as folder:
            return run_unit(targets(Path(folder)), ledger.seed, number)

    return {
        "fuzz": fuzzed,
        "injuries": lambda: list(run_units(ledger, [number])),
        "pods": lambda: [pods.run_unit(ledger, number)],
    }[kind]()


if __name__ == "__main__":
    sys.exit(main())
