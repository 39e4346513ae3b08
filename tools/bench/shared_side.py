"""Train on packed rows, a step a line of input: one side of ``tools/bench/shared.py``.

    PYTHONPATH=CHECKOUT python tools/bench/shared_side.py SIDE FOLDER ROWS

Runs with whatever checkout stands on PYTHONPATH, also with those whose rows know no trees.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import model as bench
import numpy as np


def rows_of(folder: pathlib.Path, name: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows again and again."""
    loaded = [dict(np.load(path)) for path in sorted(folder.glob(f"{name}-*.npz"))]
    return itertools.cycle(loaded)


def own_step(folder: pathlib.Path, name: str) -> Callable[[], float]:
    """Return a function that makes one step of the package and returns the loss."""
    from tl_jax.parallel import host_memory

    host_memory.keep_freed()
    import jax

    from tl_jax.config import OptimConfig
    from tl_jax.convert import from_hf
    from tl_jax.models import registry
    from tl_jax.train import optimizer as optim
    from tl_jax.train import step as step_lib
    from tl_jax.types import Batch

    config = registry.read_config(folder / "model")
    optimizer = optim.make_optimizer(
        OptimConfig(
            learning_rate=bench.LEARNING_RATE,
            b1=bench.BETAS[0],
            b2=bench.BETAS[1],
            weight_decay=bench.WEIGHT_DECAY,
            clip_norm=bench.CLIP_NORM,
            warmup_steps=0,
            schedule="constant",
        ),
        1000,
    )
    made = step_lib.make_train_step(config, step_lib.LossConfig(), optimizer)
    step = jax.jit(made, donate_argnums=0)
    state = [step_lib.init_state(from_hf.load(folder / "model"), optimizer)]
    known = {field.name for field in dataclasses.fields(Batch)}
    rows = rows_of(folder, name)

    def run() -> float:
        row = next(rows)
        if "segment_ids" in known:
            # In rows of plain texts each has an end of its own.
            row["segment_ids"] = np.unique(row["visible_until"], return_inverse=True)[1].reshape(
                row["tokens"].shape
            )
            row["segment_ids"] = np.where(row["visible_until"] > 0, row["segment_ids"] + 1, 0)
        batch = Batch(**{key: np.asarray(row[key]) for key in row if key in known})
        state[0], metrics = step(state[0], jax.device_put(batch))
        return float(metrics.ce_loss)

    return run


def torch_step(folder: pathlib.Path, name: str, *, autocast: bool) -> Callable[[], float]:
    """Return the same for transformers' LLaMA with scaled-dot-product attention."""
    import os

    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation="sdpa", use_cache=False
    ).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=bench.LEARNING_RATE,
        betas=bench.BETAS,
        weight_decay=bench.WEIGHT_DECAY,
    )
    rows = rows_of(folder, name)

    def run() -> float:
        row = {key: torch.from_numpy(np.asarray(value)) for key, value in next(rows).items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            hidden: Any = model.model(row["tokens"].long())[0]
            counted = row["weights"] > 0  # logits of targets that are trained, as on our side
            logits = model.lm_head(hidden[counted])
        losses = torch.nn.functional.cross_entropy(
            logits.float(), row["targets"][counted].long(), reduction="none"
        )
        weights = row["weights"][counted]
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), bench.CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return run


def main(side: str, folder: str, rows: str) -> None:
    """Answer lines until there are no more."""
    path = pathlib.Path(folder)
    if side.startswith("torch"):
        bench.serve(torch_step(path, rows, autocast=side == "torch_bfloat16"))
    else:
        bench.serve(own_step(path, rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
