"""Sources of a mixture are named, weighted and refused by plain words."""

import json

import pytest

from tl_jax.config import DataConfig
from tl_jax.data.prepare.sources import identities, open_sources, parse_source
from tl_jax.data.trajectory import to_json
from tl_jax.errors import ConfigError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.jsonl", ("a.jsonl", "auto", 1.0)),
        ("a.jsonl@0.5", ("a.jsonl", "auto", 0.5)),
        ("d/a.jsonl:canonical@2", ("d/a.jsonl", "canonical", 2.0)),
        ("x:y@z.jsonl", ("x:y@z.jsonl", "auto", 1.0)),
        ("synthetic@3", ("synthetic", "auto", 3.0)),
        ("org/name", ("org/name", "auto", 1.0)),
        ("org/name:openai", ("org/name", "openai", 1.0)),
        ("org/name:train@2", ("org/name:train", "auto", 2.0)),
        ("org/name@v1:easy/train:openai@0.5", ("org/name@v1:easy/train", "openai", 0.5)),
        ("org/name@2.0@1", ("org/name@2.0", "auto", 1.0)),
        ("rows/a.jsonl@2", ("rows/a.jsonl", "auto", 2.0)),
    ],
)
def test_a_source_is_a_path_a_format_and_a_weight(text, expected):
    assert parse_source(text) == expected


@pytest.mark.parametrize("text", ["a.jsonl@0", "a.jsonl@-1", "a.jsonl@nan", "a@inf", "@2", ""])
def test_unusable_sources_are_refused(text):
    with pytest.raises(ConfigError, match=r"config\.data\.sources"):
        parse_source(text)


def test_a_number_behind_a_name_on_the_hub_may_be_a_revision_and_is_refused():
    with pytest.raises(
        ConfigError,
        match="0.5 in 'org/name@0.5' may be a weight or a revision; write org/name@main@0.5 for "
        "the weight, org/name@0.5@1 for the revision",
    ):
        parse_source("org/name@0.5")


@pytest.fixture
def rows(trajectory, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(to_json(trajectory)) + "\n")
    return path


def test_one_path_and_several_sources_are_opened_alike(rows):
    (one,) = open_sources(DataConfig(path=str(rows)), 0)
    mixed = open_sources(DataConfig(sources=(f"{rows}@2", "synthetic")), 0)
    assert [source.weight for source in mixed] == [2.0, 1.0]
    assert list(one.rows) == list(mixed[0].rows)
    assert mixed[1].name == "synthetic"


def test_the_identity_follows_bytes_format_weight_and_seed(rows):
    def identity(seed=0, **changes):
        return identities(open_sources(DataConfig(**changes), seed))

    base = identity(sources=(str(rows),))
    assert base != identity(sources=(f"{rows}@2",))
    assert identity(seed=0) != identity(seed=1)
    rows.write_text(rows.read_text() * 2)
    assert identity(sources=(str(rows),)) != base


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sources": ("<rows>", "<rows>@2")}, "twice"),
        ({"sources": ("<rows>",), "path": "<rows>"}, "data.path .*sources is set, too"),
        ({"sources": ("<rows>",), "format": "canonical"}, "data.format"),
        ({"sources": ("nowhere.jsonl",)}, "no file nowhere.jsonl"),
        ({"path": "nowhere.jsonl"}, r"config\.data\.path: no file"),
        ({"sources": ("<rows>:tl_training", "<empty>")}, "format not recognised"),
    ],
)
def test_a_mixture_that_cannot_be_read_is_refused_at_the_door(rows, tmp_path, changes, message):
    (tmp_path / "empty.jsonl").write_text('{"a": 1}\n')
    names = {"<rows>": str(rows), "<empty>": str(tmp_path / "empty.jsonl")}

    def placed(value):
        for name, path in names.items():
            value = value.replace(name, path)
        return value

    placed_changes = {
        name: tuple(map(placed, value)) if isinstance(value, tuple) else placed(value)
        for name, value in changes.items()
    }
    with pytest.raises(ConfigError, match=message):
        open_sources(DataConfig(**placed_changes), 0)
