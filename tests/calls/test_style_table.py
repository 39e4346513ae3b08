"""One entry of the table is a call style: reading, writing, rewards and constraints follow it."""

import dataclasses
import pathlib

import pytest

from tl_jax.calls import styles
from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import parse_calls, reply_call_text
from tl_jax.calls.render import render_calls
from tl_jax.data.render.call_spans import find_calls
from tl_jax.rewards.no_call import holds_call

CALLS = (ToolCall("add", {"a": 1}), ToolCall("sub", {"b": [2]}))


@pytest.mark.parametrize("name", styles.STYLES)
def test_every_style_is_written_read_found_and_taken_for_a_call(name):
    style = styles.STYLES[name]
    text = render_calls(CALLS, name)
    assert parse_calls(text, name) == CALLS == style.parse(text, 2)
    assert text.startswith(style.mark)
    thought = "I think. " if style.mark else ""
    assert reply_call_text(thought + text, name) == text
    spans = find_calls(text, 0, len(text), CALLS, name)
    assert [text[slice(*span.name)] for span in spans] == ["add", "sub"]
    assert holds_call(text, ["add"], name)
    for mark in style.marks:
        assert holds_call(f"So {mark} it is.", [], "python")


def test_what_an_entry_says_is_what_is_done(monkeypatch):
    ours = dataclasses.replace(styles.STYLES["hermes"], forms=(styles.STYLES["python"].form,))
    monkeypatch.setitem(styles.STYLES, "hermes", ours)
    assert parse_calls("add(a = 1)\nsub(b = [2])", "hermes") == CALLS
    assert render_calls(CALLS, "hermes") == "add(a = 1)\nsub(b = [2])"


def test_constraints_follow_the_table():
    from tl_jax.sampling.grammar import STYLES

    assert STYLES == tuple(name for name, style in styles.STYLES.items() if style.constrained)
    assert "mistral" not in STYLES


def test_the_front_page_counts_the_styles():
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    assert f"in {len(styles.STYLES)} styles" in readme.read_text("utf-8")


def test_the_readme_names_every_style():
    readme = pathlib.Path(styles.__file__ or "").with_name("README.md").read_text("utf-8")
    assert [
        name for name in (*styles.STYLES, "released", "script") if f"`{name}`" not in readme
    ] == []
