"""Tools that run are held against the run's settings, data and template before anything trains."""

import dataclasses
import types

import pytest

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import (
    DataConfig,
    EnvironmentConfig,
    ModelSourceConfig,
    PpoConfig,
    RewardConfig,
    RunConfig,
)
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.prepare.files import PROMPTS
from tl_jax.errors import ConfigError
from tl_jax.models import registry
from tl_jax.rl import tools_check
from tl_jax.rl.tools_check import open_tools
from tl_jax.run.directory import Run, check_reward


@pytest.fixture
def config(tmp_path, model_dir):
    (tmp_path / "mine.py").write_text("def f(x): return x\n")
    (tmp_path / "data").mkdir()
    tools = (ToolSpec("g"), ToolSpec("f"))
    prompts = [
        Prompt("a", [1], "", tools[:1], (ToolCall("g"),), {}),
        Prompt("b", [1], "", tools, (), {}),
    ]
    (tmp_path / "data" / PROMPTS).write_text("".join(prompt_lines(prompts)))
    return RunConfig(
        run_dir=str(tmp_path),
        model=ModelSourceConfig(path=str(model_dir)),
        environment=EnvironmentConfig(path=str(tmp_path / "mine.py")),
    )


def test_the_tools_of_the_file_answer_the_calls_of_the_prompts(config):
    check_reward(config)
    tools = open_tools(Run(config))
    assert tools.environment.names == {"f"} and tools.renderer.call_style == "python"
    off = dataclasses.replace(config, environment=EnvironmentConfig())
    assert open_tools(Run(off)) is None


def test_a_file_without_any_tool_of_the_data_is_refused(config, tmp_path):
    (tmp_path / "mine.py").write_text("def h(): pass\n")
    with pytest.raises(ConfigError, match=r"\(h\) has the name of a tool in the data"):
        open_tools(Run(config))


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"data": DataConfig(samples="per_turn")}, "samples='per_trajectory', not 'per_turn'"),
        ({"reward": RewardConfig(mode="reference")}, "take mode 'strict' or 'graded'"),
        ({"ppo": PpoConfig(max_new_tokens=768)}, "another one fits"),
        ({"environment": EnvironmentConfig(path="nowhere.py")}, "no file nowhere.py"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_the_door(config, changes, message):
    wrong = dataclasses.replace(config, **changes)
    with pytest.raises(ConfigError, match=message):
        check_reward(wrong)
    check_reward(dataclasses.replace(wrong, ppo=PpoConfig(steps=0)))


def test_a_dialogue_must_fit_the_context_of_the_model(config):
    room = EnvironmentConfig(path=config.environment.path, max_tokens=4000)
    long = dataclasses.replace(config, environment=room, data=DataConfig(max_length=64))
    with pytest.raises(ConfigError, match=r"environment.max_tokens is 4896, but the .* context"):
        registry.check_lengths(long, Run(config).model)


def test_a_template_that_numbers_its_calls_is_refused(config):
    class Numbering:
        template = "chat"

        def feedback_ids(self, tools, before, calls, results):
            return [len(before)]

    tools_check.check_template(Run(config))
    with pytest.raises(ConfigError, match="as templates that number their calls do"):
        tools_check.check_template(types.SimpleNamespace(config=config, renderer=Numbering()))
