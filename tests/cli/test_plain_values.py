"""Plain files of settings say what everybody reads in them, and nothing twice."""

import math

import pytest

from tl_jax.cli.plain_values import read
from tl_jax.cli.settings import read_config
from tl_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2E+3", 2000.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("3.", 3.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-07-26", "2024-07-26"),
        ("off", "off"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("[1e-3, on]", [1e-3, "on"]),
    ],
)
def test_plain_words_are_those_of_yaml_1_2(text, value):
    found = read(f"a: {text}", is_json=False)["a"]
    assert found == value and type(found) is type(value)


def test_settings_of_a_yaml_file_are_what_they_look_like(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("\ufeffmae: {rules: off}\noptim: &o\n  learning_rate: 2e-5\nppo_optim: *o\n")
    config = read_config(str(path), "", [])
    assert config.mae.rules == "off"
    assert config.optim.learning_rate == config.ppo_optim.learning_rate == 2e-5


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.yaml", "train:\n  steps: 3\ndata: {}\ntrain: {}\n", "line 4: train is given twice.*1"),
        ("c.yaml", "train: {steps: 3, steps: 4}", "line 1: steps is given twice, first in line 1"),
        ("c.json", '{"train": {"steps": 3, "steps": 4}}', "'steps' is given twice"),
        ("c.yaml", "[a]: 1\n[a]: 2\n", "c.yaml is broken"),
        ("c.yaml", "a: &a {b: *a}", "c.yaml is broken"),
        ("c.yaml", "a: !!python/name:os.system", "c.yaml is broken"),
        ("c.yaml", "a: b\x00c", "c.yaml is broken"),
    ],
)
def test_what_a_file_says_twice_or_not_plainly_is_refused(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_config(str(tmp_path / name), "", [])


def test_entries_of_another_place_may_be_taken_over():
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"
    assert read(text, is_json=False)["b"] == {"x": 1, "y": 3}
