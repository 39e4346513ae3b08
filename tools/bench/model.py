"""Measure the supervised train step against transformers + torch on the CPU.

    python tools/bench/model.py [--rows=2] [--length=512] [--rounds=5] [--out=FILE]

Both sides train a LLaMA decoder with the sizes of SmolLM2-135M from random weights in float32:
forward, backward, clipped AdamW, on the same token rows. They take turns in one process, a block of
steps each, so that other work on the machine disturbs both alike; the medians are compared. Takes
about five minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import transformers

from tl_jax.config import ModelConfig, OptimConfig
from tl_jax.models import functional
from tl_jax.train import optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch

RESULTS = pathlib.Path(__file__).parent / "results" / "model.json"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers", "numpy")
SIZES = ModelConfig(
    vocab_size=49152,
    embed_dim=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_dim=1536,
    rope_theta=100000.0,
    tie_embeddings=True,
    max_position=8192,
)
OPTIMISER = OptimConfig(learning_rate=1e-4, warmup_steps=0, schedule="constant")


def main() -> None:
    """Time both train steps in turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="per round; the first is not counted")
    parser.add_argument("--remat", default=SIZES.remat)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    tokens = np.random.default_rng(0).integers(
        1, SIZES.vocab_size, (options.rows, options.length + 1), np.int32
    )
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    steps = {"tl_jax": own_step(tokens, options.remat), "torch": torch_step(tokens)}
    first = {name: timed(step)[0] for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, step in steps.items():
            for number in range(options.steps):
                took, losses[name] = timed(step)
                if number:
                    seconds[name].append(took)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    size = options.rows * options.length
    results = {
        "machine": machine(threads),
        "note": options.note,
        "rows": options.rows,
        "length": options.length,
        "remat": options.remat,
        "first_step_s": {name: round(value, 1) for name, value in first.items()},
        "step_s": {
            name: {"median": round(medians[name], 3), "all": [round(v, 3) for v in values]}
            for name, values in seconds.items()
        },
        "tokens_per_s": {name: round(size / value, 1) for name, value in medians.items()},
        "ratio_to_torch": round(medians["torch"] / medians["tl_jax"], 3),
        "last_loss": {name: round(value, 3) for name, value in losses.items()},
        "target": 1.05,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def machine(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": threads,
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def timed(step: Callable[[], float]) -> tuple[float, float]:
    """Return the wall seconds of a step and its loss."""
    begin = time.perf_counter()
    loss = step()
    return time.perf_counter() - begin, loss


def own_step(tokens: np.ndarray, remat: str) -> Callable[[], float]:
    """Return a function that makes one step of this package and returns the loss."""

    config = dataclasses.replace(SIZES, remat=remat)
    optimizer = optim.make_optimizer(OPTIMISER, 1000)
    step = jax.jit(
        step_lib.make_train_step(config, step_lib.LossConfig(ce_chunk=512), optimizer),
        donate_argnums=0,
    )
    rows, length = tokens.shape[0], tokens.shape[1] - 1
    batch = Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        weights=np.ones((rows, length), np.float32),
        positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        segment_ids=np.ones((rows, length), np.int32),
    )
    batch = jax.device_put(batch)
    state = [step_lib.init_state(functional.init(config, jax.random.key(0)), optimizer)]

    def run() -> float:
        state[0], metrics = step(state[0], batch)
        return float(metrics.ce_loss)

    return run


def torch_step(tokens: np.ndarray) -> Callable[[], float]:
    """Return the same for transformers' LLaMA with scaled-dot-product attention."""
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=SIZES.vocab_size,
            hidden_size=SIZES.embed_dim,
            num_hidden_layers=SIZES.num_layers,
            num_attention_heads=SIZES.num_heads,
            num_key_value_heads=SIZES.num_kv_heads,
            intermediate_size=SIZES.mlp_dim,
            tie_word_embeddings=True,
            max_position_embeddings=SIZES.max_position,
            attn_implementation="sdpa",
            use_cache=False,
        )
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=OPTIMISER.learning_rate,
        betas=(OPTIMISER.b1, OPTIMISER.b2),
        weight_decay=OPTIMISER.weight_decay,
    )
    inputs = torch.from_numpy(tokens[:, :-1].astype(np.int64))
    targets = torch.from_numpy(tokens[:, 1:].astype(np.int64))

    def run() -> float:
        logits = model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMISER.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return run


if __name__ == "__main__":
    main()
