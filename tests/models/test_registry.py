"""config.json is read faithfully, and what is not implemented is refused by name."""

import contextlib
import dataclasses
import json

import pytest

from tl_jax.config import ModelConfig, RunConfig
from tl_jax.models import registry
from tl_jax.settings import ConfigError, from_dict

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


def read(tmp_path, remove=(), **changes):
    values = {**LLAMA, **changes}
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


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.rope_type"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"architectures": ["MistralForCausalLM"]}, "architectures"),
        ({"model_type": "mistral"}, "model_type"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"hidden_size": 66}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 15}, "head_dim"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_refusals_name_the_file_and_the_field(tmp_path, changes, field):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, **changes)
    assert str(tmp_path / "config.json") in str(error.value)
    assert field in str(error.value)


def test_an_absent_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        registry.read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="config.json: not valid JSON"):
        registry.read_config(tmp_path)


def test_a_config_born_here_reads_back_as_itself(tmp_path):
    config = dataclasses.replace(read(tmp_path), head_dim=32, rope_theta=777.0)
    (tmp_path / "config.json").write_text(json.dumps(registry.to_hf_config(config)))
    assert registry.read_config(tmp_path) == config


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
