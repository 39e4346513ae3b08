"""A list of texts on the command line holds what was meant, quotes, blanks and commas included."""

import pytest

from tl_jax.cli.options import parse
from tl_jax.cli.settings import read_config
from tl_jax.cli.text_list import read
from tl_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("", ()),
        ("()", ()),
        ("a.jsonl", ("a.jsonl",)),
        ("a.jsonl,b.jsonl@2", ("a.jsonl", "b.jsonl@2")),
        ("a b.jsonl, c.jsonl", ("a b.jsonl", "c.jsonl")),
        ("'a','b@2'", ("a", "b@2")),
        ("('a, b','c')", ("a, b", "c")),
        ("('a')", ("a",)),
        ('["a", "b"]', ("a", "b")),
        ("'a, b'", ("a, b",)),
        ('"a, b",c', ("a, b", "c")),
        ("enable_thinking=false", ("enable_thinking=false",)),
        ('date_string="1 May, 2025",n=3', ('date_string="1 May, 2025"', "n=3")),
        ('tools=["a", "b"],n={"x": [1, 2]}', ('tools=["a", "b"]', 'n={"x": [1, 2]}')),
        ("lost: /a{1,3}, b/", ("lost: /a{1,3}", "b/")),
        ("lost: not found", ("lost: not found",)),
        ("it's,that's", ("it's", "that's")),
        ("(", ("(",)),
        ("a(,b", ("a(", "b")),
        ('"', ('"',)),
        (r'"\n"', ("\n",)),
        ("</s>", ("</s>",)),
    ],
)
def test_texts_are_what_was_meant(text, texts):
    assert read("config.x", text) == texts


@pytest.mark.parametrize("text", ["(a, b)", "[1, 2]", "('a', 3)", "(lambda: 1)", "[" * 5000 + "]"])
def test_what_looks_like_a_list_and_is_none_of_texts_is_refused(text):
    with pytest.raises(ConfigError, match=r"config.x=.* such as \('first','second'\)"):
        read("config.x", text)


@pytest.mark.parametrize(
    ("words", "section", "name", "value"),
    [
        (["--config.data.template_settings=a=1,b=false"], "data", "template_settings", 2),
        (['--config.data.template_settings=d="1 May 2025"'], "data", "template_settings", 1),
        (["--config.mae.extra_rules=timeout: took too long"], "mae", "extra_rules", 1),
        (["--config.evaluate.stop_strings", "Observation: x"], "evaluate", "stop_strings", 1),
        (["--config.ablation.seeds=1,2,3"], "ablation", "seeds", 3),
    ],
)
def test_lists_of_every_setting_are_read(words, section, name, value):
    config = read_config("quickstart", "", parse("train", words).settings)
    assert len(getattr(getattr(config, section), name)) == value


def test_a_switch_without_a_value_is_on_and_anything_else_needs_one():
    words = ["--config.data.strict", "--config.seed", "7", "--config.data.packing"]
    config = read_config("quickstart", "", parse("train", words).settings)
    assert config.data.strict and config.data.packing and config.seed == 7
    assert parse("train", ["--config.data.strict", "--dry_run"]).dry_run
    for words in (["--config.seed"], ["--config.seed", "--config.data.strict"]):
        with pytest.raises(ConfigError, match="config.seed needs a value: --config.seed=VALUE"):
            read_config("quickstart", "", parse("train", words).settings)
    negative = parse("train", ["--config.mesh.data", "-1"]).settings
    assert read_config("quickstart", "", negative).mesh.data == -1
