"""config.json is read faithfully, and what is not implemented is refused by name."""

import contextlib
import dataclasses
import json
import math

import jax
import pytest

from tl_jax.config import ModelConfig, RopeScaling, RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError
from tl_jax.models import functional, registry

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 50000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}


MISTRAL = {**LLAMA, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(tmp_path, remove=(), family=LLAMA, **changes):
    values = {**family, **changes}
    for field in remove:
        del values[field]
    (tmp_path / "config.json").write_text(json.dumps(values))
    return registry.read_config(tmp_path)


def test_every_size_of_the_file_arrives(tmp_path):
    assert read(tmp_path) == ModelConfig(
        vocab_size=320,
        embed_dim=64,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        mlp_dim=96,
        rope_theta=50000.0,
        norm_eps=1e-5,
        tie_embeddings=True,
        max_position=512,
    )


def test_computation_settings_are_passed_through(tmp_path):
    read(tmp_path)
    config = registry.read_config(
        tmp_path / "config.json",
        dtype="bfloat16",
        param_dtype="bfloat16",
        remat="full",
        attention="dense",
    )
    assert (config.dtype, config.param_dtype) == ("bfloat16", "bfloat16")
    assert (config.remat, config.attention) == ("full", "dense")


def test_absent_fields_take_the_defaults_of_transformers(tmp_path):
    absent = ("num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings")
    config = read(tmp_path, remove=(*absent, "max_position_embeddings"))
    assert config.num_kv_heads == 4
    assert (config.norm_eps, config.rope_theta) == (1e-6, 10000.0)
    assert (config.tie_embeddings, config.max_position) == (False, 2048)


def test_head_dim_may_differ_from_the_quotient(tmp_path):
    assert read(tmp_path, head_dim=32).head_dim == 32


def test_rotary_base_is_found_in_the_section_of_newer_files(tmp_path):
    section = {"rope_type": "default", "rope_theta": 1234.0}
    assert read(tmp_path, remove=("rope_theta",), rope_parameters=section).rope_theta == 1234.0
    with pytest.raises(ConfigError, match="rotary bases disagree"):
        read(tmp_path, rope_parameters=section)


def test_llama_biases_are_read(tmp_path):
    config = read(tmp_path, attention_bias=True, mlp_bias=True)
    assert (config.attention_bias, config.mlp_bias) == ("qkvo", True)


def test_qwen_has_the_biases_and_norms_of_its_version(tmp_path):
    second, third = read(tmp_path, family=QWEN2), read(tmp_path, family=QWEN3)
    assert (second.attention_bias, second.qk_norm, second.head_dim) == ("qkv", False, 16)
    assert (third.attention_bias, third.qk_norm, third.head_dim) == ("none", True, 32)
    assert read(tmp_path, family=QWEN3, attention_bias=True).attention_bias == "qkvo"
    assert read(tmp_path, family=QWEN3, remove=["head_dim"]).head_dim == 128
    assert read(tmp_path, family=QWEN3, hidden_size=66).embed_dim == 66


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        (MISTRAL, {}, (4096,) * 3),
        (MISTRAL, {"sliding_window": 64}, (64,) * 3),
        (MISTRAL, {"sliding_window": None}, ()),
        (QWEN2, {"sliding_window": 64}, ()),
        (QWEN2, {"use_sliding_window": True}, ()),
        (QWEN2, {"use_sliding_window": True, "max_window_layers": 1}, (0, 4096, 4096)),
        (
            QWEN3,
            {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0},
            (64,) * 3,
        ),
        (
            QWEN2,
            {
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (64, 0, 64),
        ),
        (QWEN2, {"layer_types": ["full_attention"] * 3}, ()),
    ],
)
def test_windows_are_those_of_transformers(tmp_path, family, changes, expected):
    assert read(tmp_path, family=family, **changes).sliding_windows == expected


