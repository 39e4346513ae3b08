"""Write what the runs of `configs/proof.py` say so far: cells, scores with intervals, verdicts.

    python tools/bench/proof.py RUN_DIR [--untrained=RESULT.json] [--out=FILE]

RUN_DIR is that of ``tl-jax run --config=proof``, whether all its parts are done or not;
``--untrained`` is a result of ``tl-jax evaluate --phase=before`` of any of them. ``rotbench_clean``
at the top is the full pipeline's, or null while no model of it is scored; ``missing`` names the
cells without a score. ``results/proof.json`` is what it writes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from tl_jax.cli.settings import read_config
from tl_jax.evaluate import ablation

RESULTS = pathlib.Path(__file__).parent / "results" / "proof.json"
CLEAN = "rotbench/clean"
FULL = ablation.title(ablation.COMPONENTS)


def main() -> None:
    """Read the parts that are scored and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=pathlib.Path)
    parser.add_argument("--untrained", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    config = read_config("proof", "", [f"--config.run_dir={options.run_dir}"])
    found = ablation.compare(config)
    cells: dict[str, Any] = found["sets"].get(CLEAN, {}).get("cells", {})
    full = cells.get(FULL)
    results = {
        "rotbench_clean": full
        and {name.upper(): full[name]["percent"] for name in ("ts", "pi", "cf")},
        "steps": {"supervised": config.train.steps, "reward": config.ppo.steps},
        "row_length": config.data.row_length,
        "learning_rate": config.optim.learning_rate,
        "missing": [
            title for cell in ablation.cells() if (title := ablation.title(cell)) not in cells
        ],
        "untrained": untrained(options.untrained) if options.untrained else None,
        **found,
        "versions": versions(options.run_dir),
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: results[name] for name in ("rotbench_clean", "missing")}))


def untrained(path: pathlib.Path) -> dict[str, Any]:
    """Return the scores of the sets in a result, each with its interval."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: {level: entry[level] for level in ("ts", "pi", "cf")}
        for name, entry in content["sets"].items()
    }


def versions(run_dir: pathlib.Path) -> dict[str, Any]:
    """Return the software and the machine that a part wrote down."""
    paths = sorted((run_dir / ablation.PARTS).glob("*/versions.json"))
    return json.loads(paths[0].read_text(encoding="utf-8")) if paths else {}


if __name__ == "__main__":
    main()
