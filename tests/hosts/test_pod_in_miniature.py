"""Four true processes of ``launch/local_multiprocess.sh``: killed, stopped, resumed, and the same.

Takes minutes: ``tools/test.sh -m slow tests/hosts``.
"""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cluster
import jax
import pytest
from rich.console import Console

from tl_jax.config import RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import sft

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, STEPS, EVERY = 4, 40, 5
SETTINGS = {
    **{
        f"model.{field.name}": getattr(cluster.MODEL, field.name)
        for field in dataclasses.fields(cluster.MODEL)
        if field.name == "path" or field.name.startswith("scratch_")
    },
    "data.synthetic_trajectories": 60,
    "data.batch_size": 4,
    "data.streams": 2,
    "data.packing_bins": 4,
    "train.steps": STEPS,
    "train.log_every": 1,
    "train.eval_batches": 0,
    "ppo.steps": 0,
    "checkpoint.every_steps": EVERY,
}


def open_run(run_dir):
    """Return the workspace of the configuration that the processes get."""
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "configs/quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config()
    values.update_from_flattened_dict({**SETTINGS, "run_dir": str(run_dir)})
    workspace = Run(from_dict(RunConfig, values.to_dict()))
    workspace.__dict__["mesh"] = make_mesh(workspace.config.mesh, jax.devices()[:PROCESSES])
    return workspace


class Pod:
    """A running ``local_multiprocess.sh``.

    Attributes:
      run_dir: Of the run.
      folder: Holds the logs of the processes.
    """

    def __init__(self, run_dir, folder):
        self.run_dir, self.folder = run_dir, folder
        folder.mkdir()
        self._said = folder / "process_0.log"
        bin_dir = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "VIRTUAL_ENV": str(bin_dir.parent),
            "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
            "XLA_FLAGS": "",
        }
        flags = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
        words = [f"--processes={PROCESSES}", f"--logs={folder}", "--", "--stages=train"]
        words += ["--config=configs/quickstart.py", f"--config.run_dir={run_dir}", *flags]
        with self._said.open("w") as said:
            self._launcher = subprocess.Popen(
                ["bash", "launch/local_multiprocess.sh", *words],
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self, index=0):
        return (self.folder / f"process_{index}.log").read_text(encoding="utf-8")

    def kill(self, index, number):
        (line,) = (x for x in self.said().splitlines() if x.startswith("processes: "))
        pids = line.removeprefix("processes: ").partition(";")[0].split()
        os.kill(int(pids[index]), number)

    def wait_for_step(self, step):
        while max(steps(self.run_dir), default=0) < step:
            assert self._launcher.poll() is None, self.said()
            time.sleep(0.02)

    def end(self):
        """Return the exit status."""
        try:
            return self._launcher.wait(500)
        finally:
            self._launcher.terminate()


def rows(run_dir):
    path = run_dir / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def steps(run_dir):
    return [row["step"] for row in rows(run_dir)]


def saved(run_dir):
    folder = run_dir / "checkpoints" / "supervised"
    return max(int(p.name) for p in folder.iterdir() if (p / "commit_success.txt").exists())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_pod_that_is_killed_and_stopped_ends_with_the_losses_of_one_that_ran_through(tmp_path):
    disturbed, through = open_run(tmp_path / "disturbed"), open_run(tmp_path / "through")
    for workspace in (disturbed, through):
        prepare.make_model(workspace, Console(quiet=True))
        prepare.prepare(workspace)

    killed = Pod(disturbed.run_dir, tmp_path / "killed")
    killed.wait_for_step(EVERY + 2)
    killed.kill(2, signal.SIGKILL)
    assert killed.end() not in (0, 3), killed.said()
    assert "ended with status" in killed.said()
    at = saved(disturbed.run_dir)
    assert at % EVERY == 0 and EVERY <= at < STEPS

    stopped = Pod(disturbed.run_dir, tmp_path / "stopped")
    stopped.wait_for_step(at + EVERY + 2)
    stopped.kill(1, signal.SIGTERM)
    assert stopped.end() == 3, stopped.said()
    at = saved(disturbed.run_dir)
    assert at < STEPS
    for index in range(PROCESSES):
        assert f"stopped at supervised step {at} of {STEPS}; the state" in stopped.said(index)

    resumed = Pod(disturbed.run_dir, tmp_path / "resumed")
    assert resumed.end() == 0, resumed.said()

    sft.train(through)
    assert steps(disturbed.run_dir) == steps(through.run_dir) == list(range(1, STEPS + 1))
    ours, theirs = ([row["loss"] for row in rows(w.run_dir)] for w in (disturbed, through))
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert theirs[-1] < theirs[0] - 0.1
