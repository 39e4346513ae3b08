"""Architectures of released models, so that a plan for them needs neither network nor licence."""

from __future__ import annotations

from typing import Any

from tl_jax.config import ModelConfig
from tl_jax.models import registry

_LLAMA_3_1 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": False,
}

FIELDS: dict[str, dict[str, Any]] = {
    "codellama/CodeLlama-7b-hf": {
        "model_type": "llama",
        "vocab_size": 32016,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.1-8B": _LLAMA_3_1,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_3_1,
    "Qwen/Qwen2.5-7B-Instruct": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    },
}
"""What the ``config.json`` of each says about its shapes, by its id on the Hugging Face Hub."""


def find(path: str) -> ModelConfig | None:
    """Return the architecture of a model by its id, or None if it is not known.

    Args:
      path: The id, with or without a revision.
    """
    fields = FIELDS.get(path.partition("@")[0])
    return None if fields is None else registry.parse(fields, source=path)
