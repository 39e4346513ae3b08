"""Measure the supervised train step against transformers + torch on one NVIDIA GPU.

    python tools/bench/gpu.py [--rows=4] [--length=4096] [--steps=10] [--out=FILE]

Both sides train a LLaMA decoder with the sizes of Llama-3.2-1B from random weights, on the same
token rows: parameters and AdamW in float32, matrix products in bfloat16. The peer has SDPA (flash
attention), fused AdamW and torch.compile; "torch_bfloat16" holds its parameters in bfloat16, too,
which is less than the others do. "tl_jax_packed" has eight texts in each row that do not see each
other; the peer has no such side. Each side runs in a process of its own, one after the other, with
as many rows as it is given: so that the memory measured is its own. Needs no network.

MFU is model FLOPs per second over the card's published dense bfloat16 peak; model FLOPs are three
times the forward pass: 2 * matrices a token, and 2 * length * heads * head_dim a layer for causal
attention, which is half of all scores. The second forward pass of rematerialisation does not count.
With --tiny and without a GPU it runs in a minute; then the numbers mean nothing.
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
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tl_jax.config import ModelConfig, OptimConfig  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results" / "gpu.json"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers", "numpy")
SIZES = ModelConfig(
    vocab_size=128256,
    embed_dim=2048,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    mlp_dim=8192,
    rope_theta=500000.0,
    tie_embeddings=True,
    max_position=8192,
    dtype="bfloat16",
)
TINY = dataclasses.replace(
    SIZES, vocab_size=512, embed_dim=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
    mlp_dim=128, dtype="float32",
)  # fmt: skip
OPTIMISER = OptimConfig(learning_rate=1e-4, warmup_steps=0, schedule="constant")
SIDES = ("tl_jax", "tl_jax_packed", "torch", "torch_bfloat16")
TEXTS = 8
"""Texts in a row of the packed side."""

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}
"""Dense bfloat16 operations per second, from NVIDIA's data sheets of the SXM cards."""


