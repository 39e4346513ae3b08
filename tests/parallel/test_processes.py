"""What several processes may do together, and who writes."""

import jax
import pytest
from jax.experimental import multihost_utils

from tl_jax.config import ConfigError
from tl_jax.parallel import processes


def pretend(monkeypatch, count, index=0):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: index)


def test_one_process_is_first_never_waits_and_may_do_everything(monkeypatch):
    monkeypatch.setattr(multihost_utils, "sync_global_devices", lambda name: pytest.fail(name))
    assert processes.is_first()
    processes.wait_for_all("here")
    processes.require_one("evaluation")


def test_several_processes_wait_and_are_refused_what_needs_one(monkeypatch):
    pretend(monkeypatch, 2, index=1)
    points = []
    monkeypatch.setattr(multihost_utils, "sync_global_devices", points.append)
    assert not processes.is_first()
    processes.wait_for_all("config.json")
    assert points == ["config.json"]
    with pytest.raises(ConfigError, match="evaluation needs one process for now; supervised"):
        processes.require_one("evaluation")
