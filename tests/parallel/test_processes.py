"""What several processes may do together, who writes, and how one that failed ends."""

import json
import os
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from tl_jax.errors import ConfigError
from tl_jax.parallel import processes


def pretend(monkeypatch, count, index=0):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: index)


def test_one_process_is_first_never_waits_and_may_do_everything(monkeypatch):
    monkeypatch.setattr(multihost_utils, "sync_global_devices", lambda name: pytest.fail(name))
    assert processes.is_first()
    processes.wait_for_all("here")
    processes.require_one("a chat")
    assert processes.own_part(5) == slice(0, 5) and processes.join_parts((1, "b")) == [1, "b"]


def test_several_processes_wait_and_are_refused_what_needs_one(monkeypatch):
    pretend(monkeypatch, 2, index=1)
    points = []
    monkeypatch.setattr(multihost_utils, "sync_global_devices", points.append)
    assert not processes.is_first()
    processes.wait_for_all("config.json")
    assert points == ["config.json"]
    with pytest.raises(ConfigError, match="a chat needs one process; training and evaluation"):
        processes.require_one("a chat")


@pytest.mark.parametrize("count", [0, 3, 4, 9])
def test_several_processes_share_things_out_and_put_them_together_again(monkeypatch, count):
    things = [{"text": "é" * number, "number": number / 3} for number in range(count)]
    parts, said = [], []
    for index in range(4):
        pretend(monkeypatch, 4, index)
        parts.append(things[processes.own_part(count)])
    assert [thing for part in parts for thing in part] == things
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    texts = [json.dumps(part).encode() for part in parts]
    longest = max(map(len, texts))

    def gathered(value):
        said.append(value)
        if len(said) == 1:
            return np.array([len(text) for text in texts])
        return np.stack([np.frombuffer(text.ljust(longest, b"\0"), np.uint8) for text in texts])

    monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
    assert processes.join_parts(parts[3]) == things
    assert said[1].tobytes() == texts[3].ljust(longest, b"\0")


def test_alone_a_failure_ends_in_the_usual_way(monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("left at once"))
    with pytest.raises(SystemExit) as ended:
        processes.leave(2)
    assert ended.value.code == 2


@pytest.mark.parametrize(("index", "waits"), [(0, True), (1, False)])
def test_with_others_a_failure_ends_at_once_and_the_first_goes_last(monkeypatch, index, waits):
    pretend(monkeypatch, 2, index)
    done = []

    def end(status):
        done.append(status)
        raise KeyboardInterrupt

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(time, "sleep", lambda seconds: done.append("waited"))
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(KeyboardInterrupt):
        processes.leave(2)
    assert done == (["waited", 2] if waits else [2])
