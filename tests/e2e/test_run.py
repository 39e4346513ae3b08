"""The shortened quickstart, by the installed command: what it leaves, repeats and refuses."""

import collections
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tl_jax import config as config_lib
from tl_jax.cli.options import COMMANDS
from tl_jax.config import EvaluateConfig, MeshConfig, RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.convert import from_hf, names
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.evaluate import run as evaluate
from tl_jax.models import functional, registry
from tl_jax.rewards import taxonomy
from tl_jax.run.directory import Run
from tl_jax.types import Batch

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("before", "supervised", "reward")
SHORT = {
    "model.path": "scratch",
    "model.scratch_vocab_size": 300,
    "model.scratch_embed_dim": 32,
    "model.scratch_num_layers": 2,
    "model.scratch_num_heads": 2,
    "model.scratch_num_kv_heads": 1,
    "model.scratch_mlp_dim": 64,
    "data.synthetic_trajectories": 60,
    "data.validation_fraction": 0.1,
    "data.batch_size": 2,
    "train.steps": 4,
    "train.log_every": 1,
    "train.eval_every": 2,
    "train.eval_batches": 1,
    "optim.warmup_steps": 1,
    "ppo.steps": 2,
    "ppo.critic_warmup_steps": 0,
    "ppo.prompts_per_step": 2,
    "ppo.max_new_tokens": 64,
    # All samples of so small a model are wrong: only the place of a token sets advantages apart.
    "ppo.gae_lambda": 0.9,
    "ppo_optim.warmup_steps": 0,
    "evaluate.max_tasks": 6,
    "evaluate.batch_size": 6,
    "evaluate.max_new_tokens": 8,
    "evaluate.synthetic_trajectories": 3,
}


