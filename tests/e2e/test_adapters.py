"""A run with adapters: it resumes, keeps one frozen model for all, and exports both forms."""

import dataclasses
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from rich.console import Console

from tl_jax.cli import convert
from tl_jax.config import LoraConfig, ModelSourceConfig
from tl_jax.convert import from_hf, names
from tl_jax.errors import ConfigError, Stopped
from tl_jax.models import functional, lora
from tl_jax.run import prepare
from tl_jax.train import ppo as ppo_lib
from tl_jax.types import Batch

from . import test_resume as resume

pytestmark = resume.pytestmark

STEPS = 2
PHASES = ("supervised", "reward")
CONFIG = dataclasses.replace(
    resume.CONFIG,
    lora=LoraConfig(rank=2, alpha=4.0),
    train=dataclasses.replace(resume.CONFIG.train, steps=STEPS),
    ppo=dataclasses.replace(resume.CONFIG.ppo, steps=STEPS, critic="separate", ce_coef=0.0),
    checkpoint=dataclasses.replace(resume.CONFIG.checkpoint, every_steps=1),
)


def open_run(run_dir, config=CONFIG):
    return resume.open_run(run_dir, config)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run directory with model and data."""
    workspace = open_run(tmp_path_factory.mktemp("prepared") / "run")
    prepare.make_model(workspace, Console(quiet=True))
    prepare.prepare(workspace)
    return workspace.run_dir


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A run through both phases, and what each rollout was given: policy and reference."""
    run_dir = shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "run")
    given = []
    with pytest.MonkeyPatch.context() as patch:
        rollout = ppo_lib.rollout_lib.rollout

        def recorded(plan, params, reference, *arguments, **options):
            given.append((addresses(params), addresses(reference)))
            return rollout(plan, params, reference, *arguments, **options)

        patch.setattr(ppo_lib.rollout_lib, "rollout", recorded)
        for phase in PHASES:
            resume.MODULES[phase].train(open_run(run_dir))
    return run_dir, given


def addresses(params):
    return {path: leaf.unsafe_buffer_pointer() for path, leaf in names.flatten(params)}


def test_a_checkpoint_holds_what_is_trained_and_nothing_else(whole):
    for phase in PHASES:
        state, _ = resume.final_state(whole[0], phase)
        held = {name for name in state if name.startswith("['params']")}
        adapters = {name for name in held if "'lora_a'" in name or "'lora_b'" in name}
        trunks = 2 if phase == "reward" else 1
        assert len(adapters) == trunks * 2 * len(lora.PATHS)
        assert all("'value_head'" in name for name in held - adapters)
        moments = sum(leaf.size for name, leaf in state.items() if "mu" in name or "nu" in name)
        assert moments == 2 * sum(state[name].size for name in held)


def test_policy_reference_and_critic_share_one_frozen_model(whole):
    _, given = whole
    assert len(given) == STEPS
    for policy, reference in given:
        for path, address in reference.items():
            adapter = path[-1] in (lora.A, lora.B)
            assert (policy[path] == address) != adapter, path
            if path[0] != "lm_head":
                critic = policy[("critic", *path)]
                assert (critic == address) != adapter, path
    # Donation leaves them where they were.
    assert given[0][1] == given[1][1]


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(whole, prepared, tmp_path, monkeypatch):
    run_dir = shutil.copytree(prepared, tmp_path / "run")
    for phase in PHASES:
        with monkeypatch.context() as patch:
            resume.interrupt(patch, phase, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(Stopped, match=f"stopped at {phase} step 1 of {STEPS}"):
                resume.MODULES[phase].train(open_run(run_dir))
        resume.MODULES[phase].train(open_run(run_dir))
        (ours, step), (theirs, _) = (resume.final_state(d, phase) for d in (run_dir, whole[0]))
        assert step == str(STEPS) and ours.keys() == theirs.keys()
        for name, leaf in ours.items():
            assert leaf.tobytes() == theirs[name].tobytes(), name
    assert resume.rows(run_dir, "samples.jsonl") == resume.rows(whole[0], "samples.jsonl")


def logits(params, model):
    ids = np.arange(1, 13, dtype=np.int32).reshape(1, 12)
    rows = Batch(ids, ids, ids, np.arange(12, dtype=np.int32)[None], np.ones_like(ids))
    return np.asarray(functional.apply(jax.device_get(params), rows, model))


def test_both_exports_give_the_trained_model(whole, tmp_path):
    workspace = open_run(whole[0])
    expected = logits(workspace.params("reward"), workspace.model)
    plain = dataclasses.replace(workspace.model, lora=LoraConfig())
    assert np.abs(expected - logits(workspace.frozen(), plain)).max() > 1e-4

    merged = convert.export(
        workspace, convert.Request(target=str(tmp_path / "merged")), Console(quiet=True)
    )
    np.testing.assert_allclose(logits(from_hf.load(merged), plain), expected, atol=1e-5)

    target = tmp_path / "adapter"
    request = convert.Request(target=str(target), adapter=True)
    convert.main(workspace, Console(quiet=True), **dataclasses.asdict(request))
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in card and 'PeftModel.from_pretrained(base, "DIRECTORY")' in card
    assert (target / "tokenizer.json").read_bytes() == (merged / "tokenizer.json").read_bytes()
    source = dataclasses.replace(CONFIG.model, path=str(workspace.model_dir), adapter=str(target))
    other = open_run(tmp_path / "other", dataclasses.replace(CONFIG, model=source))
    assert np.array_equal(logits(other.params("before"), other.model), expected)


def test_only_a_run_with_adapters_exports_them(tmp_path):
    plain = dataclasses.replace(CONFIG, model=ModelSourceConfig(), lora=LoraConfig())
    console, request = Console(quiet=True), convert.Request(adapter=True)
    with pytest.raises(ConfigError, match="--adapter needs a run with adapters"):
        convert.main(open_run(tmp_path, plain), console, **dataclasses.asdict(request))
    with pytest.raises(ConfigError, match="--adapter writes the adapters of a run; give --config"):
        other = dataclasses.replace(request, source="a", target="b")
        convert.main(None, console, **dataclasses.asdict(other))
