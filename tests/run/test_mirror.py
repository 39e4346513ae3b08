"""A run on a bucket: nothing is lost or half there, whatever request fails and whoever stops."""

import contextlib
import json
import random
import shutil

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from tl_jax.config.places import check_place
from tl_jax.errors import ConfigError, RunNotWritable
from tl_jax.run import bucket, bucket_writer, lock, mirror
from tl_jax.run.bucket import Bucket, is_bucket

PLACE = "s3://bucket/runs/first"


class Gone(BaseException):
    """The machine is switched off."""


class Unlucky(MemoryFileSystem):
    """A bucket of which some requests fail, and after some number of them all."""

    protocol = "s3"
    cachable = False
    share, left = 0.0, float("inf")
    rng = random.Random(0)

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://").strip("/")

    def _request(self):
        if type(self).left <= 0:
            raise Gone
        type(self).left -= 1
        if self.rng.random() < self.share:
            raise OSError("503 Slow Down")

    def find(self, *args, **kwargs):
        self._request()
        return super().find(*args, **kwargs)

    def cat_file(self, *args, **kwargs):
        self._request()
        return super().cat_file(*args, **kwargs)

    def pipe_file(self, *args, **kwargs):
        self._request()
        return super().pipe_file(*args, **kwargs)

    def get_file(self, *args, **kwargs):
        self._request()
        return super().get_file(*args, **kwargs)

    def put_file(self, *args, **kwargs):
        self._request()
        return super().put_file(*args, **kwargs)

    def rm_file(self, *args, **kwargs):
        self._request()
        return super().rm_file(*args, **kwargs)


@pytest.fixture(autouse=True)
def storage(monkeypatch):
    fsspec.register_implementation("s3", Unlucky, clobber=True)
    for name, value in {"share": 0.0, "left": float("inf"), "rng": random.Random(0)}.items():
        setattr(Unlucky, name, value)
    Unlucky.store.clear()
    Unlucky.pseudo_dirs[:] = [""]
    for of, name, value in (
        (bucket, "_FIRST_S", 0.0),
        (bucket, "_THREADS", 1),
        (bucket_writer, "SETTLE_S", 0.0),
        (lock, "BEAT_S", 1.0),
        (lock, "PATIENCE_S", 0.3),
        (mirror, "EVERY_S", 3600.0),
    ):
        monkeypatch.setattr(of, name, value)
    yield Unlucky
    fsspec.register_implementation("s3", S3FileSystem, clobber=True)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that goes on with what follows on another machine."""

    def go(name):
        monkeypatch.setenv("TL_JAX_CACHE", str(tmp_path / name))
        return mirror.home(PLACE)

    return go


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def texts(folder):
    """Return what the files of a run hold."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".mirror", "lock.json"))
    }