def tl_jax(*arguments, check=True):
    """Run the console script on one CPU device and return what it did."""
    script = Path(sys.executable).with_name("tl-jax")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    environment.pop("XLA_FLAGS", None)  # the virtual devices of the test process
    done = subprocess.run(
        [script, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def settings(run_dir, **changes):
    """Return the flags of the shortened run; ``a__b=1`` sets ``a.b``."""
    values = {**SHORT, "run_dir": run_dir} | {k.replace("__", "."): v for k, v in changes.items()}
    return [
        "--config=configs/quickstart.py",
        *(f"--config.{name}={value}" for name, value in values.items()),
    ]


def files_of(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run directory of the whole pipeline, and what the command printed."""
    run_dir = tmp_path_factory.mktemp("run") / "short"
    return run_dir, tl_jax("run", *settings(run_dir))


@pytest.fixture(scope="module")
def run_dir(finished):
    return finished[0]


@pytest.fixture(scope="module")
def workspace(run_dir):
    """The finished run as this process's eight devices see it, parameters replicated."""
    config = from_dict(RunConfig, json.loads((run_dir / "config.json").read_text()))
    return Run(dataclasses.replace(config, mesh=MeshConfig(data=8, fsdp=1)))


def test_the_screen_shows_progress_the_table_and_where_the_results_lie(finished):
    run_dir, done = finished
    for line in ("supervised 4/4", "reward 2/2", "evaluate before synthetic/unseen 6/6"):
        assert line in done.stdout
    header = next(line for line in done.stdout.splitlines() if "before" in line and "set" in line)
    assert re.findall(r"before|supervised|reward", header) == list(PHASES)
    assert "tool selection / parameter identification / content filling" in done.stdout
    assert f"report: {run_dir / 'report.html'}" in done.stdout
    assert f"model:  {run_dir / 'export'}" in done.stdout
    assert not re.search(r"^[IW]\d{4} .*\.py:\d+\]", done.stderr, re.M)  # notes of libraries


def test_the_run_directory_tells_what_was_run(run_dir):
    config = from_dict(RunConfig, json.loads((run_dir / "config.json").read_text()))
    assert config.run_dir == str(run_dir) and config.train.steps == 4
    versions = json.loads((run_dir / "versions.json").read_text())
    assert versions["backend"] == "cpu" and versions["devices"] == 1
    assert {"jax", "flax", "orbax-checkpoint", "grain"} <= versions["packages"].keys()


def test_prepared_data_hold_what_their_report_counts(run_dir):
    report = json.loads((run_dir / "data" / "mae_report.json").read_text())
    assert report["rows"] == 60 and report["reasons"]
    written = {
        "examples": open_shards(run_dir / "data" / "examples"),
        "prompts": rows(run_dir / "data" / "prompts.jsonl"),
    }
    for name, found in written.items():
        assert len(list(found)) == report[name]["train"] > 0


def test_every_step_of_both_phases_is_measured(run_dir):
    found = collections.defaultdict(list)
    for row in rows(run_dir / "metrics.jsonl"):
        found[row["stage"]].append(row)
    assert {stage: [row["step"] for row in found[stage]] for stage in found} == {
        "supervised": [1, 2, 3, 4],
        "reward": [1, 2],
    }
    for row in found["supervised"]:
        assert row["loss"] > 0 and row["grad_norm"] > 0 and row["tokens_per_s"] > 0
        assert row["skipped"] == 0
    assert [row["step"] for row in found["supervised"] if "validation_loss" in row] == [2, 4]
    for row in found["reward"]:
        assert row["first_max_abs_log_ratio"] < 1e-3 and row["sampler_logprob_gap"] < 1e-2
        assert sum(row[f"category/{name}"] for name in taxonomy.CATEGORIES) == pytest.approx(1)
    # At the first step policy and reference are the same model.
    assert found["reward"][0]["kl_k1"] == 0 < abs(found["reward"][1]["kl_k1"])


def test_every_sampled_call_is_logged_with_gold_category_and_reward(run_dir):
    samples = rows(run_dir / "samples.jsonl")
    assert collections.Counter(sample["step"] for sample in samples) == {1: 4, 2: 4}
    for sample in samples:
        assert sample["stage"] == "reward" and isinstance(sample["sampled"], str)
        assert re.fullmatch(r"\w+\(.*\)", sample["gold"], re.S)
        assert sample["category"] in taxonomy.CATEGORIES
        assert isinstance(sample["reward"], float) and -4 <= sample["reward"] <= 1


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_is_evaluated_on_seen_and_unseen_tools(run_dir, phase):
    folder = run_dir / "results" / phase
    splits = ("seen", "reworded", "unseen")
    assert {path.name for path in folder.iterdir()} == {
        f"synthetic-{split}{ending}" for split in splits for ending in (".json", ".replies.jsonl")
    }
    for split in splits:
        result = json.loads((folder / f"synthetic-{split}.json").read_text())
        assert (result["name"], result["suite"]) == (phase, f"synthetic/{split}")
        ((name, summary),) = result["sets"].items()
        assert name == f"synthetic/{split}"
        assert all(0 <= summary[metric]["percent"] <= 100 for metric in ("ts", "pi", "cf"))
        assert len(rows(folder / f"synthetic-{split}.replies.jsonl")) == 6


def test_both_phases_end_with_a_checkpoint(run_dir):
    steps = {
        phase: sorted(int(p.name) for p in (run_dir / "checkpoints" / phase).iterdir())
        for phase in ("supervised", "reward")
    }
    assert steps == {"supervised": [4], "reward": [2]}


def test_the_report_needs_no_network(run_dir):
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in page and "synthetic/seen" in page
    assert not re.search(r"""(src|href|url|import)\s*[=(]?\s*["']?\s*https?:""", page)
    assert "<script src" not in page and "<link" not in page
    assert (run_dir / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_export_is_the_reward_trained_model_bit_for_bit(run_dir, workspace):
    ours = dict(names.flatten(workspace.params("reward")))
    before = dict(names.flatten(workspace.params("supervised")))
    exported = dict(names.flatten(from_hf.load(run_dir / "export")))
    assert ours.keys() == exported.keys()
    for path, leaf in exported.items():
        assert np.asarray(leaf).tobytes() == np.asarray(ours[path]).tobytes(), path
    assert any(np.any(np.asarray(ours[path]) != np.asarray(before[path])) for path in ours)


def test_transformers_loads_the_export_and_computes_the_same_logits(run_dir):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = run_dir / "export"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = np.random.default_rng(0).integers(0, 300, (2, 24), dtype=np.int32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens).long()).logits.numpy()
    positions = np.broadcast_to(np.arange(24, dtype=np.int32), (2, 24))
    ones = np.ones((2, 24), np.int32)
    batch = Batch(tokens, tokens, ones.astype(np.float32), positions, 24 * ones)
    model = registry.read_config(folder, remat="none")
    ours = jax.jit(lambda p: functional.apply(p, batch, model))(from_hf.load(folder))
    np.testing.assert_allclose(np.asarray(ours), expected, atol=1e-4)


def test_the_export_comes_with_its_card_and_digests(run_dir):
    card = (run_dir / "export" / "README.md").read_text(encoding="utf-8")
    assert "Steps trained: 4 supervised, 2 with a reward." in card
    assert card.count("| after reward training |") >= 3 and "not evaluated" not in card
    assert str(run_dir.parent) not in card
    report = json.loads((run_dir / "data" / "mae_report.json").read_text())
    assert f"{report['kept']:,} of {report['turns']:,} assistant turns" in card
    digest, name = (run_dir / "export" / "SHA256SUMS").read_text().split()
    assert digest == hashlib.sha256((run_dir / "export" / name).read_bytes()).hexdigest()


def test_the_exported_tokenizer_is_the_one_of_the_run(run_dir, workspace):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(run_dir / "export")
    text = 'find_train(city = "Köln",  n=12)\n\tÜber 東京'
    ids, _ = workspace.tokenizer.encode(text)
    assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    assert theirs.decode(ids) == text
    settings = json.loads((run_dir / "export" / "tokenizer_config.json").read_text())
    assert settings["tl_jax_text_form"] == "released"  # what evaluates the directory asks in
    assert load_tokenizer(run_dir / "export").fingerprint == workspace.tokenizer.fingerprint
    generation = json.loads((run_dir / "export" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == workspace.tokenizer.eos_id


def test_a_finished_run_is_not_done_again_and_keeps_its_settings(run_dir):
    before = files_of(run_dir)
    again = tl_jax("run", *settings(run_dir))
    assert "synthetic/seen" in again.stdout
    assert not re.search(r"(supervised|reward) \d+/|evaluate \w+ synthetic", again.stdout)
    after = files_of(run_dir)
    # Only the report and the record of the software are written anew.
    rewritten = {"report.html", "report.png", "versions.json"}
    assert {name for name in before.keys() | after if before.get(name) != after.get(name)} <= (
        rewritten
    )

    workspace = Run(from_dict(RunConfig, json.loads((run_dir / "config.json").read_text())))
    assert evaluate.is_current(workspace, "before")
    config = dataclasses.replace(workspace.config, evaluate=EvaluateConfig(max_tasks=5))
    assert not evaluate.is_current(Run(config), "before")

    other = tl_jax("run", *settings(run_dir, optim__b1=0.5), check=False)
    assert other.returncode == 2
    assert "another value of config.optim.b1" in other.stdout and "--config.run_dir" in other.stdout
    assert files_of(run_dir) == after

    plan = tl_jax("train", *settings(run_dir), "--dry_run")
    count = sum(leaf.size for leaf in jax.tree.leaves(from_hf.load(run_dir / "export")))
    assert f"{count:,}" in plan.stdout and "4 steps" in plan.stdout
    assert files_of(run_dir) == after


def test_a_plan_writes_nothing(tmp_path):
    plan = tl_jax("run", *settings(tmp_path / "never"), "--dry_run")
    assert "2 x 768 tokens a step" in plan.stdout and "prepare makes the model" in plan.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_one(tmp_path):
    flags = settings(tmp_path / "never")
    done = tl_jax("train", *flags, "--config.optim.learn_rate=1", check=False)
    assert done.returncode == 2
    assert "did you mean config.optim.learning_rate?" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_exist_is_answered_with_the_nearest_or_all():
    done = tl_jax("trian", check=False)
    assert done.returncode == 2
    assert done.stdout == "tl-jax: unknown command trian; did you mean train?\n"
    done = tl_jax("xyz", check=False)
    assert done.returncode == 2 and all(command in done.stdout for command in COMMANDS)


def test_help_teaches_commands_and_settings():
    overview = tl_jax("--help").stdout
    assert "--config=NAME_OR_FILE" in overview and "--dry_run" in overview
    assert all(f"\n  {stage} " in overview for stage in COMMANDS)
    for stage in COMMANDS:
        assert len(re.search(rf"\n  {stage} +(.*)", overview)[1]) > 20
    page = tl_jax("train", "--help").stdout
    assert page.startswith("train: ") and "metrics.jsonl" in page and "resumes" in page
    assert f"optim.b1={config_lib.OptimConfig().b1}" in page
    assert "key_tokens.mode=paper  one of off, paper, code" in page
