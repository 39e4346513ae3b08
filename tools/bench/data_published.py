"""Measure the data work against the published way: prepare, packing, the loader, memory.

    python tools/bench/data_published.py --tokenizer=DIR [--data=DIR] [--out=FILE]

DIR of ``--tokenizer`` is a Hugging Face directory (SmolLM2's for the published numbers), DIR of
``--data`` holds ``rotllama_gpt4/trajectories.jsonl.gz``; by default the value of TL_JAX_DATA.
Everything runs on one core. Times are CPU seconds, so that other programs disturb them less; wall
time is given, too. Takes about ten minutes, most of them for the synthetic trajectories; the
comparison needs torch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from typing import Any

import numpy as np
import reference_way

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.examples import build as example_module
from tl_jax.data.examples.alternative_tokens import AlternativeNames
from tl_jax.data.examples.build import Example, build_examples
from tl_jax.data.examples.key_tokens import reply_weights
from tl_jax.data.importers import read
from tl_jax.data.loader.packing import FITS
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.files import EXAMPLES
from tl_jax.data.prepare.sources import EmbeddedWorld, WeightedSource
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer, load_tokenizer

LENGTH = 4096
EPOCHS = 3
"""Of the published training; the weights are searched in each of them."""
RESULTS = pathlib.Path(__file__).parent / "results" / "data_published.json"
LIBRARIES = ("tokenizers", "transformers", "numpy", "grain", "torch")


def main() -> None:
    """Run all measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--synthetic", type=int, default=100_000)
    parser.add_argument("--limit", type=int, default=0, help="trajectories (0: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    tokenizer = load_tokenizer(options.tokenizer)
    if options.memory:
        print(json.dumps(prepare_synthetic(tokenizer, options.synthetic)))
        return
    trajectories = pathlib.Path(options.data) / "rotllama_gpt4" / "trajectories.jsonl.gz"
    results = {"machine": machine(), "note": options.note}
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "prepared"
        found, report = prepare(trajectories, tokenizer, out, options.limit, options.repeats)
        results["prepare"] = found
        for fit in FITS:
            results[f"loader_{fit}"] = loader(out / EXAMPLES, fit, options.repeats)
    results["against_the_published_way"] = against_reference(
        trajectories, tokenizer, results["loader_sorted"]["cpu_tokens_per_s"]["median"]
    )
    results["memory"] = memory(options)
    results["targets"] = targets(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return CPU seconds, wall seconds and the result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def median_cpu(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median CPU seconds of several runs."""
    return statistics.median(timed(work)[0] for _ in range(repeats))


def summary(values: list[float]) -> dict[str, Any]:
    """Return the median of all measurements, and all of them."""
    return {"median": round(statistics.median(values), 1), "all": [round(v, 1) for v in values]}


def prepare(
    path: pathlib.Path, tokenizer: Tokenizer, out: pathlib.Path, limit: int, repeats: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Prepare the real trajectories several times, each time from the start."""
    settings: dict[str, Any] = dict(
        data=DataConfig(max_length=LENGTH, samples="per_turn"),
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
    )
    rates: dict[str, list[float]] = {"cpu": [], "wall": []}
    for number in range(repeats):
        rows = itertools.islice(iter(read(path)), limit or None)
        fresh = load_tokenizer_again(tokenizer)
        cpu, wall, report = timed(
            lambda rows=rows, fresh=fresh, number=number: dataset.prepare(
                [WeightedSource("rotllama_gpt4", rows, str(number))],
                fresh,
                out_dir=out,
                **settings,
            )
        )
        rates["cpu"].append(report["rows"] / cpu)
        rates["wall"].append(report["rows"] / wall)
    return {
        "trajectories": report["rows"],
        "examples": sum(report["examples"].values()),
        "tokens": sum(report["tokens"].values()),
        "trained_token_share": report["trained_token_share"]["train"],
        "cpu_trajectories_per_s": summary(rates["cpu"]),
        "wall_trajectories_per_s": summary(rates["wall"]),
    }, report


def load_tokenizer_again(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer without what it has remembered."""
    return load_tokenizer(tokenizer.fast.name_or_path)


def loader(path: pathlib.Path, fit: str, repeats: int) -> dict[str, Any]:
    """Measure the filling of packed rows and the speed of the loader."""
    from tl_jax.data.loader.loader import make_loader, measure

    form: dict[str, Any] = dict(
        length=LENGTH, packing=True, packing_bins=DataConfig().packing_bins, packing_fit=fit
    )
    epoch = measure(path, seed=0, **form)
    rates: dict[str, list[float]] = {"cpu": [], "wall": []}
    fills = []
    for seed in range(repeats):
        stream = make_loader(path, rows=8, seed=seed, prefetch=0, **form)
        next(stream)  # the first row comes when all rows of a window have been filled
        cpu, wall, batches = timed(lambda stream=stream: list(itertools.islice(stream, 64)))
        stream.close()
        found = sum(int((batch["visible_until"] > 0).sum()) for batch in batches)
        rates["cpu"].append(found / cpu)
        rates["wall"].append(found / wall)
        fills.append(100 * found / (64 * 8 * LENGTH))
    return {
        **form,
        "epoch": epoch,
        "fill_percent": summary(fills),
        "cpu_tokens_per_s": summary(rates["cpu"]),
        "wall_tokens_per_s": summary(rates["wall"]),
    }


def against_reference(
    path: pathlib.Path, tokenizer: Tokenizer, loader_tokens_per_s: float
) -> dict[str, Any]:
    """Compare with the published way, on every 25th trajectory, in CPU seconds."""
    rows = list(itertools.islice(iter(read(path)), 0, None, 25))
    rows = [row for row in rows if hasattr(row, "messages")]
    rendered, _, texts = timed(lambda: [t for row in rows for t in reference_way.samples(row)])
    tokenised, _, ids = timed(lambda: [reference_way.tokens(t, tokenizer) for t in texts])
    searched = median_cpu(lambda: [reference_way.weights(x, tokenizer) for x in ids], 3)

    tokenizer = load_tokenizer_again(tokenizer)
    policy = policy_of(MaeConfig())
    renderer = open_renderer(DataConfig(samples="per_turn"), tokenizer)
    judged, _, labels = timed(lambda: [label_turns(row, policy) for row in rows])
    encoded_s, _, encoded = timed(lambda: [renderer.encode_trajectory(row) for row in rows])
    spent: list[float] = []

    def build(weigh: Callable[..., Any]) -> list[Example]:
        found, alternatives = [], AlternativeNames(tokenizer)  # names are met for the first time
        with unittest.mock.patch.object(example_module, "reply_weights", weigh):
            for row, label, text in zip(rows, labels, encoded, strict=True):
                text.samples.clear()
                found += build_examples(
                    row,
                    label,
                    renderer,
                    key_tokens=KeyTokenConfig(),
                    max_length=1 << 20,
                    alternatives=alternatives,
                    encoded=text,
                )[0]
        return found

    def clocked(*arguments: Any, **options: Any) -> Any:
        cpu, _, found = timed(lambda: reply_weights(*arguments, **options))
        spent[-1] += cpu
        return found

    for _ in range(5):
        spent.append(0.0)
        examples = build(clocked)
    weighting = statistics.median(spent)
    building = median_cpu(lambda: build(reply_weights))
    stored = [json.dumps(example.weights) for example in examples]
    reading = median_cpu(lambda: [np.asarray(json.loads(x), np.float32) for x in stored])
    tokens = sum(len(x) for x in ids)
    ours_tokens = sum(len(example.ids) for example in examples)
    step = tokens / loader_tokens_per_s
    once = judged + encoded_s + building
    return {
        "trajectories": len(rows),
        "samples": {"published": len(texts), "here": len(examples)},
        "tokens": {"published": tokens, "here": ours_tokens},
        "published_cpu_s": {
            "mae_and_render": round(rendered, 3),
            "tokenise": round(tokenised, 3),
            "weights_searched_in_one_epoch": round(searched, 3),
        },
        "here_cpu_s": {
            "mae": round(judged, 3),
            "render_and_tokenise": round(encoded_s, 3),
            "cut_and_weights": round(building, 3),
            "of_that_weights": round(weighting, 3),
            "weights_read_in_one_epoch": round(reading, 3),
            "loader_for_as_many_tokens": round(step, 3),
        },
        "ratio": {
            "weights_in_training": round(EPOCHS * searched / (weighting + EPOCHS * reading), 1),
            "weights_of_one_epoch": round(searched / weighting, 1),
            "weights_of_a_step": round(searched / reading, 1),
            "search_against_the_whole_loader": round(searched / step, 1),
            "preparation": round((rendered + tokenised) / (once - weighting), 1),
            "preparation_and_weights": round((rendered + tokenised + searched) / once, 1),
        },
        "meaning": {
            "weights_in_training": "search of the key tokens by Python loops over the ids at "
            f"every step of {EPOCHS} epochs, against finding them once and reading arrays at "
            "every step",
            "weights_of_one_epoch": "the search at every step of one epoch, against finding the "
            "key tokens of the same samples once",
            "weights_of_a_step": "the search at a step, against reading the weights at a step",
            "search_against_the_whole_loader": "the search, against all that the loader does for "
            "as many tokens: ids and weights read, checked and packed",
            "preparation": "MAE, rendering and tokenising, without weights; small because both "
            "sides spend their time in the same tokenizer, the published way once for each turn "
            "and here once for each dialogue",
            "preparation_and_weights": "the same, with the weights of one epoch on both sides",
        },
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare synthetic trajectories in a process of its own and return its peak memory."""
    command = [sys.executable, __file__, "--memory", f"--tokenizer={options.tokenizer}"]
    done = subprocess.run(
        [*command, f"--synthetic={options.synthetic}"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def prepare_synthetic(tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """Prepare the embedded world, looking for near duplicates, and return the peak memory."""
    rows = EmbeddedWorld(count, 0)
    data = DataConfig(duplicates="near", samples="per_turn", workers=1)
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall, report = timed(
            lambda: dataset.prepare(
                [WeightedSource("synthetic", rows)],
                tokenizer,
                data=data,
                mae=MaeConfig(),
                key_tokens=KeyTokenConfig(),
                seed=0,
                out_dir=pathlib.Path(folder) / "out",
            )
        )
    return {
        "trajectories": report["rows"],
        "removed": report.get("removed", {}),
        "cpu_trajectories_per_s": round(count / cpu, 1),
        "wall_trajectories_per_s": round(count / wall, 1),
        "peak_rss_gib": round(peak_kib() / 2**20, 3),
    }


def peak_kib() -> int:
    """Return the most memory this process has held; getrusage counts that of its parent, too."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM:"))


def targets(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each target with the number measured and whether it is met."""
    ratios = results["against_the_published_way"]["ratio"]
    table = (
        ("prepare, trajectories/s", results["prepare"]["cpu_trajectories_per_s"]["median"], 150),
        ("weights in training, times the published way", ratios["weights_in_training"], 20),
        ("packing, percent full", results["loader_sorted"]["fill_percent"]["median"], 97),
        ("loader, tokens/s", results["loader_sorted"]["cpu_tokens_per_s"]["median"], 300_000),
        ("memory for synthetic data, GiB (at most)", results["memory"]["peak_rss_gib"], 1.5),
    )
    return {
        name: {
            "measured": value,
            "target": target,
            "met": value < target if "at most" in name else value >= target,
        }
        for name, value, target in table
    }


if __name__ == "__main__":
    main()