def test_rotary_scaling_is_read_from_either_section(tmp_path):
    expected = RopeScaling("llama3", factor=8.0, original_max_position=64)
    assert read(tmp_path, rope_scaling=LLAMA3_SCALING).rope_scaling == expected
    assert read(tmp_path, rope_parameters=LLAMA3_SCALING).rope_scaling == expected
    linear = read(tmp_path, rope_scaling={"type": "linear", "factor": 2}).rope_scaling
    assert linear == RopeScaling("linear", factor=2.0)


def test_yarn_fields_that_are_left_out_follow_from_the_others(tmp_path):
    section = {"rope_type": "yarn", "factor": 4.0}
    found = read(tmp_path, rope_scaling=section).rope_scaling
    assert found.original_max_position == 512
    assert found.attention_factor == pytest.approx(0.1 * math.log(4) + 1)
    assert (found.beta_fast, found.beta_slow, found.truncate) == (32.0, 1.0, True)
    found = read(tmp_path, rope_scaling=section | {"mscale": 2.0, "mscale_all_dim": 1.0})
    assert found.rope_scaling.attention_factor == pytest.approx(
        (0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1)
    )
    found = read(tmp_path, rope_scaling=section | {"attention_factor": 1.5, "mscale": 2.0})
    assert found.rope_scaling.attention_factor == 1.5


def test_a_factor_that_only_some_engines_read_is_refused_until_all_agree(tmp_path):
    section = {"rope_type": "yarn", "factor": 4.0, "attn_factor": 0.8782488562869419}
    with pytest.raises(ConfigError, match="vLLM scales by 1, .* by 1.13863; write attention_fac"):
        read(tmp_path, family=QWEN3, rope_scaling=section)
    found = read(tmp_path, family=QWEN3, rope_scaling=section | {"attention_factor": 1.0})
    assert found.rope_scaling.attention_factor == 1.0
    plain = {"rope_type": "yarn", "factor": 4.0}
    assert read(tmp_path, rope_scaling=plain) == read(
        tmp_path, rope_scaling=plain | {"attn_factor": 1.0}
    )
    for value in ("1", True, 0):
        with pytest.raises(ConfigError, match="rope_scaling.attn_factor must be a number"):
            read(tmp_path, rope_scaling=plain | {"attn_factor": value})


def test_dynamic_scaling_changes_nothing_within_the_context_and_no_text_is_longer(tmp_path):
    config = read(tmp_path, rope_scaling={"type": "dynamic", "factor": 4.0})
    assert config == read(tmp_path)
    assert registry.context_length(config) == 512


def test_yarn_stretches_the_context(tmp_path):
    section = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    assert registry.context_length(read(tmp_path, rope_scaling=section)) == 1024
    section["original_max_position_embeddings"] = 64
    assert registry.context_length(read(tmp_path, rope_scaling=section)) == 512


SLIDING = ["sliding_attention"] * 3


