"""Measure the supervised train step on the CPU against the other ways to do it.

    python tools/bench/model.py [--rows=2] [--length=512] [--rounds=5] [--out=FILE]
        [--tunix_python=PYTHON]

All sides train a LLaMA decoder with the sizes of SmolLM2-135M in float32, from the same random
weights on the same token rows: forward, backward, clipped AdamW. Each has a process of its own, set
up as its users have it, and they take turns, a block of steps each, while the others sleep; so
other work on the machine disturbs all alike. The medians are compared.

Sides: ``tl_jax``; ``torch`` (transformers' LLaMA, scaled-dot-product attention); ``torch_kept``,
the same where the C library keeps freed memory, as this package sets it for itself; and ``tunix``
(the step of its PeftTrainer), if a Python that has google-tunix is given. Takes about ten minutes
on 2 cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "model.json"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers", "numpy")
LEARNING_RATE, CLIP_NORM, WEIGHT_DECAY, BETAS = 1e-4, 1.0, 0.01, (0.9, 0.95)
# As in tl_jax/parallel/host_memory.py, for a process that is about to begin.
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9999999999999:glibc.malloc.arena_max=1"
TARGETS = {"torch": 1.05, "tunix": 1.8}
FACTS = "FACTS "


def main() -> None:
    """Let the sides take turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="per round; the first is not counted")
    parser.add_argument("--tunix_python", default="", help="an interpreter that has google-tunix")
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--directory", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(SIDES[options.side](pathlib.Path(options.directory)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Time this package beside torch, then beside Tunix, and write the results."""
    start_load = os.getloadavg()[0]
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(pathlib.Path(name), options.rows, options.length)
        own = [sys.executable, __file__, f"--directory={name}"]
        ours = {"tl_jax": [*own, "--side=tl_jax"]}
        # Not all at once: they would not fit into the memory of a small machine.
        groups = [
            ours
            | {
                "torch": [*own, "--side=torch"],
                "torch_kept": ["env", f"GLIBC_TUNABLES={KEPT}", *own, "--side=torch"],
            }
        ]
        if options.tunix_python:
            script = str(HERE / "model_tunix.py")
            groups.append(ours | {"tunix": [options.tunix_python, script, name]})
        measured = [take_turns(group, options.rounds, options.steps, facts) for group in groups]
    size = options.rows * options.length
    results = {
        "machine": machine(start_load) | facts,
        "note": options.note,
        "rows": options.rows,
        "length": options.length,
        "groups": [
            {
                side: {
                    "first_step_s": round(first["seconds"], 1),
                    "first_loss": round(first["loss"], 4),
                    "step_s": {
                        "median": round(statistics.median(seconds), 3),
                        "all": [round(value, 3) for value in seconds],
                    },
                    "tokens_per_s": round(size / statistics.median(seconds), 1),
                }
                for side, (first, seconds) in group.items()
            }
            for group in measured
        ],
        "ratio_to": {
            side: round(
                statistics.median(seconds) / statistics.median(group["tl_jax"][1]),
                3,
            )
            for group in measured
            for side, (_, seconds) in group.items()
            if side != "tl_jax"
        },
        "targets": TARGETS,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def take_turns(
    commands: dict[str, list[str]], rounds: int, steps: int, facts: dict[str, Any]
) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Start a process per side; return the first step of each and the seconds of later ones.

    Raises:
      SystemExit: The sides do not compute the same loss.
    """
    sides: dict[str, subprocess.Popen[str]] = {}
    measured: dict[str, tuple[dict[str, Any], list[float]]] = {}
    try:
        for side, command in commands.items():
            sides[side] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            facts |= answer(sides[side])
            measured[side] = (ask(sides[side]), [])
            print(f"{side}: {measured[side][0]}", flush=True)
        losses = [first["loss"] for first, _ in measured.values()]
        if max(losses) - min(losses) > 1e-3 * max(losses):
            raise SystemExit("the sides do not compute the same loss")
        for number in range(rounds):
            for side, process in sides.items():
                took = [ask(process)["seconds"] for _ in range(steps)]
                measured[side][1].extend(took[1:])
            print(f"round {number + 1} of {rounds}", flush=True)
    finally:
        for process in sides.values():
            process.kill()
    return measured


def ask(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Let a side make one step; return its wall ``seconds`` and its ``loss``."""
    assert process.stdin is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next facts of a side; what else it prints is passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(FACTS):
            return json.loads(line.removeprefix(FACTS))
    raise SystemExit(f"a side ended early: {process.args}")


def serve(step: Callable[[], float]) -> None:
    """Answer each line of the standard input with the time and loss of a step."""
    print(FACTS + "{}", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        loss = step()
        print(
            FACTS + json.dumps({"seconds": time.perf_counter() - begin, "loss": loss}), flush=True
        )


def machine(load: float) -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": len(os.sched_getaffinity(0)),
        "load_at_start": round(load, 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def prepare(directory: pathlib.Path, rows: int, length: int) -> None:
    """Write the model that all sides begin with, and the token rows ``[rows, length + 1]``."""
    import jax

    from tl_jax.config import ModelConfig
    from tl_jax.convert import to_hf
    from tl_jax.models import functional

    sizes = ModelConfig(
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
    to_hf.save(functional.init(sizes, jax.random.key(0)), directory / "model", config=sizes)
    tokens = np.random.default_rng(0).integers(1, sizes.vocab_size, (rows, length + 1), np.int32)
    np.save(directory / "tokens.npy", tokens)


def own_step(directory: pathlib.Path) -> Callable[[], float]:
    """Return a function that makes one step of this package and returns the loss."""
    from tl_jax.parallel import host_memory

    host_memory.keep_freed()
    import jax

    from tl_jax.config import OptimConfig
    from tl_jax.convert import from_hf
    from tl_jax.models import registry
    from tl_jax.train import optimizer as optim
    from tl_jax.train import step as step_lib
    from tl_jax.types import Batch

    config = registry.read_config(directory / "model")
    optimizer = optim.make_optimizer(
        OptimConfig(
            learning_rate=LEARNING_RATE,
            b1=BETAS[0],
            b2=BETAS[1],
            weight_decay=WEIGHT_DECAY,
            clip_norm=CLIP_NORM,
            warmup_steps=0,
            schedule="constant",
        ),
        1000,
    )
    step = jax.jit(
        step_lib.make_train_step(config, step_lib.LossConfig(), optimizer), donate_argnums=0
    )
    tokens = np.load(directory / "tokens.npy")
    rows, length = tokens.shape[0], tokens.shape[1] - 1
    batch = Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        weights=np.ones((rows, length), np.float32),
        positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        visible_until=np.full((rows, length), length, np.int32),
    )
    batch = jax.device_put(batch)
    state = [step_lib.init_state(from_hf.load(directory / "model"), optimizer)]

    def run() -> float:
        state[0], metrics = step(state[0], batch)
        return float(metrics.ce_loss)

    return run


def torch_step(directory: pathlib.Path) -> Callable[[], float]:
    """Return the same for transformers' LLaMA with scaled-dot-product attention."""
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory / "model", dtype=torch.float32, attn_implementation="sdpa", use_cache=False
    ).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY
    )
    tokens = torch.from_numpy(np.load(directory / "tokens.npy").astype(np.int64))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def run() -> float:
        logits = model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return run


SIDES = {"tl_jax": own_step, "torch": torch_step}

if __name__ == "__main__":
    main()
