"""Training on an S3 server that refuses a fifth of all requests and, at some time, answers none."""

import json
import random
import re
import threading
import time

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from rich.console import Console
from werkzeug.serving import make_server

from tl_jax.cli import main as cli
from tl_jax.errors import RunNotWritable
from tl_jax.run import bucket, bucket_writer, lock, mirror
from tl_jax.run.bucket import Bucket
from tl_jax.run.checkpoint import Checkpoints

PLACE = "s3://runs/first"
SETTINGS = {
    "model.path": "scratch",
    "model.scratch_vocab_size": 300,
    "model.scratch_embed_dim": 16,
    "model.scratch_num_layers": 1,
    "model.scratch_num_heads": 2,
    "model.scratch_num_kv_heads": 1,
    "model.scratch_mlp_dim": 32,
    "data.synthetic_trajectories": 40,
    "data.batch_size": 8,
    "data.max_length": 704,
    "train.steps": 6,
    "train.log_every": 1,
    "train.eval_every": 100,
    "optim.warmup_steps": 1,
    "ppo.steps": 0,
    "checkpoint.every_steps": 1,
    "checkpoint.keep": 2,
}


@pytest.fixture(scope="module")
def server():
    """Return the address of a server, and a switch: how many requests it still answers."""
    inner = DomainDispatcherApplication(create_backend_app)
    rng, switch = random.Random(0), {"left": None, "refused": 0}

    def app(environment, start):
        if switch["left"] is not None:
            switch["left"] -= 1
        if (switch["left"] or 0) < 0 or rng.random() < 0.2:
            switch["refused"] += 1
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return inner(environment, start)

    made = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", switch
    made.shutdown()
    thread.join()


@pytest.fixture
def storage(server, monkeypatch):
    address, switch = server
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "up",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    for of, name, value in (
        (bucket, "_FIRST_S", 0.01),
        (bucket_writer, "SETTLE_S", 0.0),
        (lock, "BEAT_S", 0.5),
        (lock, "PATIENCE_S", 1.5),
        (mirror, "EVERY_S", 0.2),
        (mirror, "_PART_OF_TIME", 0),
    ):
        monkeypatch.setattr(of, name, value)
    return switch


def train(run_dir):
    words = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    for command in ("prepare", "train"):
        words_of = [command, "--config=quickstart", f"--config.run_dir={run_dir}", *words]
        cli.main(words_of, Console(quiet=True))


def rows(text):
    found = [json.loads(row) for row in text.splitlines()]
    return {row["step"]: row["loss"] for row in found if "loss" in row}


def test_training_goes_on_from_a_bucket_where_another_machine_lost_it(
    storage, tmp_path, monkeypatch
):
    train(tmp_path / "undisturbed")
    expected = rows((tmp_path / "undisturbed" / "metrics.jsonl").read_text())
    assert sorted(expected) == list(range(1, 7))

    # Two machines in turn; the first is cut off the network once its second step is copied.
    monkeypatch.setenv("TL_JAX_CACHE", str(tmp_path / "one"))
    files = Bucket("s3://runs")
    files._persist("the bucket", lambda: files._fs.mkdir("runs"))
    with monkeypatch.context() as first:
        first.setattr(Checkpoints, "save", _cut_after_the_second(Checkpoints.save, storage))
        with pytest.raises(RunNotWritable, match="again here"):
            train(PLACE)
    storage["left"] = None
    there = Bucket(PLACE).listing()
    saved = {int(found[1]) for name in there if (found := _COMMITTED.fullmatch(name))}
    assert saved == {1, 2}

    monkeypatch.setenv("TL_JAX_CACHE", str(tmp_path / "two"))
    train(PLACE)
    content = Bucket(PLACE).read("metrics.jsonl")
    assert rows(content.decode()) == pytest.approx(expected, rel=1e-6)
    steps = [json.loads(row)["step"] for row in content.decode().splitlines() if "ce_loss" in row]
    assert steps == sorted(set(steps))
    assert storage["refused"] > 20
    assert not json.loads(Bucket(PLACE).read(bucket_writer.FILE))["open"]


_COMMITTED = re.compile(r"checkpoints/supervised/(\d+)/commit_success\.txt")


def _cut_after_the_second(save, storage):
    def saved(self, step, *arguments, **options):
        done = save(self, step, *arguments, **options)
        if step == 2:
            self.wait()
            while "checkpoints/supervised/2/commit_success.txt" not in Bucket(PLACE).listing():
                time.sleep(0.1)
            storage["left"] = 0
        return done

    return saved
