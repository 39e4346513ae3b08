"""Published reward training, by name after the colon of ``--config``."""

import dataclasses
import importlib.util
import pathlib

import pytest

from tl_jax.config import PpoConfig, RunConfig, presets
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


def test_the_recommended_settings_are_those_of_the_configuration():
    config = RunConfig(ppo=PpoConfig(steps=7, kl_coef=0.7))
    assert presets.with_irm(config, "recommended") is config


@pytest.mark.parametrize(("name", "kl_coef"), [("paper_code", 0.4), ("paper_script", 0.3)])
def test_published_settings_sample_greedily_and_never_let_a_clip_act(name, kl_coef):
    own = RunConfig(ppo=PpoConfig(steps=12, max_prompt_length=500, max_new_tokens=40))
    config = presets.with_irm(own, name)
    ppo = config.ppo
    assert (ppo.kl_coef, ppo.temperature, ppo.samples_per_prompt) == (kl_coef, 0.0, 1)
    assert (ppo.epochs, ppo.minibatches, ppo.gae_lambda) == (1, 1, 0.95)
    assert (ppo.steps, ppo.max_prompt_length, ppo.max_new_tokens) == (12, 500, 40)
    assert (config.reward.mode, config.ppo_optim.learning_rate) == ("reference", 2e-7)
    assert config.ppo_optim.warmup_steps == 6
    assert config.train == own.train
    assert config.data == dataclasses.replace(own.data, template="released")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'paper'.*recommended, paper_script, paper_code"):
        presets.with_irm(RunConfig(), "paper")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_configuration_takes_a_name_and_is_valid(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("recommended", *presets.PPO):
        config = from_dict(RunConfig, module.get_config(name).to_dict())
        assert (config.reward.mode == "reference") == (name != "recommended")
