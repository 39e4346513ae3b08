"""A directory and a data set of the Hub are files of one kind, told by split."""

import dataclasses
import json
import shutil
import types

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import errors
from set_samples import SEAL, SEAL_TOOLS

from tl_jax.config import DataConfig
from tl_jax.data.importers import hub_sets, is_hub_id, missing, read
from tl_jax.data.importers.splits import split_of
from tl_jax.data.prepare.sources import identities, open_sources
from tl_jax.errors import ConfigError, DataError

COMMIT = "a" * 40
NAME = "someone/tool-rows_1.5"


def rows(*texts):
    return [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "b"}]}
        for t in texts
    ]


def fill(folder, **files):
    """Write files of rows; a double underscore stands for a slash, a single one for a point."""
    for name, texts in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows(*texts)), path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(*texts)))
    return folder


def texts(place):
    return [row.messages[0].content for row in read(place)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/train_sft-00000-of-00002.parquet", "train_sft"),
        ("data/my-train.jsonl.gz", "train"),
        ("test/0000.parquet", "test"),
        ("dev.jsonl", "validation"),
        ("data-00000-of-00002.arrow", ""),
        ("train/data-00000-of-00002.arrow", "train"),
        ("trainer.jsonl", ""),
        ("contest.jsonl", ""),
    ],
)
def test_the_name_of_a_file_tells_its_split(name, split):
    assert split_of(name) == split


def test_a_directory_gives_the_files_of_the_train_split_in_order(tmp_path):
    fill(tmp_path, train__b_jsonl="cd", train__a_jsonl="ab", test__a_jsonl="x")
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "tools.json").write_text("[]")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "train.parquet").write_text("")
    source = read(tmp_path)
    assert texts(tmp_path) == ["a", "b", "c", "d"]
    assert source.reason.endswith("the split train, without test")
    assert [(row.source, row.line) for row in source][1:3] == [
        ("train/a.jsonl", 1),
        ("train/b.jsonl", 0),
    ]
    assert texts(f"{tmp_path}:test") == ["x"] and texts(f"{tmp_path}:train") == list("abcd")
    assert texts(f"{tmp_path}/train/a.jsonl") == ["a", "b"]
    with pytest.raises(DataError, match="no split 'val'; there are: test, train"):
        read(f"{tmp_path}:val")


def test_shards_of_no_split_are_all_read(tmp_path):
    fill(tmp_path, b_parquet="c", a_parquet="ab")
    source = read(tmp_path)
    assert texts(tmp_path) == ["a", "b", "c"] and "split" not in source.reason
    assert [list(source.raw([file]))[0].line for file in source.place.files] == [0, 0]


def test_tools_stand_beside_the_files_of_a_directory_or_at_its_top(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(SEAL) + "\n")
    for folder in (tmp_path, tmp_path / "data"):
        tools = folder / "tools.jsonl"
        tools.write_text("\n".join(map(json.dumps, SEAL_TOOLS)))
        source = read(tmp_path)
        assert (source.format, source.tools_path) == ("seal_tools", str(tools))
        assert source.files == (str(tmp_path / "data" / "train.jsonl"), str(tools))


def test_what_of_a_directory_is_meant_must_be_clear(tmp_path):
    with pytest.raises(DataError, match=r"it holds no data file; known endings: \.json"):
        read(tmp_path)
    fill(tmp_path, a_jsonl="a", b_parquet="b")
    with pytest.raises(DataError, match=r"several kinds \(Parquet: b.parquet; JSON: a.jsonl\)"):
        read(tmp_path)
    (tmp_path / "b.parquet").unlink()
    fill(tmp_path, train_jsonl="t")
    with pytest.raises(DataError, match=r"several splits \(\(not named\), train\); say which"):
        read(tmp_path)


@dataclasses.dataclass
class Hub:
    """A stand-in for the Hub: a folder with the files of one data set."""

    source: object
    cache: object
    error: Exception | None = None
    fetched: list = dataclasses.field(default_factory=list)

    def snapshot_download(self, name, *, repo_type, revision, allow_patterns):
        assert (name, repo_type, allow_patterns) == (NAME, "dataset", ["README.md"])
        if self.error is not None:
            raise self.error
        folder = self.cache / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        if (self.source / "README.md").exists():
            shutil.copyfile(self.source / "README.md", folder / "README.md")
        return str(folder)

    def list_repo_files(self, name, *, repo_type, revision):
        assert (name, repo_type, revision) == (NAME, "dataset", COMMIT)
        found = [file for file in self.source.rglob("*") if file.is_file()]
        return [file.relative_to(self.source).as_posix() for file in found]

    def hf_hub_download(self, name, path, *, repo_type, revision):
        assert (name, repo_type, revision) == (NAME, "dataset", COMMIT)
        self.fetched.append(path)
        (self.cache / COMMIT / path).parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copyfile(self.source / path, self.cache / COMMIT / path))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / "hub", tmp_path / "cache")
    for name in ("snapshot_download", "list_repo_files", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(stand_in, name))
    hub_sets.list_files.cache_clear()
    yield stand_in
    hub_sets.list_files.cache_clear()


