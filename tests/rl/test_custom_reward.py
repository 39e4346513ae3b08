"""A reward of the user's own, from a file or from Python."""

import numpy as np
import pytest

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import RewardConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.errors import ConfigError, RewardError
from tl_jax.rewards.penalties import Reward
from tl_jax.rl.custom_reward import custom_reward, open_reward
from tl_jax.rl.scoring import score_samples
from tl_jax.sampling.sampler import Generation

GOLD = ToolCall("add", {"x": "a"})
PROMPT = Prompt("Turn 1: t", [1], "", (ToolSpec("add"),), (GOLD,), {})

FILE = """
from tl_jax.rewards.penalties import Reward

def short(reply, prompt):
    return 1 - len(reply) / 10

def named(reply, prompt):
    good = prompt.golds[0].name in reply
    return Reward(2.0 if good else -2.0, "all_right" if good else "wrong_tool", ("custom rule",))

def broken(reply, prompt):
    return prompt.golds[3]

def nothing(reply, prompt):
    pass

def invented(reply, prompt):
    return Reward(0.5, "nice")
"""


class Characters:
    def decode(self, ids, *, keep_control=False):
        return "".join(map(chr, ids))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "my_reward.py"
    file.write_text(FILE)
    return file


def scored(function, *replies, finished=True):
    return score_samples(
        [PROMPT] * len(replies),
        [Generation([*map(ord, reply), 0], [0.0], finished) for reply in replies],
        renderer=Renderer(Characters(), "released", "per_turn", None),
        reward=RewardConfig(),
        step=3,
        function=function,
    )


def test_a_number_is_the_reward_and_its_category_is_custom(path):
    scores, records = scored(open_reward(RewardConfig(path=f"{path}:short")), "add", "adding more")
    np.testing.assert_allclose(scores, [0.7, -0.1], rtol=1e-6)
    assert [record["category"] for record in records] == ["custom", "custom"]
    assert records[0]["sampled"] == "add" and records[0]["gold"] == "add(x = 'a')"


def test_a_reward_keeps_its_category_and_details(path):
    scores, records = scored(open_reward(RewardConfig(path=f"{path}:named")), "add()", "sub()")
    assert scores.tolist() == [2.0, -2.0]
    assert [record["category"] for record in records] == ["all_right", "wrong_tool"]
    assert records[0]["details"] == ["custom rule"]


def test_what_was_cut_off_is_a_format_error_and_not_asked_about(path):
    scores, (record,) = scored(
        open_reward(RewardConfig(path=f"{path}:broken")), "add(", finished=False
    )
    assert record["category"] == "format_error" and scores.tolist() == [-2.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"my_reward\.py:broken raised for prompt 'Turn 1: t': IndexError"),
        ("nothing", r"my_reward\.py:nothing returned None for prompt 'Turn 1: t'"),
        ("invented", r"my_reward\.py:invented returned the category 'nice' .*'Turn 1: t'"),
    ],
)
def test_an_error_names_file_function_and_prompt(path, name, message):
    with pytest.raises(RewardError, match=message):
        scored(open_reward(RewardConfig(path=f"{path}:{name}")), "add()")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "1", Reward(np.nan, "all_right"), Reward("1", "x")]
)
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(RewardError, match="return a finite number"):
        custom_reward(lambda reply, prompt: value, "", PROMPT)


def test_numbers_of_numpy_and_truth_values_are_numbers():
    found = [custom_reward(lambda *_, v=v: v, "", PROMPT).value for v in (np.float32(0.5), True)]
    assert found == [0.5, 1.0] and all(type(value) is float for value in found)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("my_reward.py", "must be FILE:function"),
        (":short", "must be FILE:function"),
        ("{folder}/absent.py:short", "no file .*absent.py"),
        ("{path}:shorter", r"my_reward\.py defines no function shorter; it has .*short, named"),
        ("{folder}/wrong.py:short", r"wrong\.py cannot be loaded \(SyntaxError"),
        ("{folder}/raising.py:short", r"raising\.py cannot be loaded \(KeyError: 'a'\)"),
        ("{folder}/reward.txt:short", r"reward\.txt cannot be loaded .*must end in \.py"),
    ],
)
def test_a_setting_that_names_no_function_is_refused(path, setting, message):
    (path.parent / "wrong.py").write_text("def")
    (path.parent / "raising.py").write_text("{}['a']")
    (path.parent / "reward.txt").write_text(FILE)
    written = setting.format(path=path, folder=path.parent)
    with pytest.raises(ConfigError, match=rf"config\.reward\.path: .*{message}"):
        open_reward(RewardConfig(path=written))


def test_without_a_path_the_rules_decide():
    assert open_reward(RewardConfig()) is None
    _, (record,) = scored(None, "add(x = 'a')")
    assert record["category"] == "all_right" and record["reward"] == 1.0


def test_a_file_imports_what_lies_beside_it_and_is_read_anew_when_it_changes(tmp_path):
    (tmp_path / "beside_reward.py").write_text("BONUS = 7")
    file = tmp_path / "reward.py"
    file.write_text("from beside_reward import BONUS\ndef f(reply, prompt): return BONUS")
    assert open_reward(RewardConfig(path=f"{file}:f"))("", PROMPT) == 7
    file.write_text("def f(reply, prompt): return 8")
    assert open_reward(RewardConfig(path=f"{file}:f"))("", PROMPT) == 8