def save(folder, step):
    """Write what a step of training leaves: its row of metrics, then its checkpoint."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    place = f"checkpoints/supervised/{step}"
    write(folder, f"{place}/state/commit_success.txt", "")
    for part in range(3):
        write(folder, f"{place}/state/d/{part}", f"{step} {part}")
    write(folder, f"{place}/commit_success.txt", "")
    write(folder, f"{place}/digests.json", str(step))
    write(folder, "newest.json", str(step))


def prune(folder, step):
    for path in sorted((folder / f"checkpoints/supervised/{step}").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def test_what_one_machine_leaves_another_finds_although_a_fifth_of_the_requests_fail(
    machine, storage
):
    storage.share = 0.2
    rng = random.Random(1)
    expected = {}
    for number in range(8):
        folder = machine(f"machine {number}")
        with mirror.mirrored(PLACE, writes=True) as found:
            assert found == folder
            assert texts(folder) == expected
            for _ in range(6):
                name = f"{rng.choice('abc')}/{rng.randrange(5)}.json"
                if rng.random() < 0.3 and (folder / name).exists():
                    (folder / name).unlink()
                else:
                    write(folder, name, str(rng.random()))
            expected = texts(folder)
    assert len(expected) > 5


@pytest.mark.parametrize("step", range(0, 33))
def test_a_machine_that_vanishes_at_any_request_leaves_a_run_that_goes_on(step, machine, storage):
    folder = machine("one")
    with mirror.mirrored(PLACE, writes=True):
        write(folder, "config.json", "{}")
        save(folder, 1)
        save(folder, 2)
    with contextlib.suppress(Gone), mirror.mirrored(PLACE, writes=True):
        save(folder, 3)
        prune(folder, 1)
        save(folder, 4)
        prune(folder, 2)
        storage.left = step
    storage.left = float("inf")

    folder = machine("two")
    with mirror.mirrored(PLACE, writes=True):
        found = texts(folder)
    markers = [name for name in found if name.count("/") == 3 and name.endswith("success.txt")]
    steps = [int(name.split("/")[2]) for name in markers]
    assert steps, "no checkpoint is left"
    for saved in steps:
        place = f"checkpoints/supervised/{saved}"
        assert found[f"{place}/digests.json"] == str(saved)
        assert [found[f"{place}/state/d/{part}"] for part in range(3)] == [
            f"{saved} {part}" for part in range(3)
        ]
    rows = [json.loads(row)["step"] for row in found["metrics.jsonl"].splitlines()]
    assert rows == list(range(1, len(rows) + 1)) and len(rows) >= max(steps)
    assert int(found["newest.json"]) <= max(steps)


def test_a_folder_that_was_killed_is_ahead_of_the_bucket(machine, storage):
    folder = machine("one")
    with pytest.raises(Gone), mirror.mirrored(PLACE, writes=True):
        save(folder, 1)
        storage.left = 0
    storage.left = float("inf")
    ours = texts(folder)
    with mirror.mirrored(PLACE, writes=True):
        assert texts(folder) == ours
    folder = machine("two")
    with mirror.mirrored(PLACE, writes=True):
        assert texts(folder) == ours


def test_what_a_run_did_that_went_on_elsewhere_is_put_aside(machine, storage, caplog):
    folder = machine("one")
    with pytest.raises(Gone), mirror.mirrored(PLACE, writes=True):
        write(folder, "kept.json", "here")
        storage.left = 0
    storage.left = float("inf")
    elsewhere = machine("two")
    with mirror.mirrored(PLACE, writes=True):
        write(elsewhere, "other.json", "there")
    machine("one")
    write(folder, "other.json", "here")  # never copied, of the same name
    with mirror.mirrored(PLACE, writes=True):
        assert texts(folder) == {"other.json": "there"}
    (aside,) = folder.parent.glob("*.aside-*")
    assert texts(aside) == {"kept.json": "here", "other.json": "here"}
    assert str(aside) in caplog.text


def test_two_writers_are_told_from_one_that_is_gone(machine, storage, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    machine("one")
    with mirror.mirrored(PLACE, writes=True):
        machine("two")
        with pytest.raises(RunNotWritable, match="writes this run since"):
            with mirror.mirrored(PLACE, writes=True):
                raise AssertionError
    monkeypatch.setattr(lock, "BEAT_S", 1.0)
    machine("one")
    with pytest.raises(Gone), mirror.mirrored(PLACE, writes=True):
        storage.left = 0
    storage.left = float("inf")
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    assert json.loads(Bucket(PLACE).read(bucket_writer.FILE))["open"]
    machine("two")
    with mirror.mirrored(PLACE, writes=True):
        pass
    assert not json.loads(Bucket(PLACE).read(bucket_writer.FILE))["open"]


def test_a_reader_adds_its_files_while_another_writes(machine):
    folder = machine("one")
    with mirror.mirrored(PLACE, writes=True):
        save(folder, 1)
    with mirror.mirrored(PLACE, writes=True):
        save(folder, 2)
        reading = machine("two")
        with mirror.mirrored(PLACE, writes=False) as found:
            assert found == reading and "1" in texts(reading)["newest.json"]
            write(reading, "results/supervised/rotbench.json", "{}")
            (reading / "newest.json").unlink()
    there = Bucket(PLACE).listing()
    assert {"results/supervised/rotbench.json", "newest.json"} <= there.keys()
    machine("one")
    with mirror.mirrored(PLACE, writes=True):
        assert (folder / "results/supervised/rotbench.json").exists()


def test_folders_that_vanish_while_it_looks_do_no_harm(machine, monkeypatch):
    folder = machine("one")
    folder.mkdir(parents=True)
    save(folder, 1)
    state = mirror._state

    def pruned(path):
        if path.name == "config.json":
            shutil.rmtree(folder / "checkpoints")
        return state(path)

    write(folder, "config.json", "{}")
    monkeypatch.setattr(mirror, "_state", pruned)
    assert "config.json" in mirror._files(folder)


def test_a_note_that_changes_while_others_are_copied_waits_for_the_next_copy(machine, monkeypatch):
    folder = machine("one")
    order = mirror._in_order

    def saved_meanwhile(*arguments):
        save(folder, 2)
        return order(*arguments)

    with mirror.mirrored(PLACE, writes=True):
        save(folder, 1)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(mirror, "_in_order", saved_meanwhile)
            mirror.push(Bucket(PLACE), folder, removes=True)
        assert "newest.json" not in Bucket(PLACE).listing()
    assert Bucket(PLACE).read("newest.json") == b"2"


def test_a_bucket_that_is_not_there_is_told(machine, monkeypatch):
    machine("one")
    with monkeypatch.context() as absent, pytest.raises(ConfigError, match="no such bucket"):
        absent.setattr(Unlucky, "pipe_file", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
        with mirror.mirrored(PLACE, writes=True):
            raise AssertionError


def test_a_dry_run_leaves_nothing_on_the_bucket(machine):
    folder = machine("one")
    with mirror.mirrored(PLACE, writes=False, sends=False):
        write(folder, "config.json", "{}")
    assert not Bucket(PLACE).listing()


def test_a_bucket_that_cannot_be_reached_is_named_with_the_folder_that_holds_all(machine, storage):
    folder = machine("one")
    with pytest.raises(RunNotWritable, match=rf"Slow Down.*{folder.name}.*again here"):
        with mirror.mirrored(PLACE, writes=True):
            write(folder, "config.json", "{}")
            storage.share = 1.0
    assert texts(folder) == {"config.json": "{}"}


def test_objects_outside_of_the_run_are_refused(machine):
    machine("one")
    with pytest.raises(ConfigError, match="outside of the run"):
        mirror.pull(Listed(PLACE), mirror.home(PLACE), ahead=False)


class Listed(Bucket):
    def listing(self):
        return {"../elsewhere.json": "1"}


def test_a_storage_whose_package_is_missing_is_named():
    fsspec.register_implementation("gs", "no_such_package.Files", clobber=True)
    try:
        with pytest.raises(ConfigError, match="pip install gcsfs"):
            Bucket("gs://bucket/run")
    finally:
        fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)


def test_only_runs_lie_on_buckets():
    assert is_bucket("gs://bucket/run") and is_bucket("s3://bucket/run")
    assert not is_bucket("runs/gs") and not is_bucket("hf://org/name")
    with pytest.raises(ConfigError, match="only a run may lie on a bucket"):
        check_place("config.data.path", "s3://bucket/rows.jsonl")
