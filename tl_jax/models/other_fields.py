"""Fields of ``config.json`` that the registry does not read: harmless ones, and what is refused.

A field that nobody here knows may change the computation, and a model whose file is half read gives
other numbers without a word. So only what is known to be harmless passes, and values that ask for
nothing: null, false, zero and empty ones, and texts, lists and objects that only say something
about the model, as their names speak of no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.errors import ConfigError

_LIBRARY = """
    transformers_version dtype torch_dtype use_cache auto_map return_dict output_hidden_states
    output_attentions output_scores return_dict_in_generate torchscript use_bfloat16 pruned_heads
    attn_implementation use_flash_attn use_return_dict tokenizer_class task_specific_params prefix
    problem_type finetuning_task id2label label2id num_labels initializer_range pretraining_tp
    is_llama_config is_decoder tf_legacy_loss tie_encoder_decoder classifier_dropout
    transformers.js_config transformers_js_config chunk_size_feed_forward neftune_noise_alpha
    unsloth_fixed router_aux_loss_coef output_router_logits
""".split()
"""What the library and tools around it write of themselves, of training and of classification."""

_LENGTHS = "max_sequence_length model_max_length seq_length max_seq_len tokenizer_model_max_length"
"""Lengths that others keep; ours is ``max_position_embeddings``."""

_GENERATION = """
    bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id max_length max_new_tokens min_length do_sample
    early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
    repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    bad_words_ids num_return_sequences remove_invalid_values exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens
""".split()
"""Settings of generation, which old versions of the library wrote here."""

_HARMLESS = frozenset((*_LIBRARY, *_LENGTHS.split(), *_GENERATION))

# How the weights are packed, as transformers, MLX and older tools write it.
_QUANTISED = ("quantization_config", "quantization", "compression_config")
# Fields of which one value is implemented, for all families; and what to do about another.
_ONLY = {
    "hidden_act": "silu",
    "activation": "swiglu",
    "attention_dropout": 0.0,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    **dict.fromkeys(_QUANTISED),
    "is_causal": True,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "causal": True,
    "use_rope": True,
    "logits_scaling": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
}
# Other names of these values.
_ALSO = {"hidden_act": ("swish",), "activation": ("silu", "swish")}
_MENDS = {
    **dict.fromkeys(_QUANTISED, "take the weights from before the quantisation"),
    "attention_dropout": "it is for training alone, so that 0.0 there leaves the model as it is",
}

_OF_A_MODEL = """
    activation attention attn audio block bias clip config conv embed expert gate head hidden layer
    logit mamba mlp moe multiplier norm position quant residual rope rotary scal ssm type vision
    window
""".split()
"""What the name of a field speaks of whose value may change the computation."""


def check(raw: Mapping[str, Any], read: Iterable[str], only: Mapping[str, Any]) -> None:
    """Refuse fields that may ask for a computation which is not implemented.

    Args:
      raw: The whole ``config.json``.
      read: Fields that are read elsewhere.
      only: Fields of which one value is implemented for this family (an absent field counts as
        that).

    Raises:
      ConfigError: The message names the field.
    """
    for field, value in {**_ONLY, **only}.items():
        if raw.get(field, value) not in (value, None, *_ALSO.get(field, ())):
            mend = f"; {_MENDS[field]}" if field in _MENDS else ""
            raise ConfigError(
                f"{field} is {shown(raw[field])}; only {value!r} is implemented for "
                f"{raw['model_type']} models{mend}"
            )
    known = _HARMLESS.union(read, _ONLY, only)
    for field, value in raw.items():
        if field in known or field.startswith("_") or not value:
            continue
        spoken_of = any(part in field.lower() for part in _OF_A_MODEL)
        if isinstance(value, (str, list, Mapping)) and not spoken_of:
            continue
        raise ConfigError(
            f"{field} is {shown(value)}, which is not known here and may change the computation; "
            "if it does not, take it out of the file"
        )


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