def main() -> None:
    """Run the sides one after the other and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=10, help="timed, after three that are not")
    parser.add_argument("--remat", default="minimal")
    parser.add_argument("--unroll", type=int, default=1, help="layers in a step of the loop")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--ce_chunk", type=int, default=1024)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return
    found = {side: in_process(side) for side in options.sides.split(",")}
    results = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        **{
            name: getattr(options, name)
            for name in ("rows", "length", "remat", "unroll", "ce_chunk")
        },
        "parameters": parameters(TINY if options.tiny else SIZES),
        "sides": found,
        "targets": {"mfu": 0.45, "ratio_to_torch": 1.15},
    }
    own = found.get("tl_jax", {}).get("tokens_per_s")
    if own:
        results["ratios"] = {
            f"to {side}": round(own / one["tokens_per_s"], 3)
            for side, one in found.items()
            if side.startswith("torch") and "tokens_per_s" in one
        }
    text = json.dumps(results, indent=1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def in_process(side: str) -> dict[str, Any]:
    """Return what a process of its own measures for one side, or how it failed."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--side={side}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr[-2000:]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one side."""
    sizes = TINY if options.tiny else SIZES
    tokens = np.random.default_rng(0).integers(
        1, sizes.vocab_size, (options.rows, options.length + 1), np.int32
    )
    texts = TEXTS if options.side == "tl_jax_packed" else 1
    if options.side.startswith("tl_jax"):
        sizes = dataclasses.replace(
            sizes, remat=options.remat, unroll=options.unroll, attention=options.attention
        )
        run, card, peak_memory = own_step(sizes, tokens, options.ce_chunk, texts)
    else:
        run, card, peak_memory = torch_step(sizes, tokens, options.side == "torch_bfloat16")
    began = time.perf_counter()
    run()
    first = time.perf_counter() - began
    for _ in range(2):
        loss = run()
    seconds = []
    for _ in range(options.steps):
        began = time.perf_counter()
        loss = run()
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    size = options.rows * options.length
    flops = model_flops(sizes, texts * options.rows, options.length // texts)
    peaks = [peak for name, peak in PEAKS.items() if name in card]
    return {
        "card": card,
        "first_step_s": round(first, 1),
        "step_s": {"median": round(median, 4), "all": [round(value, 4) for value in seconds]},
        "tokens_per_s": round(size / median, 1),
        "model_tflops_per_s": round(flops / median / 1e12, 1),
        "mfu": round(flops / median / peaks[0], 4) if peaks else None,
        "peak_memory_gib": round(peak_memory() / 1024**3, 2),
        "last_loss": round(loss, 3),
    }


def matrices(sizes: ModelConfig) -> int:
    """Return the sizes of all matrices that a token is multiplied with."""
    heads = (2 * sizes.num_heads + 2 * sizes.num_kv_heads) * sizes.head_dim
    layer = sizes.embed_dim * (heads + 3 * sizes.mlp_dim)
    return sizes.num_layers * layer + sizes.embed_dim * sizes.vocab_size


def parameters(sizes: ModelConfig) -> int:
    """Return the number of parameters; the embedding is the output projection."""
    return matrices(sizes) + (2 * sizes.num_layers + 1) * sizes.embed_dim


def model_flops(sizes: ModelConfig, rows: int, length: int) -> float:
    """Return the model FLOPs of a step, as said at the head of this file."""
    scores = 2 * length * sizes.num_heads * sizes.head_dim * sizes.num_layers
    return 3.0 * rows * length * (2 * matrices(sizes) + scores)


Side = tuple[Callable[[], float], str, Callable[[], float]]


def own_step(sizes: ModelConfig, tokens: np.ndarray, ce_chunk: int, texts: int) -> Side:
    """Return a function that makes one step of this package, the card, and its peak memory."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    import jax

    from tl_jax.config import MeshConfig
    from tl_jax.models import functional
    from tl_jax.parallel import sharding
    from tl_jax.parallel.mesh import make_mesh
    from tl_jax.train import optimizer as optim
    from tl_jax.train import step as step_lib
    from tl_jax.types import Batch

    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    jax.set_mesh(mesh)
    optimizer = optim.make_optimizer(OPTIMISER, 1000)
    step = step_lib.make_train_step(sizes, step_lib.LossConfig(ce_chunk=ce_chunk), optimizer)
    abstract = step_lib.abstract_state(functional.abstract_params(sizes), optimizer, mesh)
    layout = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    where = sharding.batch_sharding(mesh)
    jitted = step_lib.jit_train_step(step, layout, where, {})
    rows, length = tokens.shape[0], tokens.shape[1] - 1
    places = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    batch = Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        weights=np.ones((rows, length), np.float32),
        positions=places % (length // texts),
        visible_until=(1 + places // (length // texts)) * (length // texts),
    )
    batch = jax.device_put(batch, where)

    def start(key: jax.Array) -> Any:
        return step_lib.init_state(functional.init(sizes, key), optimizer)

    state = [jax.jit(start, out_shardings=layout)(jax.random.key(0))]

    def run() -> float:
        state[0], metrics = jitted(state[0], batch, {})
        return float(metrics.ce_loss)

    device = jax.devices()[0]
    return (
        run,
        device.device_kind,
        lambda: (device.memory_stats() or {}).get("peak_bytes_in_use", 0),
    )


def torch_step(sizes: ModelConfig, tokens: np.ndarray, is_bfloat16: bool) -> Side:
    """Return the same for transformers' LLaMA in torch."""
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    config = transformers.LlamaConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.embed_dim,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        head_dim=sizes.head_dim,
        intermediate_size=sizes.mlp_dim,
        tie_word_embeddings=True,
        max_position_embeddings=sizes.max_position,
        attn_implementation="sdpa",
        use_cache=False,
    )
    with device:
        model = transformers.LlamaForCausalLM(config)
    model.to(device, torch.bfloat16 if is_bfloat16 else torch.float32)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=OPTIMISER.learning_rate,
        betas=(OPTIMISER.b1, OPTIMISER.b2),
        weight_decay=OPTIMISER.weight_decay,
        fused=on_gpu,
    )
    inputs = torch.from_numpy(tokens[:, :-1].astype(np.int64)).to(device)
    targets = torch.from_numpy(tokens[:, 1:].astype(np.int64)).to(device)

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(inputs).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    compiled = torch.compile(loss_of) if on_gpu else loss_of

    def run() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=not is_bfloat16):
            loss = compiled(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMISER.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    card = torch.cuda.get_device_name() if on_gpu else "cpu"
    return run, card, torch.cuda.max_memory_allocated if on_gpu else lambda: 0.0


if __name__ == "__main__":
    main()
