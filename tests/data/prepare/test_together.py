"""What is prepared depends on no number of processes or hosts, and goes on after a kill."""

import dataclasses
import os
import socket
import subprocess
import sys
import threading

import pytest

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.importers import BadRow
from tl_jax.data.prepare import chunks, pool, worker, workspace
from tl_jax.data.prepare.dataset import Hosts, prepare
from tl_jax.data.prepare.maker import Maker
from tl_jax.data.prepare.sources import EmbeddedWorld, WeightedSource
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError

GLOBAL = {"duplicates": "near", "max_trajectories": 25, "max_prompts": 20}
"""Settings that need all trajectories in view."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Chunks and files so small that there are many."""
    monkeypatch.setattr(chunks, "_ROWS", 9)
    monkeypatch.setattr(workspace, "SHARD_BYTES", 40_000)
    monkeypatch.setattr(pool, "FEW", 2)


def sources(trajectory):
    """Three kinds of rows, some of them bad, some that occur again."""
    made = [
        dataclasses.replace(
            trajectory,
            id=f"t{number}",
            line=number,
            messages=(Message("user", f"query {number % 20}"), *trajectory.messages[1:]),
        )
        for number in range(40)
    ]
    bad = [BadRow("made", 40, "not JSON", "{")]
    return [
        WeightedSource("world", EmbeddedWorld(35, 3), "world", 1.5),
        WeightedSource("made", made + bad, "made"),
        WeightedSource("none", [], "none"),
    ]


def run(trajectory, tokenizer, out, hosts=None, **changes):
    settings = {"max_length": 1500, "validation_fraction": 0.1, "max_bad_fraction": 0.1}
    settings |= {"workers": 1, **changes}
    return prepare(
        sources(trajectory),
        tokenizer,
        data=DataConfig(**settings),
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
        out_dir=out,
        hosts=hosts,
    )


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_any_number_of_processes_and_hosts_prepares_the_same(trajectory, tokenizer, tmp_path):
    for name, changes in (("plain", {}), ("global", GLOBAL)):
        report = run(trajectory, tokenizer, tmp_path / f"{name} 1", workers=1, **changes)
        assert report["rows"] == 76 and report["bad_rows"] == 1
        alone = contents(tmp_path / f"{name} 1")
        files = sum(file.endswith(".array_record") for file in alone)
        assert files > 2
        if changes:
            assert {"exact duplicate", "near duplicate"} == set(report["removed"])
            assert sum(report["trajectories"].values()) == 25 and report["prompts"]["train"] == 20
            again = run(trajectory, tokenizer, tmp_path / f"{name} 2", workers=2, **changes)
            assert again == report and contents(tmp_path / f"{name} 2") == alone

        barrier, found = threading.Barrier(3), []
        threads = [
            threading.Thread(
                target=lambda n=n, changes=changes, name=name, barrier=barrier, found=found: (
                    found.append(
                        run(
                            trajectory,
                            dataclasses.replace(tokenizer),
                            tmp_path / f"{name} 3",
                            Hosts(n, 3, lambda _: barrier.wait(60) and None),
                            workers=1,
                            **changes,
                        )
                    )
                )
            )
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [report] * 3
        assert contents(tmp_path / f"{name} 3") == alone
    assert {path.name[0] for path in tmp_path.iterdir()} == {"p", "g"}  # nothing is left beside


def test_what_is_finished_is_not_made_again_and_what_is_torn_is(
    trajectory, tokenizer, tmp_path, monkeypatch
):
    run(trajectory, tokenizer, tmp_path / "through", **GLOBAL)
    made, do = [], Maker.do

    def recorded(maker, task):
        chunk = getattr(task, "chunk", None)
        made.append((type(task).__name__, task.number if chunk is None else chunk.number))
        if len(made) == stop:
            raise KeyboardInterrupt
        do(maker, task)

    monkeypatch.setattr(Maker, "do", recorded)
    stop = 13
    with pytest.raises(KeyboardInterrupt):
        run(trajectory, tokenizer, tmp_path / "data", **GLOBAL)
    (left,) = tmp_path.glob(".data-parts-*")
    assert [kind for kind, _ in made].count("Scan") == 9
    first, torn, *_ = sorted(left.glob("part-*"))
    os.truncate(torn, torn.stat().st_size - 1)
    scan = left / "scan-0000004"
    scan.write_bytes(scan.read_bytes()[:-4] + b"torn")
    del made[:]
    stop = 0
    run(trajectory, tokenizer, tmp_path / "data", **GLOBAL)
    assert made[0] == ("Scan", 4)
    assert [n for kind, n in made if kind == "Build"] == [1, *range(3, 9)]
    assert first.name == "part-0000000"
    assert contents(tmp_path / "data") == contents(tmp_path / "through")
    assert not list(tmp_path.glob(".data*"))


def test_work_for_other_inputs_is_cleared_away(trajectory, tokenizer, tmp_path):
    (tmp_path / ".data-parts-0123").mkdir()
    other = tmp_path / ".data-parts-4567"
    other.mkdir()
    (other / "owner").write_text(f"{os.getppid()} {socket.gethostname()}")
    run(trajectory, tokenizer, tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "data"]


def test_rows_that_can_be_read_once_only_are_refused_where_they_are_needed_twice(
    tokenizer, tmp_path
):
    with pytest.raises(ValueError, match="made: duplicates and samples need its rows twice"):
        prepare(
            [WeightedSource("made", iter([]))],
            tokenizer,
            data=DataConfig(duplicates="exact"),
            mae=MaeConfig(),
            key_tokens=KeyTokenConfig(),
            seed=0,
            out_dir=tmp_path / "data",
        )


def test_a_process_that_ends_is_said_with_the_setting(monkeypatch):
    def start():
        here, there = pool.multiprocessing.connection.Pipe()
        there.close()
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"]), here

    monkeypatch.setattr(pool, "_start", start)
    found = pool.Pool(None, print, 2)
    with pytest.raises(DataError, match=r"ended with status 9 .*lower config\.data\.workers"):
        found.run(range(9))
    found.close()


def test_errors_of_tasks_are_sent_back_and_the_next_task_is_done(monkeypatch):
    class Broken:
        def __init__(self, job):
            self.job = job

        def do(self, task):
            if task == "refuse":
                raise DataError(f"refused {self.job}")
            assert task == "good"

    monkeypatch.setattr(worker, "Maker", Broken)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    here, there = pool.multiprocessing.connection.Pipe()
    for message in ("job", "refuse", "break", "good"):
        here.send(message)
    socket.socket(fileno=os.dup(here.fileno())).shutdown(socket.SHUT_WR)
    worker.main(os.dup(there.fileno()))
    refused, broken, good = (here.recv() for _ in range(3))
    assert isinstance(refused, DataError) and str(refused) == "refused job"
    assert "AssertionError" in str(broken) and good is None
