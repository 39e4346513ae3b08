"""The side of google-tunix in ``model.py``: the train step of its PeftTrainer.

    PYTHON tools/bench/model_tunix.py DIRECTORY

PYTHON is an interpreter that has google-tunix, which need not have this package; DIRECTORY is
what ``model.py`` wrote. One step per line of the standard input. Its default loss shifts the
targets inside, so it computes ``length + 1`` positions for ``length`` of the others.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from model import BETAS, CLIP_NORM, FACTS, LEARNING_RATE, WEIGHT_DECAY
from tunix.models.llama3 import model as llama
from tunix.models.llama3 import params as llama_params
from tunix.sft import peft_trainer, utils


def main() -> None:
    """Serve steps; Tunix's own progress output goes to standard error."""
    directory = pathlib.Path(sys.argv[1])
    config = json.loads((directory / "model" / "config.json").read_text(encoding="utf-8"))
    sizes = llama.ModelConfig(
        num_layers=config["num_hidden_layers"],
        vocab_size=config["vocab_size"],
        embed_dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        num_heads=config["num_attention_heads"],
        head_dim=config["head_dim"],
        num_kv_heads=config["num_key_value_heads"],
        rope_theta=int(config["rope_theta"]),
        norm_eps=config["rms_norm_eps"],
        weight_tying=config["tie_word_embeddings"],
    )
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with mesh:
        model = llama_params.create_model_from_safe_tensors(
            str(directory / "model"), sizes, mesh, dtype=jnp.float32
        )
        optimizer = optax.chain(
            optax.clip_by_global_norm(CLIP_NORM),
            optax.adamw(LEARNING_RATE, b1=BETAS[0], b2=BETAS[1], weight_decay=WEIGHT_DECAY),
        )
        trainer = peft_trainer.PeftTrainer(
            model, optimizer, peft_trainer.TrainingConfig(eval_every_n_steps=1000, max_steps=1000)
        )
        step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
        tokens = jnp.asarray(np.load(directory / "tokens.npy"))
        batch = {
            "input_tokens": tokens,
            "input_mask": jnp.ones_like(tokens, bool),
            "positions": jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape),
            "attention_mask": utils.make_causal_attn_mask(jnp.ones_like(tokens, bool)),
        }
        print(
            FACTS + json.dumps({"google-tunix": importlib.metadata.version("google-tunix")}),
            flush=True,
        )
        for _ in sys.stdin:
            begin = time.perf_counter()
            loss = float(step(batch)[0])
            facts = {"seconds": time.perf_counter() - begin, "loss": loss}
            print(FACTS + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
