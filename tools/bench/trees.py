"""Measure rows of prefix trees without a model: what an epoch computes, and the loader's pace.

    python tools/bench/trees.py --tokenizer=DIR [--data=DIR] [--out=FILE]

DIR of ``--tokenizer`` is a Hugging Face directory (SmolLM2's for the published numbers), DIR of
``--data`` holds data sets such as ``rotllama_gpt4/trajectories.jsonl.gz``; by default the value of
TL_JAX_DATA. The first part prepares that set in both forms and counts an epoch's tokens, those that
are computed, and the places of its rows. The second mixes several sets with the embedded world and
reads rows at growing numbers of trajectories, each in a process of its own, whose memory is noted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.loader.loader import make_loader, measure
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.sources import open_sources
from tl_jax.data.tokenize.tokenizer import load_tokenizer

ROTLLAMA = "rotllama_gpt4/trajectories.jsonl.gz"
FORMS = (("per_trajectory", 2048), ("per_trajectory", 4096), ("per_turn", 4096))
ROWS = (4096, 8192)
MIXED = ("star/dialogues.jsonl.gz", "api_bank/lv1_lv2_dialogues.jsonl.gz")
COUNTS = (1000, 3000, 12000)
SECONDS = 20.0
"""How long rows are read at each number of trajectories."""


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--template", default="auto")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--epochs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--read", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read)))
        return
    results: dict[str, Any] = {"template": options.template}
    with tempfile.TemporaryDirectory() as folder:
        if options.epochs:
            results["epochs"] = epochs(options, pathlib.Path(folder))
        counts = [int(count) for count in options.counts.split(",") if count]
        results["loader"] = [paced(options, pathlib.Path(folder), count) for count in counts]
    text = json.dumps(results, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def epochs(options: argparse.Namespace, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Return what the rows of an epoch hold, for every form and length of rows."""
    found = []
    for samples, length in FORMS:
        out = folder / f"{samples}-{length}"
        path = str(pathlib.Path(options.data) / ROTLLAMA)
        prepared(options, out, DataConfig(path=path, samples=samples, max_length=length))
        for row in ROWS:
            counts = measure(
                out / "examples",
                length=row,
                seed=0,
                packing=True,
                packing_bins=64,
                packing_fit="sorted",
                shared_prefixes=True,
                most_rows=1 << 30,
            )
            tokens, places = counts["tokens"], counts["rows"] * row
            found.append(
                {
                    "samples": samples,
                    "max_length": length,
                    "row_length": row,
                    "tokens": tokens,
                    "computed_tokens": counts["computed_tokens"],
                    "ratio_of_tokens": round(tokens / counts["computed_tokens"], 3),
                    "places": places,
                    "ratio_of_places": round(tokens / places, 3),
                }
            )
            print(found[-1], flush=True)
    return found


def paced(options: argparse.Namespace, folder: pathlib.Path, count: int) -> dict[str, Any]:
    """Return how fast rows of so many trajectories are read, and the memory that takes."""
    out = folder / f"mixed-{count}"
    sets = [str(pathlib.Path(options.data) / name) for name in MIXED]
    data = DataConfig(
        sources=(f"synthetic@{count / 3000}", *sets),
        synthetic_trajectories=3000,
        max_trajectories=count,
        max_length=2048,
        max_bad_fraction=0.5,
        max_without_tools=1.0,
    )
    start = time.perf_counter()
    prepared(options, out, data)
    took = time.perf_counter() - start
    done = subprocess.run(
        [sys.executable, __file__, "--tokenizer=", f"--read={out / 'examples'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {"trajectories": count, "prepare_seconds": round(took, 1), **json.loads(done.stdout)}
    print(found, flush=True)
    return found


def prepared(options: argparse.Namespace, out: pathlib.Path, data: DataConfig) -> None:
    """Prepare a data set without a model."""
    dataset.prepare(
        open_sources(data, 0),
        load_tokenizer(options.tokenizer),
        data=data,
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
        out_dir=out,
    )


def read(path: str) -> dict[str, Any]:
    """Read rows of trees for some time and return the pace and the memory of this process."""
    start = time.perf_counter()
    loader = make_loader(
        path,
        length=8192,
        rows=8,
        seed=0,
        packing=True,
        packing_bins=64,
        shared_prefixes=True,
        prefetch=0,
    )
    next(loader)
    opened = time.perf_counter() - start
    tokens = samples = 0
    start = time.perf_counter()
    for batch in itertools.takewhile(lambda _: time.perf_counter() - start < SECONDS, loader):
        tokens += int(batch["samples"].sum())
        # Every sample has one first token.
        samples += int(batch["samples"][batch["positions"] == 0].sum())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "samples_per_second": round(samples / seconds),
        "tokens_per_second": round(tokens / seconds),
        "seconds_to_the_first_batch": round(opened, 2),
        "peak_mib": round(peak),
    }


if __name__ == "__main__":
    main()
