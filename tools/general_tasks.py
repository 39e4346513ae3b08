"""Score general tasks before and after training with lm-evaluation-harness, in one table.

    pip install lm-eval==0.4.13 transformers torch accelerate peft   # in an environment of its own
    python tools/general_tasks.py --before=MODEL --after=EXPORT --tasks=arc_easy,hellaswag \\
        [--lm_eval=PATH] [--out=FILE.json] [further flags of lm_eval, such as --limit=200]

MODEL and EXPORT are Hugging Face directories, such as ``tl-jax export`` writes; PATH is the program
``lm_eval`` of that environment. Each directory is scored by a run of its own; the table has every
figure of every task in percent, with half its 95 % interval by the standard error of the harness;
that of the difference is of two independent samples, which is wider than a paired one.

Any runner can be pointed at an export that is served as OpenAI does it. This was tried with
transformers 5.23 and EvalScope 1.14.1 (in an environment of its own); BFCL's own runner, which was
not tried, takes the address as REMOTE_OPENAI_BASE_URL with ``--skip-server-setup``:

    pip install "transformers[serving]" && transformers serve EXPORT --port=8000
    evalscope eval --model=EXPORT --api-url=http://127.0.0.1:8000/v1 --eval-type=openai_api \\
        --api-key=EMPTY --datasets=gsm8k
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

_Z = 1.96
Figures = dict[tuple[str, str], tuple[float, float]]
"""Value and standard error by task and figure, as the harness has them."""


def main() -> None:
    """Score both directories, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description="General tasks before and after training.")
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--lm_eval", default="lm_eval")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    options, further = parser.parse_known_args()
    results = [
        run_harness(options.lm_eval, model, options.tasks, further)
        for model in (options.before, options.after)
    ]
    rows = compared(*map(figures, results))
    for row in rows:
        print(as_text(row))
    if options.out is not None:
        versions = {name: results[0].get(name) for name in ("lm_eval_version", "versions")}
        written = {"before": options.before, "after": options.after, **versions, "rows": rows}
        options.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def run_harness(program: str, model: str, tasks: str, further: Sequence[str]) -> dict[str, Any]:
    """Return the result file of one run of the harness."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--model=hf", f"--model_args=pretrained={model}", f"--tasks={tasks}"]
        subprocess.run([*command, f"--output_path={folder}", *further], check=True)
        (file,) = pathlib.Path(folder).rglob("results_*.json")
        return json.loads(file.read_text(encoding="utf-8"))


def figures(result: Mapping[str, Any]) -> Figures:
    """Return the figures of a result file; names of the harness without its filters."""
    found: Figures = {}
    for task, entry in result["results"].items():
        for key, value in entry.items():
            name, comma, kind = key.partition(",")
            if comma and not name.endswith("_stderr") and isinstance(value, (int, float)):
                error = entry.get(f"{name}_stderr,{kind}")
                label = name if kind == "none" else f"{name} ({kind})"
                known = isinstance(error, (int, float))
                found[task, label] = (float(value), float(error) if known else math.nan)
    return found


def compared(before: Figures, after: Figures) -> list[dict[str, Any]]:
    """Return a row for each figure that both have, in percent, with half its 95 % interval."""
    rows = []
    for task, name in before:
        if (task, name) in after:
            (first, first_error), (last, last_error) = before[task, name], after[task, name]
            rows.append(
                {
                    "task": task,
                    "figure": name,
                    "before": _interval(first, first_error),
                    "after": _interval(last, last_error),
                    "difference": _interval(last - first, math.hypot(first_error, last_error)),
                }
            )
    return rows


def _interval(value: float, error: float) -> dict[str, float | None]:
    reach = round(100 * _Z * error, 2) if math.isfinite(error) else None
    return {"percent": round(100 * value, 2), "reach": reach}


def as_text(row: Mapping[str, Any]) -> str:
    """Return a row of the table as a line."""
    cells = []
    for name in ("before", "after", "difference"):
        found = row[name]
        reach = "" if found["reach"] is None else f" ± {found['reach']:.2f}"
        cells.append(f"{name} {found['percent']:.2f}{reach}")
    return f"{row['task']} {row['figure']}: {', '.join(cells)}"


if __name__ == "__main__":
    main()
