"""Train the small base model that ships with the package.

It reads English about the embedded tool world (documentation, requests, what a clerk would note)
and never sees a tool call. From the second pass on invented words take the place of known ones, so
that names and values must be copied; in the third, manuals are as long as the prompts of the tool
world; in the fourth, the loss dwells on what a text lets one foresee and manuals answer more
requests; in the fifth, a label announces how the answer is put, and values hold invented words,
too. Passes take 15 to 55 minutes on 2 cores. The texts follow the tool world as it was at the
revision of this file named first:

    a17efbe  python tools/pretrain_base.py --out=first --strange_share=0 --documentation_weight=0.2
    0d02d6b  python tools/pretrain_base.py --out=second --init=first --seed=1 --documents=26000 \\
                 --steps=1400 --learning_rate=2e-3
    cd4ca48  python tools/pretrain_base.py --out=third --init=second --seed=2 --documents=20000 \\
                 --steps=1000 --learning_rate=1.5e-3 --extra_tools=4
    1e12b2a  python tools/pretrain_base.py --out=fourth --init=third --seed=4 \\
                 --documents=45000 --steps=2200 --learning_rate=2e-3 --extra_tools=2 \\
                 --strange_share=0.5
    9e9e62b  python tools/pretrain_base.py --out=tl_jax/assets/base --init=fourth --seed=5 \\
                 --documents=52000 --steps=2500 --learning_rate=2e-3 --extra_tools=2 \\
                 --strange_share=0.5
"""

import os
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags

from tl_jax.config import ModelConfig, OptimConfig
from tl_jax.convert import from_hf, to_hf
from tl_jax.data import synthetic
from tl_jax.data.examples import shards
from tl_jax.data.examples.build import Example
from tl_jax.data.loader.loader import make_loader
from tl_jax.data.tokenize.tokenizer import Tokenizer, load_tokenizer, train_byte_bpe
from tl_jax.models import functional
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch

OUT = flags.DEFINE_string("out", None, "directory to write", required=True)
STEPS = flags.DEFINE_integer("steps", 2000, "optimiser steps")
DOCUMENTS = flags.DEFINE_integer("documents", 40_000, "texts generated; none is read twice")
SEED = flags.DEFINE_integer("seed", 0, "seed of texts, weights and order")
INIT = flags.DEFINE_string("init", "", "directory of an earlier pass to go on from")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 3e-3, "peak learning rate")
EXTRA_TOOLS = flags.DEFINE_integer("extra_tools", 0, "most tools added to a manual")
STRANGE_SHARE = flags.DEFINE_float("strange_share", 0.6, "share of texts with invented words")
# Values and wordings are drawn at random: most of a text cannot be foreseen and teaches little.
OTHER_WEIGHT = flags.DEFINE_float(
    "other_weight", 0.1, "loss weight of what does not follow from the text before it"
)

VOCAB_SIZE, LENGTH, ROWS = 1024, 768, 6


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


def texts(count: int) -> Iterator[synthetic.BaseText]:
    """Return the first texts of this pass."""
    return synthetic.base_texts(
        count,
        seed=SEED.value,
        strange_share=STRANGE_SHARE.value,
        extra_tools=EXTRA_TOOLS.value,
    )


def write_examples(path: str, tokenizer: Tokenizer) -> None:
    """Write the tokenised texts with their loss weights."""

    def examples() -> Iterator[Example]:
        for number, text in enumerate(texts(DOCUMENTS.value)):
            ids, offsets = tokenizer.encode(text.text)
            weights = [
                1.0
                if any(low <= start < high for low, high in text.answers)
                else OTHER_WEIGHT.value
                for start, _ in offsets
            ]
            ids, weights = [*ids, tokenizer.eos_id], [0.0, *weights[1:], 1.0]
            yield Example(str(number), ids[:LENGTH], weights[:LENGTH], {})

    shards.write_examples(path, examples())


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = INIT.value or os.path.join(scratch, "bpe")
        if INIT.value:
            tokenizer = load_tokenizer(INIT.value)
        else:
            tokenizer = train_byte_bpe((text.text for text in texts(6000)), VOCAB_SIZE, source)
        examples = os.path.join(scratch, "examples")
        write_examples(examples, tokenizer)
        loader = make_loader(
            examples, length=LENGTH, rows=ROWS, seed=SEED.value, packing=True, packing_bins=32
        )
        config = model_config(tokenizer.vocab_size)
        settings = OptimConfig(
            learning_rate=LEARNING_RATE.value,
            warmup_steps=100,
            weight_decay=0.1,
            final_fraction=0.02,
        )
        optimizer = optim.make_optimizer(settings, STEPS.value)
        if INIT.value:
            params = from_hf.load(INIT.value)
        else:
            params = functional.init(config, jax.random.key(SEED.value))
        state = step_lib.init_state(params, optimizer)
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
            source=source,
            dtype="bfloat16",
            generation={"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id},
            overwrite=True,
        )


if __name__ == "__main__":
    app.run(main)
