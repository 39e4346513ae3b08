"""Train the small base model that ships with the package.

It reads English about the embedded tool world (documentation, requests, what a clerk would note)
and never sees a tool call. About 30 minutes on 2 cores; writes a Hugging Face directory:

    python tools/pretrain_base.py --out=tl_jax/assets/base
"""

import json
import os
import tempfile
import time

import jax
import numpy as np
from absl import app, flags

from tl_jax.config import ModelConfig, OptimConfig
from tl_jax.convert import to_hf
from tl_jax.data import synthetic
from tl_jax.data.pipeline import make_loader
from tl_jax.data.tokenizer import Tokenizer, train_byte_bpe
from tl_jax.models import functional
from tl_jax.train import optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch

OUT = flags.DEFINE_string("out", None, "directory to write", required=True)
STEPS = flags.DEFINE_integer("steps", 2000, "optimiser steps")
DOCUMENTS = flags.DEFINE_integer("documents", 40_000, "texts generated; none is read twice")
SEED = flags.DEFINE_integer("seed", 0, "seed of texts, weights and order")

VOCAB_SIZE, LENGTH, ROWS = 1024, 768, 6
# What precedes the first request is read rather than learnt: half of its words are invented.
DOCUMENTATION_WEIGHT = 0.2
OPTIM = OptimConfig(learning_rate=3e-3, warmup_steps=100, weight_decay=0.1, final_fraction=0.02)


def model_config(vocab_size: int) -> ModelConfig:
    """Return the sizes of the base model, 1.3 million parameters."""
    return ModelConfig(
        vocab_size=vocab_size,
        embed_dim=160,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=40,
        mlp_dim=448,
        tie_embeddings=True,
        max_position=2048,
    )


def write_examples(path: str, tokenizer: Tokenizer) -> None:
    """Write the tokenised texts with their loss weights, one JSON line each."""
    with open(path, "w", encoding="utf-8") as file:
        for number, text in enumerate(synthetic.base_texts(DOCUMENTS.value, seed=SEED.value)):
            ids, offsets = tokenizer.encode(text)
            request = max(text.find("User:"), 0)
            weights = [1.0 if start >= request else DOCUMENTATION_WEIGHT for start, _ in offsets]
            ids, weights = [*ids, tokenizer.eos_id], [0.0, *weights[1:], 1.0]
            if len(ids) <= LENGTH:
                row = {"id": str(number), "ids": ids, "weights": weights, "tags": {}}
                file.write(json.dumps(row) + "\n")


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = train_byte_bpe(
            synthetic.base_texts(6000, seed=SEED.value), VOCAB_SIZE, os.path.join(scratch, "bpe")
        )
        examples = os.path.join(scratch, "examples.jsonl")
        write_examples(examples, tokenizer)
        loader = make_loader(
            examples, length=LENGTH, rows=ROWS, seed=SEED.value, packing=True, packing_bins=32
        )
        config = model_config(tokenizer.vocab_size)
        optimizer = optim.make_optimizer(OPTIM, STEPS.value)
        state = step_lib.init_state(functional.init(config, jax.random.key(SEED.value)), optimizer)
        train_step = jax.jit(
            step_lib.make_train_step(config, step_lib.LossConfig(ce_chunk=256), optimizer),
            donate_argnums=0,
        )
        begin = time.time()
        for number in range(1, STEPS.value + 1):
            state, metrics = train_step(state, Batch(**next(loader)))
            if number % 100 == 0:
                rate = number * ROWS * LENGTH / (time.time() - begin)
                print(f"step {number} loss {metrics.ce_loss:.3f} {rate:.0f} tokens/s", flush=True)
        params = jax.tree.map(np.asarray, state.params)
        to_hf.save(
            params,
            OUT.value,
            config=config,
            source=os.path.join(scratch, "bpe"),
            dtype="bfloat16",
            generation={"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id},
            overwrite=True,
        )


if __name__ == "__main__":
    app.run(main)