@pytest.mark.parametrize(
    ("family", "changes", "field"),
    [
        (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        (LLAMA, {"rope_scaling": {"type": "linear"}}, "lacks factor"),
        (LLAMA, {"rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling.factor"),
        (LLAMA, {"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor"),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "alpha": 2.0}}, "rope_scaling.alpha"),
        (LLAMA, {"rope_parameters": {"rope_type": "longrope"}}, "rope_parameters.rope_type"),
        (LLAMA, {"rope_scaling": {"rope_type": "linear", "type": "yarn"}}, "rope_scaling.type"),
        (LLAMA, {"rope_scaling": [2.0]}, "rope_scaling"),
        (
            LLAMA,
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "default"},
            },
            "rope_scaling and rope_parameters disagree",
        ),
        (
            LLAMA,
            {"rope_scaling": LLAMA3_SCALING | {"high_freq_factor": 1.0}},
            "rope_scaling.high_freq_factor",
        ),
        (
            LLAMA,
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 1}},
            "rope_scaling.beta_fast",
        ),
        (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0, "mscale": 1}}, "mscale"),
        (
            LLAMA,
            {"rope_scaling": LLAMA3_SCALING, "original_max_position_embeddings": 32},
            "original_max_position_embeddings",
        ),
        (LLAMA, {"rope_theta": 1.0}, "rope_theta"),
        (LLAMA, {"attention_bias": "yes"}, "attention_bias"),
        (LLAMA, {"sliding_window": 64}, "sliding_window"),
        (LLAMA, {"layer_types": SLIDING}, "layer_types"),
        (MISTRAL, {"attention_bias": True}, "attention_bias"),
        (MISTRAL, {"mlp_bias": True}, "mlp_bias"),
        (MISTRAL, {"sliding_window": 0}, "sliding_window"),
        (MISTRAL, {"layer_types": ["full_attention"] * 3}, "layer_types"),
        (QWEN2, {"attention_bias": False}, "attention_bias"),
        (QWEN2, {"layer_types": SLIDING}, "layer_types"),
        (QWEN2, {"layer_types": SLIDING[:2]}, "layer_types"),
        (QWEN2, {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        (QWEN2, {"use_sliding_window": 1}, "use_sliding_window"),
        (QWEN2, {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers"),
        (QWEN3, {"mlp_bias": True}, "mlp_bias"),
        (LLAMA, {"hidden_act": "gelu"}, "hidden_act"),
        (LLAMA, {"quantization_config": {"bits": 4}}, "from before the quantisation"),
        (QWEN3, {"quantization": {"group_size": 64, "bits": 4}}, "from before the quantisation"),
        (LLAMA, {"architectures": ["MistralForCausalLM"]}, "architectures"),
        (LLAMA, {"model_type": "gpt2"}, "model_type"),
        (LLAMA, {"model_type": ["llama"]}, "model_type"),
        (LLAMA, {"rope_scaling": {"type": ["linear"]}}, "rope_scaling.rope_type"),
        (LLAMA, {"vocab_size": 0}, "vocab_size"),
        (LLAMA, {"num_hidden_layers": 2.5}, "num_hidden_layers"),
        (LLAMA, {"hidden_size": 66, "head_dim": 16}, "hidden_size"),
        (QWEN2, {"hidden_size": 66}, "hidden_size"),
        (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads"),
        (LLAMA, {"head_dim": 15}, "head_dim"),
        (LLAMA, {"rms_norm_eps": 0.0}, "rms_norm_eps"),
        (LLAMA, {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        (LLAMA, {"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_refusals_name_the_file_and_the_field(tmp_path, family, changes, field):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, family=family, **changes)
    assert str(tmp_path / "config.json") in str(error.value)
    assert field in str(error.value)


@pytest.mark.parametrize(
    "field, value",
    [
        ("is_causal", False),
        ("causal", False),
        ("use_rope", False),
        ("is_encoder_decoder", True),
        ("logits_scaling", 8.0),
        ("embedding_multiplier", 12),
        ("attention_multiplier", 0.015625),
        ("attn_logit_softcapping", 50.0),
        ("no_rope_layers", [1, 1, 1, 0]),
        ("clip_qkv", 8.0),
        ("use_qk_norm", True),
        ("num_experts", 8),
        ("norm_type", "layer_norm"),
        ("position_embedding_type", "alibi"),
        ("hidden_activation", "gelu"),
        ("activation", "gelu"),
        ("vision_config", {"hidden_size": 8}),
        ("something_new", 3),
    ],
)
def test_what_may_change_the_computation_is_refused_by_name(tmp_path, field, value):
    for family in (LLAMA, MISTRAL, QWEN2, QWEN3):
        with pytest.raises(ConfigError, match=rf"config\.json: {field} is "):
            read(tmp_path, family=family, **{field: value})


def test_what_asks_for_nothing_passes_and_is_kept(tmp_path):
    harmless = {
        "_name_or_path": "somewhere",
        "_attn_implementation": "sdpa",
        "transformers_version": "4.42.3",
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "eos_token_id": [1, 2],
        "initializer_range": 0.02,
        "pretraining_tp": 2,
        "is_causal": True,
        "is_llama_config": True,
        "transformers.js_config": {"dtype": "q4"},
        "temperature": 0.7,
        "max_length": 20,
        "id2label": {"0": "LABEL_0"},
        "use_mrope": False,
        "resid_pdrop": 0.0,
        "quantization_config": None,
        "attn_logit_softcapping": None,
        "logits_scaling": 1.0,
        "layer_drop": 0,
        "unsloth_version": "2025.9.1",
        "license": "apache-2.0",
        "hidden_act": "swish",
        "activation": "swiglu",
        "trained_on": ["a", "b"],
    }
    for family in (LLAMA, MISTRAL, QWEN2, QWEN3):
        plain = read(tmp_path, family=family)
        assert read(tmp_path, family=family, **harmless) == plain
        raw = {**family, **harmless}
        assert registry.update_hf_config(raw, plain, plain, "bfloat16") == raw


def test_the_architecture_may_stand_alone_in_place_of_a_list(tmp_path):
    assert read(tmp_path, architectures="LlamaForCausalLM") == read(tmp_path)
    with pytest.raises(ConfigError, match="architectures is LlamaModel; supported for llama"):
        read(tmp_path, architectures="LlamaModel")


def test_an_absent_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        registry.read_config(tmp_path)
    for text in ("{", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match="config.json: not valid JSON"):
            registry.read_config(tmp_path)


BORN = {
    "llama": {"rope_theta": 777.0, "head_dim": 32, "attention_bias": "qkvo"},
    "llama ": {"rope_scaling": RopeScaling("llama3", 8.0, 64, 2.0, 5.0), "mlp_bias": True},
    "mistral": {"sliding_windows": (8, 8, 8), "rope_scaling": RopeScaling("linear", 2.0)},
    "qwen2": {
        "attention_bias": "qkv",
        "sliding_windows": (8, 0, 8),
        "rope_scaling": RopeScaling("yarn", 2.0, 256, attention_factor=1.25, truncate=False),
    },
    "qwen3": {"qk_norm": True, "attention_bias": "qkvo"},
}


@pytest.mark.parametrize("name", BORN)
def test_a_config_born_here_is_of_the_plainest_family_and_reads_back(tmp_path, name):
    config = dataclasses.replace(read(tmp_path), **BORN[name])
    written = registry.to_hf_config(config)
    assert written["model_type"] == name.strip()
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert registry.read_config(tmp_path) == config


def test_a_config_that_no_family_has_is_refused_by_field(tmp_path):
    config = dataclasses.replace(read(tmp_path), attention_bias="qkv", mlp_bias=True)
    with pytest.raises(ConfigError, match=r"llama: attention_bias.*qwen2: mlp_bias is True"):
        registry.to_hf_config(config)


@pytest.mark.parametrize("family", [LLAMA, MISTRAL, QWEN2, QWEN3], ids=lambda f: f["model_type"])
def test_an_update_of_nothing_is_the_original(tmp_path, family):
    for section in ({}, {"rope_scaling": LLAMA3_SCALING}, {"rope_scaling": None}):
        original = {**family, **section, "dtype": "bfloat16"}
        before = read(tmp_path, family=original)
        assert registry.update_hf_config(original, before, before, "bfloat16") == original


def test_an_update_of_a_family_writes_its_fields_or_refuses(tmp_path):
    before = read(tmp_path, family=QWEN2)
    after = dataclasses.replace(before, sliding_windows=(0, 8, 8))
    updated = registry.update_hf_config(QWEN2, before, after, "float32")
    assert updated["use_sliding_window"] and updated["sliding_window"] == 8
    assert read(tmp_path, family=updated) == after
    after = dataclasses.replace(before, rope_scaling=RopeScaling("linear", 2.0), rope_theta=9.0)
    for section in ({}, {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}):
        updated = registry.update_hf_config(QWEN2 | section, before, after, "float32")
        assert read(tmp_path, family=updated) == after
    with pytest.raises(ConfigError, match="qk_norm is True; Qwen2ForCausalLM has no such models"):
        registry.update_hf_config(
            QWEN2, before, dataclasses.replace(before, qk_norm=True), "float32"
        )


def test_an_update_touches_only_what_changed(tmp_path):
    before = read(tmp_path)
    original = {**LLAMA, "transformers_version": "4.0", "dtype": "bfloat16"}
    assert registry.update_hf_config(original, before, before, "bfloat16") == original
    after = dataclasses.replace(before, vocab_size=400, rope_theta=9.0, remat="none")
    updated = registry.update_hf_config(original, before, after, "float32")
    changes = {"vocab_size": 400, "rope_theta": 9.0, "dtype": "float32"}
    assert updated == {**original, **changes}


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("data", {"max_length": 513}, r"config\.data\.max_length is 513, .* context is 512 tokens"),
        ("ppo", {"max_new_tokens": 113}, r"ppo\.max_prompt_length \+ max_new_tokens is 513"),
        ("ppo", {"max_new_tokens": 113, "steps": 0}, None),
        ("evaluate", {"max_prompt_length": 481}, r"config\.evaluate\.max_prompt_length .* is 513"),
    ],
)
def test_texts_must_fit_the_context(tmp_path, section, settings, message):
    fitting = {
        "data": {"max_length": 512},
        "ppo": {"max_prompt_length": 400, "max_new_tokens": 112},
        "evaluate": {"max_prompt_length": 480, "max_new_tokens": 32},
    }
    model = read(tmp_path)
    registry.check_lengths(from_dict(RunConfig, fitting), model)
    fitting[section] |= settings
    expected = pytest.raises(ConfigError, match=message) if message else contextlib.nullcontext()
    with expected:
        registry.check_lengths(from_dict(RunConfig, fitting), model)


# Published models: model_type, (hidden, intermediate, layers, heads, key-value heads), vocabulary,
# other fields of config.json, published number of parameters.
TIED = {"tie_word_embeddings": True}
LLAMA3 = {"rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING}
PUBLISHED = {
    "Llama-2-7b": ("llama", (4096, 11008, 32, 32, 32), 32000, {}, 6_738_415_616),
    "Llama-2-13b": ("llama", (5120, 13824, 40, 40, 40), 32000, {}, 13_015_864_320),
    "CodeLlama-7b": ("llama", (4096, 11008, 32, 32, 32), 32016, {}, 6_738_546_688),
    "CodeLlama-13b": ("llama", (5120, 13824, 40, 40, 40), 32016, {}, 13_016_028_160),
    "CodeLlama-34b": ("llama", (8192, 22016, 48, 64, 8), 32000, {}, 33_743_970_304),
    "Llama-3.1-8B": ("llama", (4096, 14336, 32, 32, 8), 128256, LLAMA3, 8_030_261_248),
    "Llama-3.2-1B": ("llama", (2048, 8192, 16, 32, 8), 128256, LLAMA3 | TIED, 1_235_814_400),
    "SmolLM2-135M": ("llama", (576, 1536, 30, 9, 3), 49152, TIED, 134_515_008),
    "Mistral-7B-v0.1": ("mistral", (4096, 14336, 32, 32, 8), 32000, {}, 7_241_732_096),
    "Qwen2.5-0.5B": ("qwen2", (896, 4864, 24, 14, 2), 151936, TIED, 494_032_768),
    "Qwen2.5-7B": ("qwen2", (3584, 18944, 28, 28, 4), 152064, {}, 7_615_616_512),
    "Qwen3-0.6B": ("qwen3", (1024, 3072, 28, 16, 8), 151936, TIED, 596_049_920),
    "Qwen3-8B": ("qwen3", (4096, 12288, 36, 32, 8), 151936, {}, 8_190_735_360),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_have_their_published_number_of_parameters(tmp_path, name):
    model_type, sizes, vocabulary, others, count = PUBLISHED[name]
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    raw = dict(zip((*fields, "num_key_value_heads"), sizes, strict=True))
    raw |= {"model_type": model_type, "vocab_size": vocabulary, **others}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    declared = functional.abstract_params(registry.read_config(tmp_path))
    leaves = jax.tree.leaves(declared, is_leaf=lambda leaf: hasattr(leaf, "axes"))
    assert sum(math.prod(leaf.shape) for leaf in leaves) == count
