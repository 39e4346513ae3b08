"""The configuration is converted strictly, and says where and what to write."""

import dataclasses
import json

import pytest

from tl_jax import config as config_lib
from tl_jax.config import ModelConfig, RunConfig
from tl_jax.config.fields import check_path, from_dict, renamed, to_dict
from tl_jax.errors import ConfigError

SIZES = {
    "vocab_size": 64,
    "embed_dim": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_dim": 64,
}

SECTIONS = [
    cls
    for cls in vars(config_lib).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, r"unknown setting config\.sed; did you mean config\.seed\?"),
        (
            {"ppo": {"samples_per_promt": 2}},
            r"config\.ppo\.samples_per_promt; did you mean config\.ppo\.samples_per_prompt\?",
        ),
        ({"ppo_optim": {"lr": 1.0}}, r"config\.ppo_optim\.lr; known: learning_rate, warmup"),
        ({"model": {"zzz": 1}}, r"unknown setting config\.model\.zzz; known: path"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(RunConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": "1"}, r"config\.seed must be int, got '1'"),
        ({"seed": 1.0}, r"config\.seed must be int, got 1\.0"),
        ({"seed": True}, r"config\.seed must be int, got True"),
        ({"seed": None}, r"config\.seed must be int, got None"),
        ({"optim": {"b1": True}}, r"config\.optim\.b1 must be float, got True"),
        ({"optim": {"b1": "0.9"}}, r"config\.optim\.b1 must be float, got '0\.9'"),
        ({"data": {"packing": 1}}, r"config\.data\.packing must be bool, got 1"),
        ({"run_dir": 3}, r"config\.run_dir must be str, got 3"),
        ({"train": 3}, r"config\.train must be a section, got 3"),
        ({"reward": {"free_text_tools": "finish"}}, r"free_text_tools must be a list"),
        ({"reward": {"free_text_tools": ["a", 2]}}, r"free_text_tools\[1\] must be str, got 2"),
        ({"reward": {"mode": "stricct"}}, r"config\.reward\.mode must be one of reference, strict"),
        ({"model": {"dtype": "float16"}}, r"config\.model\.dtype must be one of float32, bfloat16"),
        (
            {"data": {"contamination_checks": ["query", "ngram"]}},
            r"contamination_checks\[1\] must be one of query, ngrams, tools, got 'ngram'",
        ),
        ({"train": {"steps": -1}}, r"config\.train\.steps must be at least 0, got -1"),
        (
            {"evaluate": {"batch_size": 0}},
            r"evaluate\.batch_size must be at least 1, got 0",
        ),
        ({"data": {"max_length": 1}}, r"config\.data\.max_length must be at least 2, got 1"),
        ({"ppo": {"max_new_tokens": 0}}, r"config\.ppo\.max_new_tokens must be at least 1"),
        ({"model": {"scratch_num_heads": 0}}, r"scratch_num_heads must be at least 1, got 0"),
        ({"optim": {"clip_norm": 0}}, r"config\.optim\.clip_norm must be above 0, got 0\.0"),
        ({"optim": {"b2": 1.0}}, r"config\.optim\.b2 must be below 1, got 1\.0"),
        ({"ppo": {"top_p": 1.5}}, r"config\.ppo\.top_p must be at most 1, got 1\.5"),
        ({"ppo": {"kl_coef": float("nan")}}, r"config\.ppo\.kl_coef must be at least 0, got nan"),
        (
            {"optim": {"warmup_steps": 2.5}},
            r"config\.optim\.warmup_steps must be whole from 1, got 2\.5",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(RunConfig, values)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "optim.learn_rate",
            r"config\.optim\.learn_rate; did you mean config\.optim\.learning_rate",
        ),
        ("optimm.b1", r"config\.optimm; did you mean config\.optim\?"),
        ("seed.b1", r"config\.seed is a value and has no b1"),
    ],
)
def test_a_dotted_setting_that_does_not_exist_is_refused(path, message):
    check_path(RunConfig, "ppo_optim.b1")
    with pytest.raises(ConfigError, match=message):
        check_path(RunConfig, path)


