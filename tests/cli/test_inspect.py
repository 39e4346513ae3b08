"""Inspect shows the example that training reads, with and without colours."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.cli import inspect
from tl_jax.config import DataConfig, KeyTokenConfig, ModelSourceConfig, RunConfig
from tl_jax.data.prepare.files import EXAMPLES
from tl_jax.data.trajectory import Message, Trajectory, to_json
from tl_jax.errors import ConfigError, DataError
from tl_jax.report.example import TURN_COLUMNS
from tl_jax.run.directory import Run


def call(**arguments):
    return Message("assistant", "", (ToolCall("find_train", arguments),))


@pytest.fixture(scope="module")
def workspace(model_dir, tmp_path_factory):
    """A run whose two trajectories each have a wrong call before the right one."""
    folder = tmp_path_factory.mktemp("inspect")
    tool = ToolSpec("find_train", "Find.", (Parameter("to", "string", "Where.", True),))
    rows = []
    for number, city in enumerate(("Rome", "Bonn\x1b[31m")):
        messages = (
            Message("user", f"find a train to {city}"),
            call(town=city),
            Message("tool", "TypeError: unexpected argument 'town'", status="error"),
            call(to=city),
        )
        rows.append(json.dumps(to_json(Trajectory(f"t{number}", (tool,), messages, "made"))))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return Run(
        RunConfig(
            run_dir=str(folder / "run"),
            model=ModelSourceConfig(path=str(model_dir)),
            data=DataConfig(
                path=str(folder / "rows.jsonl"), max_length=2048, validation_fraction=0.0
            ),
            key_tokens=KeyTokenConfig(mode="extended"),
        )
    )


def output(workspace, example=1, html="", **settings):
    console = Console(file=io.StringIO(), soft_wrap=True, highlight=False, width=160, **settings)
    inspect.main(workspace, console, example=example, html=str(html))
    return console.file.getvalue()


def test_data_are_prepared_once_if_there_are_none(workspace):
    first, again = output(workspace), output(workspace)
    assert "prepared data" in first and "prepared data" not in again
    assert first.endswith(again)


def test_without_colours_brackets_stand_for_them(workspace):
    text = output(workspace)
    assert "\x1b" not in text
    assert "Assistant:✗⟪ find_train(town = 'Rome') ⟨<|eos|>⟩⟫\nOutput: TypeError" in text
    trained = text.partition("Assistant:⟦")[2].partition("⟧")[0]
    assert "‹" in trained and "×" in trained and trained.endswith("⟨<|eos|>⟩")
    assert "legend: ⟦trained⟧" in text and all(name in text for name in TURN_COLUMNS)
    assert "Example 1: t0" in text and "left out by MAE: 1 turns" in text
    assert "status given by the source" in text


@pytest.mark.parametrize(("line", "shown"), [("0", "made, line 1, "), ("-1", "made, trajectory")])
def test_lines_of_the_source_are_counted_from_1(workspace, line, shown):
    output(workspace)
    found = inspect.read_example(workspace.data_dir / EXAMPLES, 1)
    found = dataclasses.replace(found, tags={**found.tags, "line": line})
    assert shown in inspect.read_sample(found, 1, workspace.tokenizer).origin


def test_colours_need_a_terminal_that_wants_them(workspace, monkeypatch):
    terminal = {"force_terminal": True, "color_system": "truecolor"}
    coloured = output(workspace, **terminal)
    assert "\x1b[9;31m find_train(town = 'Rome')" in coloured and "⟦" not in coloured
    assert "\x1b[2m" in coloured and "48;2;" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "⟦" in output(workspace, **terminal)


@pytest.mark.parametrize("terminal", [{}, {"force_terminal": True, "color_system": "truecolor"}])
def test_text_cannot_steer_the_terminal(workspace, terminal):
    text = output(workspace, example=2, **terminal)
    assert "Bonn␛[31m" in text and "Bonn\x1b" not in text


def test_the_page_holds_the_same_text(workspace, tmp_path):
    out = tmp_path / "page.html"
    text = output(workspace, html=out)
    assert text.endswith(f"page: {out}\n")
    page = out.read_text(encoding="utf-8")
    assert '<span class="masked"' in page and '<span class="key level' in page
    with pytest.raises(ConfigError, match="is a directory"):
        output(workspace, html=tmp_path)


def test_an_example_that_is_not_there_is_refused_with_the_number_there_are(workspace):
    for number, words in ((3, "has 1 to 2"), (0, "counted from 1"), (-1, "counted from 1")):
        with pytest.raises(ConfigError, match=words):
            output(workspace, example=number)


def test_what_holds_no_examples_is_refused(tmp_path):
    (tmp_path / "old.jsonl").write_text('{"id": "a", "ids": [1], "weights": [0], "tags": {}}\n')
    with pytest.raises(DataError, match="write them with `tl-jax prepare`"):
        inspect.read_example(tmp_path / "old.jsonl", 1)


def test_data_of_other_settings_are_not_shown_for_those_asked_for(workspace):
    output(workspace)
    config = dataclasses.replace(workspace.config, key_tokens=KeyTokenConfig(w_max=2.0))
    with pytest.raises(ConfigError, match="with other settings .* run `tl-jax prepare` again"):
        output(Run(config))
