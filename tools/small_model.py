"""Write a small model with random weights and a chat template of its own, to try commands with.

    python tools/small_model.py --texts=trajectories.jsonl --target=MODEL

Its byte-level tokenizer is trained on the lines of the file and has the tokens of ChatML; its chat
template is ChatML with tools, as the models of Qwen2.5 have it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
from absl import app, flags
from transformers import PreTrainedTokenizerFast

from tl_jax.config import ModelConfig
from tl_jax.convert import to_hf
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.tokenize.tokenizer import train_byte_bpe
from tl_jax.models import functional

_TEXTS = flags.DEFINE_string("texts", None, "file whose lines the tokenizer learns", required=True)
_TARGET = flags.DEFINE_string("target", None, "directory to write", required=True)


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(_TEXTS.value).read_text(encoding="utf-8").splitlines()
        train_byte_bpe(lines, 500, Path(folder) / "plain")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(Path(folder) / "plain")
        tokenizer.add_tokens(list(NEEDED_TOKENS), special_tokens=True)
        tokenizer.chat_template = CHATML_TOOLS
        tokenizer.save_pretrained(Path(folder) / "chat")
        model = ModelConfig(
            vocab_size=len(tokenizer),
            embed_dim=32,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            head_dim=16,
            mlp_dim=64,
            tie_embeddings=True,
            max_position=4096,
        )
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        to_hf.save(
            functional.init(model, jax.random.key(0)),
            Path(_TARGET.value),
            config=model,
            source=Path(folder) / "chat",
            generation={"eos_token_id": end},
        )


if __name__ == "__main__":
    app.run(main)