@pytest.mark.parametrize(("old", "new"), [("drop", "per_turn"), ("mask", "per_trajectory")])
def test_the_old_name_of_a_setting_is_read_as_the_present_one(old, new):
    assert renamed(RunConfig, "mae.action", old) == ("data.samples", new)
    values = {"mae": {"action": old, "rules": "off"}, "data": {"max_length": 9}}
    given = json.dumps(values)
    config = from_dict(RunConfig, values)
    assert (config.data.samples, config.data.max_length) == (new, 9)
    assert config.mae == config_lib.MaeConfig(rules="off")
    assert json.dumps(values) == given
    assert from_dict(RunConfig, {"mae": {"action": old}}).data.samples == new
    both = {"mae": {"action": old}, "data": {"samples": new}}
    assert from_dict(RunConfig, both).data.samples == new
    whole = {"mae": {"action": old}, "data": config_lib.DataConfig(samples=new, max_length=9)}
    assert from_dict(RunConfig, whole).data == config.data
    check_path(RunConfig, "mae.action")


def test_an_old_name_must_not_contradict_the_present_one():
    both = {"mae": {"action": "drop"}, "data": {"samples": "per_trajectory"}}
    message = r"mae\.action='drop' is the old name of config\.data\.samples='per_turn', but"
    with pytest.raises(ConfigError, match=message):
        from_dict(RunConfig, both)
    with pytest.raises(ConfigError, match=r"mae\.action must be one of drop, mask .*data\.samples"):
        from_dict(RunConfig, {"mae": {"action": "cut"}})
    with pytest.raises(ConfigError, match=r"config\.data must be a section"):
        from_dict(RunConfig, {"mae": {"action": "drop"}, "data": 3})


def test_other_settings_keep_their_name():
    assert renamed(RunConfig, "mae.rules", "off") == ("mae.rules", "off")
    assert renamed(RunConfig, "data.samples", "drop") == ("data.samples", "drop")


def test_settings_without_a_default_are_asked_for():
    with pytest.raises(ConfigError, match=r"^config lacks head_dim, mlp_dim$"):
        from_dict(ModelConfig, {k: v for k, v in SIZES.items() if k not in ("head_dim", "mlp_dim")})


def test_whole_numbers_become_floats_and_lists_become_tuples():
    config = from_dict(
        RunConfig, {"optim": {"clip_norm": 1}, "reward": {"free_text_tools": ["say"]}}
    )
    assert type(config.optim.clip_norm) is float and config.optim.clip_norm == 1.0
    assert config.reward.free_text_tools == ("say",)


def test_fields_that_are_not_given_keep_their_defaults():
    config = from_dict(RunConfig, {"optim": {"b1": 0.5}, "seed": 7})
    assert config.seed == 7 and config.train == RunConfig().train
    assert config.optim == config_lib.OptimConfig(b1=0.5)


def test_a_section_given_in_part_keeps_the_defaults_of_the_run():
    given = from_dict(RunConfig, {"ppo_optim": {"b1": 0.5}}).ppo_optim
    assert given == dataclasses.replace(RunConfig().ppo_optim, b1=0.5)
    assert given.schedule == "constant" != config_lib.OptimConfig().schedule


def test_a_section_may_be_given_as_its_dataclass():
    train = config_lib.TrainConfig(steps=3)
    assert from_dict(RunConfig, {"train": train}).train is train


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_a_configuration_survives_json(cls):
    config = cls(**SIZES) if cls is ModelConfig else cls()
    assert from_dict(cls, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_configurations_are_frozen_hashable_and_described(cls):
    config = cls(**SIZES) if cls is ModelConfig else cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(cls)[0].name, 1)
    assert hash(config) == hash(dataclasses.replace(config))
    assert not cls.__doc__.startswith(f"{cls.__name__}(")


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_defaults_keep_to_their_own_limits_and_every_number_has_some(cls):
    # Any seed; the mesh checks its sizes as a whole.
    free = {"seed", "data", "fsdp", "tensor", "sequence"}
    for field in dataclasses.fields(cls):
        if field.type in ("int", "float") and field.name not in free and cls is not ModelConfig:
            assert field.metadata["limits"], field.name
            from_dict(cls, {field.name: field.default})
