"""A prepared directory is whole, old or absent, also when the process is killed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import ORDER, write_order
from tl_jax.data.examples.shards import INDEX, shard_name, write_examples
from tl_jax.data.prepare import verify
from tl_jax.data.prepare.files import (
    EXAMPLES,
    FINGERPRINT,
    LINES,
    PROMPTS,
    REPORT,
    SHARDED,
    replacing,
    source_hash,
    up_to_date,
    write_fingerprint,
)

KILLED = """
import pathlib, sys, time
from tl_jax.data.prepare.files import PROMPTS, replacing
with replacing(pathlib.Path(sys.argv[1])) as work:
    (work / PROMPTS).write_text("half a line")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_process_leaves_the_old_files_and_the_next_run_clears_up(tmp_path):
    out = tmp_path / "data"
    with replacing(out) as work:
        (work / REPORT).write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    assert len(names(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(out) == [REPORT] and (out / REPORT).read_text() == "old"
    with replacing(out) as work:
        assert names(tmp_path) == sorted([work.name, "data"])
        (work / REPORT).write_text("new")
    assert names(tmp_path) == ["data"] and (out / REPORT).read_text() == "new"


def test_what_a_running_process_writes_is_left_alone(tmp_path):
    other = tmp_path / f".data-{os.getppid()}-abc"
    other.mkdir()
    similar = tmp_path / ".data-notes"
    similar.mkdir()
    with replacing(tmp_path / "data"):
        pass
    assert other.exists() and similar.exists()


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), replacing(tmp_path / "data"):
        raise KeyError
    assert not names(tmp_path)


@pytest.fixture
def made(tmp_path):
    """A directory made from ``{"a": 1}``."""
    for name in LINES:
        (tmp_path / name).write_text('{"row": 1}\n{"row": 2}\n')
    for name in SHARDED:
        write_examples(tmp_path / name, [Example("a", [1, 2], [0, 1.0], {})])
    write_order(tmp_path / EXAMPLES)
    (tmp_path / REPORT).write_text('{"rows": 2}')
    write_fingerprint(tmp_path, {"a": 1})
    return tmp_path


def test_files_of_the_same_inputs_are_up_to_date(made):
    assert up_to_date(made, {"a": 1}) == {"rows": 2}
    assert up_to_date(made, {"a": 2}) is None


PIECES = [f"{name}/{file}" for name in SHARDED for file in (INDEX, shard_name(0))]
PIECES.append(f"{EXAMPLES}/{ORDER}")


@pytest.mark.parametrize("name", [REPORT, FINGERPRINT, *LINES, *PIECES])
def test_a_directory_without_one_of_its_files_is_not_up_to_date(made, name):
    (made / name).unlink()
    assert up_to_date(made, {"a": 1}) is None


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("left", ["", '{"row": 1}\n', '{"row": 1}\n{"ro'])
def test_a_file_that_was_cut_is_not_up_to_date(made, name, left):
    (made / name).write_text(left)
    assert up_to_date(made, {"a": 1}) is None


@pytest.mark.parametrize("name", [*LINES, *PIECES])
def test_damage_that_keeps_the_size_is_found_and_the_data_are_no_more_up_to_date(made, name):
    assert verify.find_damage(made, remembering=True) is None
    content = bytearray((made / name).read_bytes())
    content[len(content) // 2] ^= 1
    (made / name).write_bytes(bytes(content))
    assert name in (verify.find_damage(made, remembering=True) or "")
    verify.mark_damaged(made)
    assert up_to_date(made, {"a": 1}) is None


def test_files_that_were_found_right_are_not_read_again(made, monkeypatch):
    assert verify.find_damage(made, remembering=True) is None
    monkeypatch.setattr(verify, "source_hash", lambda path: pytest.fail(f"read {path}"))
    assert verify.find_damage(made, remembering=True) is None
    (made / PROMPTS).touch()
    with pytest.raises(pytest.fail.Exception, match=PROMPTS):
        verify.find_damage(made, remembering=True)


def test_what_a_data_set_was_made_of_is_told_from_its_settings(tmp_path):
    before = {"version": 1, "sources": [["a", 1.0]], "tokenizer": "t", "config": "c"}
    (tmp_path / FINGERPRINT).write_text(json.dumps(before))
    assert not verify.changed_inputs(tmp_path, {**before, "config": "d"}, [("x", ["a", 1.0])])
    changed = {**before, "tokenizer": "u", "sources": [["b", 1.0]], "template": "new"}
    told = verify.changed_inputs(tmp_path, changed, [("x.jsonl", ["b", 1.0])])
    assert told == ["x.jsonl", "the tokenizer", "the chat template"]


def test_files_of_unknown_size_are_not_up_to_date(made):
    (made / FINGERPRINT).write_text('{"a": 1}')
    assert up_to_date(made, {"a": 1}) is None


def test_the_source_hash_follows_the_bytes(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    assert source_hash(tmp_path / "a") == source_hash(tmp_path / "b")
    (tmp_path / "b").write_text("y")
    assert source_hash(tmp_path / "a") != source_hash(tmp_path / "b")