SHARDS = {"data__train-00001-of-00002_parquet": "bc", "data__train-00000-of-00002_parquet": "a"}


def test_a_data_set_of_the_hub_is_read_file_by_file_at_one_commit(hub):
    fill(hub.source, **SHARDS, **{"data__test-00000-of-00001_parquet": "x"})
    source = read(f"{NAME}@v1.0")
    assert source.reason.endswith(f"commit {COMMIT[:7]}; the split train, without test")
    assert len(set(hub.fetched)) == 2  # some rows of both are needed to recognise the format
    assert source.files == tuple(
        f"hf://datasets/{NAME}@{COMMIT}/data/train-0000{n}-of-00002.parquet" for n in range(2)
    )
    found = list(source)
    assert [row.messages[0].content for row in found] == ["a", "b", "c"]
    assert found[2].source == f"{NAME}/data/train-00001-of-00002.parquet" and found[2].line == 1
    assert texts(f"{NAME}:test") == ["x"]
    assert next(source.raw()).path == source.files[0]


def test_the_commit_is_the_identity_of_a_data_set_of_the_hub(hub):
    fill(hub.source, **SHARDS)
    ((identity, weight),) = identities(open_sources(DataConfig(sources=(f"{NAME}:train@2",)), 0))
    assert weight == 2 and identity.count(COMMIT) == 2
    ((same, _),) = identities(open_sources(DataConfig(path=NAME), 0))
    assert same == identity


def test_a_card_says_which_files_a_configuration_has(hub):
    fill(hub.source, **{"easy__a_jsonl": "a", "hard__b_jsonl": "b", "hard__c_jsonl": "c"})
    card = """---
configs:
- config_name: easy
  data_files: easy/*.jsonl
- config_name: hard
  data_files:
  - {split: train, path: [hard/b.jsonl]}
  - {split: test, path: "hard/c*"}
---
# Rows
"""
    (hub.source / "README.md").write_text(card)
    assert texts(f"{hub.source}:hard/test") == ["c"]  # also once it is fetched
    with pytest.raises(DataError, match=rf"configurations \(easy, hard\); .*: {NAME}:easy/train"):
        read(NAME)
    assert texts(f"{NAME}:hard/train") == ["b"] and texts(f"{NAME}@main:hard/test") == ["c"]
    assert texts(f"{NAME}:easy/train") == ["a"]
    with pytest.raises(DataError, match="no configuration 'soft'; there are: easy, hard"):
        read(f"{NAME}:soft/train")


def test_a_data_set_that_cannot_be_had_is_refused_with_what_to_do(hub):
    hub.source.mkdir()
    answer = types.SimpleNamespace(headers={}, request=None)
    for error, reason in (
        (errors.GatedRepoError("no", response=answer), "ask to accept their terms"),
        (errors.RepositoryNotFoundError("no", response=answer), "no such data set on the Hugging"),
        (errors.RevisionNotFoundError("no", response=answer), "has no revision 'v2'"),
        (errors.LocalEntryNotFoundError("no"), f"hf download --repo-type dataset {NAME}"),
        (ConnectionError("no"), "cannot be reached"),
    ):
        hub.error = error
        with pytest.raises(DataError, match=reason):
            read(f"{NAME}@v2")
    hub.error = None
    with pytest.raises(DataError, match=f"{NAME}: it holds no data file"):
        read(NAME)


def test_a_file_that_is_missing_is_no_data_set_of_the_hub(tmp_path):
    assert is_hub_id(NAME) and is_hub_id(f"{NAME}@v1:train") and not missing(NAME)
    for text in ("rows.jsonl", "data/rows.jsonl", "data/rows.JSONL.gz", "./data", "/data", "rows"):
        assert not is_hub_id(text) and missing(text).startswith(f"no file {text}; give a file")
    assert not is_hub_id(str(tmp_path))
    with pytest.raises(ConfigError, match="no file data/rows.csv; .*, or 'synthetic'"):
        open_sources(DataConfig(path="data/rows.csv"), 0)
