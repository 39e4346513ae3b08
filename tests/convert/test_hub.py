"""A model of the Hub is fetched without code, held at one commit, and refused with a reason."""

import dataclasses
import fnmatch
import json
import shutil
import types

import huggingface_hub
import jax
import pytest
from huggingface_hub import errors

from tl_jax.config import ModelConfig
from tl_jax.convert import from_hf, hub, to_hf
from tl_jax.convert.hf_directory import ModelError
from tl_jax.models import functional

CONFIG = ModelConfig(32, 16, 1, 2, 1, 8, 24)
OLD, NEW = "a" * 40, "b" * 40
NAME = "someone/tool-model_1.5"


@dataclasses.dataclass
class Hub:
    """A stand-in for the Hub and its cache.

    Attributes:
      source: The files of the model.
      cache: Where they are copied to.
      branches: Revision -> commit.
      error: Raised instead of an answer to what is not in the cache.
      asked: Revisions asked for.
    """

    source: object
    cache: object
    branches: dict
    error: Exception | None = None
    asked: list = dataclasses.field(default_factory=list)

    def snapshot_download(self, name, *, revision, allow_patterns, ignore_patterns):
        self.asked.append(revision)
        commit = self.branches.get(revision, revision)
        folder = self.cache / name.replace("/", "--") / commit
        if self.error is not None and not (revision == commit and folder.exists()):
            raise self.error
        for file in self.source.rglob("*"):
            place = str(file.relative_to(self.source))
            wanted = any(fnmatch.fnmatch(place, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch.fnmatch(place, pattern) for pattern in ignore_patterns):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / place)
        return str(folder)


@pytest.fixture(scope="module")
def params():
    return functional.init(CONFIG, jax.random.key(0))


@pytest.fixture
def online(params, tmp_path, monkeypatch):
    source = tmp_path / "source"
    to_hf.save(params, source, config=CONFIG)
    for name in ("tokenizer.json", "merges.txt", "chat_template.jinja", "README.md", "model.py"):
        (source / name).write_text("{}")
    for name in ("pytorch_model.bin", "consolidated.safetensors", "tokenizer.model"):
        (source / name).write_bytes(b"0")
    for folder in ("onnx", "add", "additional_chat_templates", "additional_chat_templates_old"):
        (source / folder / "more").mkdir(parents=True)
        for name in ("config.json", "tool_use.jinja", "more/other.jinja", "model.safetensors"):
            (source / folder / name).write_text("{}")
    stand_in = Hub(source, tmp_path / "cache", {"main": OLD, "v1.0": NEW})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in.snapshot_download)
    hub._at_commit.cache_clear()
    yield stand_in
    hub._at_commit.cache_clear()


def answer(kind):
    return kind("said no", response=types.SimpleNamespace(headers={}, request=None))


def test_only_weights_settings_and_tokenizer_are_fetched(online, params):
    model = hub.fetch(NAME)
    assert (model.id, model.revision, model.commit) == (NAME, "main", OLD)
    found = {str(file.relative_to(model.directory)) for file in model.directory.rglob("*.*")}
    assert found == {
        "additional_chat_templates/tool_use.jinja",
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
    }
    loaded = from_hf.load(model.directory)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), loaded, params))
    assert hub.fetch(f"{NAME}@v1.0").commit == NEW


def test_a_plan_fetches_no_weights(online):
    model = hub.fetch(NAME, ("config.json",))
    assert [file.name for file in model.directory.iterdir()] == ["config.json"]


def test_a_run_keeps_to_the_commit_it_began_with(online, tmp_path):
    run = tmp_path / "run"
    assert hub.pinned(NAME, run) is None
    assert hub.pin(NAME, run).commit == OLD
    assert json.loads((run / hub.PIN).read_text()) == {
        "id": NAME,
        "revision": "main",
        "commit": OLD,
    }
    online.branches["main"] = NEW
    hub._at_commit.cache_clear()
    for _ in range(2):
        again = hub.pin(NAME, run)
        assert again.commit == OLD and again.directory.name == OLD
    assert online.asked == ["main", OLD]
    assert hub.pinned(f"{NAME}@v1.0", run) is None


def test_a_pinned_model_in_the_cache_needs_no_network(online, tmp_path):
    directory = hub.pin(NAME, tmp_path / "run").directory
    online.error = errors.LocalEntryNotFoundError("no network")
    hub._at_commit.cache_clear()
    assert hub.pin(NAME, tmp_path / "run").directory == directory


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            answer(errors.GatedRepoError),
            r"accept their terms .*huggingface.co/someone/.*hf auth",
        ),
        (answer(errors.RepositoryNotFoundError), "no such directory here, and no such model on"),
        (answer(errors.RevisionNotFoundError), "has no revision 'main'"),
        (answer(errors.HfHubHTTPError), r"cannot be reached .*said no.*go online, or give a local"),
        (errors.LocalEntryNotFoundError("offline"), "not whole in the cache .*offline"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached .*offline"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_fetched_is_explained(online, tmp_path, error, message):
    online.error = error
    with pytest.raises(ModelError, match=message) as raised:
        hub.pin(NAME, tmp_path / "run")
    assert NAME in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_damaged_record_is_refused(online, tmp_path):
    record = {"id": NAME, "revision": "main", "commit": "../../etc"}
    (tmp_path / hub.PIN).write_text(json.dumps(record))
    with pytest.raises(ModelError, match="commit must be 40 hexadecimal digits"):
        hub.pinned(NAME, tmp_path)


def test_paths_are_no_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_id("org/name") and hub.is_id("org/name@refs/pr/1")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not hub.is_id("org/name")
    for text in ("name", "/org/name", "a/b/c", "./name", "../name", "org/name@", "org/na me", ""):
        assert not hub.is_id(text), text
