"""Models change their form, not their values, and nothing is overwritten unasked."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import load_file

from tl_jax.cli import convert, prepare
from tl_jax.config import LoraConfig, ModelSourceConfig, PpoConfig, RunConfig, TrainConfig
from tl_jax.convert import from_hf, hub, names, to_hf
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.errors import ConfigError
from tl_jax.models import functional, registry
from tl_jax.publish import conversions
from tl_jax.publish.export import Request, export, export_newest, renew_card
from tl_jax.run import checkpoint
from tl_jax.run.directory import Run
from tl_jax.run.prepare import known_model

COMMIT = "c" * 40
UNTRAINED = {"train": TrainConfig(steps=0), "ppo": PpoConfig(steps=0)}
"""Settings that ask for no training, so that the initial model is that of the run."""


def converted(run, console, request):
    """Run the command with the flags of a request."""
    convert.main(run, console, **dataclasses.asdict(request))


def planned(run, console, request):
    convert.show_plan(run, console, **dataclasses.asdict(request))


def leaves(params):
    return {path: np.asarray(leaf) for path, leaf in names.flatten(params)}


def test_a_model_directory_becomes_one_of_the_asked_type(model_dir, tmp_path, console):
    target = tmp_path / "half"
    converted(None, console, Request(str(model_dir), str(target), dtype="bfloat16"))
    assert f"written: {target}" in console.file.getvalue()
    source = leaves(from_hf.load(model_dir))
    half = leaves(from_hf.load(target, param_dtype="bfloat16"))
    assert source.keys() == half.keys()
    for path, leaf in half.items():
        assert leaf.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(leaf, source[path].astype(ml_dtypes.bfloat16))
    assert any(np.any(half[path].astype(np.float32) != source[path]) for path in source)
    assert json.loads((target / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert load_tokenizer(target).fingerprint == load_tokenizer(model_dir).fingerprint


def restore(target, model_dir):
    where = SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda info: jax.ShapeDtypeStruct(info.shape, info.dtype, sharding=where),
        functional.abstract_params(registry.read_config(model_dir)),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    return leaves(checkpoint.restore_params(checkpoint.latest_step_dir(target), abstract))


def test_an_orbax_checkpoint_holds_the_parameters_of_its_source(model_dir, tmp_path, console):
    target = tmp_path / "orbax"
    request = Request(str(model_dir), str(target), orbax=True)
    converted(None, console, request)
    source, restored = leaves(from_hf.load(model_dir)), restore(target, model_dir)
    assert source.keys() == restored.keys()
    for path, leaf in source.items():
        assert leaf.tobytes() == restored[path].tobytes(), path
    assert checkpoint.find_damage(checkpoint.latest_step_dir(target)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["orbax"]


def test_orbax_to_hugging_face_and_back_is_the_same(model_dir, tmp_path, console):
    converted(None, console, Request(str(model_dir), str(tmp_path / "a"), orbax=True))
    first = restore(tmp_path / "a", model_dir)
    to_hf.save(names.unflatten(first), tmp_path / "hf", source=model_dir)
    converted(None, console, Request(str(tmp_path / "hf"), str(tmp_path / "b"), orbax=True))
    second = restore(tmp_path / "b", model_dir)
    assert first.keys() == second.keys()
    assert all(first[path].tobytes() == second[path].tobytes() for path in first)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_conversion_leaves_nothing_half_written(
    model_dir, tmp_path, console, monkeypatch, number, existing
):
    target = tmp_path / "half"
    if existing:
        target.mkdir()
        (target / "old.txt").write_text("old")

    @contextlib.contextmanager
    def stopping(title, console):
        yield lambda done, total: os.kill(os.getpid(), number) if done == 3 else None

    monkeypatch.setattr(conversions, "tensor_progress", stopping)
    before = signal.getsignal(number)
    # In a background job of a shell Ctrl-C is ignored unless asked for.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            converted(None, console, Request(str(model_dir), str(target), force=existing))
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert signal.getsignal(number) == before
    assert [path.name for path in tmp_path.rglob("*")] == (["half", "old.txt"] if existing else [])


def test_progress_is_shown(model_dir, tmp_path, console):
    converted(None, console, Request(str(model_dir), str(tmp_path / "m")))
    total = len(load_file(tmp_path / "m" / "model.safetensors"))
    assert f"convert {total}/{total}" in console.file.getvalue()
    converted(None, console, Request(str(model_dir), str(tmp_path / "o"), orbax=True))
    total = len(leaves(from_hf.load(model_dir)))
    assert f"convert {total}/{total}" in console.file.getvalue()


def test_a_converted_model_keeps_its_card_or_gets_one(model_dir, tmp_path, console):
    converted(None, console, Request(str(model_dir), str(tmp_path / "a"), dtype="bfloat16"))
    card = tmp_path / "a" / "README.md"
    assert "bfloat16 safetensors, not trained" in card.read_text()
    assert str(model_dir.parent) not in card.read_text()
    card.write_text("My model.")
    converted(None, console, Request(str(tmp_path / "a"), str(tmp_path / "b")))
    assert (tmp_path / "b" / "README.md").read_text() == "My model."


def test_the_export_of_a_run_is_made_once_and_its_card_kept_up(model_dir, tmp_path, console):
    source = ModelSourceConfig(path=str(model_dir))
    workspace = Run(RunConfig(run_dir=str(tmp_path), model=source, **UNTRAINED))
    export_newest(workspace, console)
    weights = tmp_path / "export" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (tmp_path / "export" / "README.md").write_text("old scores")
    export_newest(workspace, console)
    assert weights.stat().st_mtime_ns == before
    assert "Not evaluated." in (tmp_path / "export" / "README.md").read_text()


def test_a_model_of_the_hub_is_converted_and_named(model_dir, tmp_path, console, monkeypatch):
    fetched = tmp_path / "cache" / COMMIT
    shutil.copytree(model_dir, fetched)
    monkeypatch.setattr(hub, "_snapshot", lambda name, revision, files: fetched)
    converted(None, console, Request("someone/tiny@v1", str(tmp_path / "a")))
    assert f"source: someone/tiny@{COMMIT}" in console.file.getvalue()
    assert "base_model: someone/tiny\n" in (tmp_path / "a" / "README.md").read_text()
    source, found = (leaves(from_hf.load(path)) for path in (model_dir, tmp_path / "a"))
    assert all(found[path].tobytes() == leaf.tobytes() for path, leaf in source.items())


def test_a_run_pins_its_model_of_the_hub(model_dir, tmp_path, console, monkeypatch):
    fetched = tmp_path / "cache" / COMMIT
    shutil.copytree(model_dir, fetched)
    asked = []
    monkeypatch.setattr(hub, "_snapshot", lambda *what: asked.append(what[:2]) or fetched)
    source = ModelSourceConfig(path="someone/pinned-model")
    config = RunConfig(str(tmp_path / "run"), model=source, **UNTRAINED)
    workspace = Run(config)
    assert workspace.hub_model is None and not workspace.model_dir.exists()
    assert known_model(workspace) == model_of(fetched)
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]

    prepare.make_model(workspace, console)
    assert f"uses someone/pinned-model at commit {COMMIT}" in console.file.getvalue()
    assert workspace.model_dir == fetched
    assert workspace.model == model_of(fetched)
    prepare.make_model(Run(config), console)
    assert asked == [("someone/pinned-model", "main")] * 2 + [("someone/pinned-model", COMMIT)]

    export(workspace, Request(), console)
    assert COMMIT in (tmp_path / "run" / "export" / "README.md").read_text()


def model_of(path):
    """Return the architecture as a run with default settings computes it."""
    source = ModelSourceConfig()
    return registry.read_config(path, remat=source.remat, attention=source.attention)


def test_a_target_that_holds_the_source_is_never_replaced(model_dir, tmp_path, console):
    source = tmp_path / "models" / "a"
    shutil.copytree(model_dir, source)
    with pytest.raises(ConfigError, match="models holds the source and would be replaced"):
        converted(None, console, Request(str(source), str(source.parent), force=True))
    converted(None, console, Request(str(source), str(source), dtype="bfloat16", force=True))
    assert json.loads((source / "config.json").read_text())["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (".", "holds the run itself"),
        ("..", "holds the run itself"),
        ("link", "holds the run itself"),
        ("checkpoints", "keeps its checkpoints there"),
        ("checkpoints/reward", "keeps its checkpoints there"),
        ("data", "keeps its data there"),
        ("../base", "holds the initial model"),
    ],
)
@pytest.mark.parametrize("adapter", [False, True])
def test_an_export_never_takes_the_place_of_its_run(
    model_dir, tmp_path, console, target, reason, adapter
):
    run_dir, base = tmp_path / "run", tmp_path / "base"
    for name in ("data", "checkpoints/reward"):
        (run_dir / name).mkdir(parents=True)
    (run_dir / "link").symlink_to(run_dir)
    shutil.copytree(model_dir, base)
    before = sorted(tmp_path.rglob("*"))
    source = ModelSourceConfig(path=str(base))
    lora = LoraConfig(rank=2 if adapter else 0)
    workspace = Run(RunConfig(run_dir=str(run_dir), model=source, lora=lora))
    with pytest.raises(ConfigError, match=reason):
        request = Request(target=str(run_dir / target), adapter=adapter, force=True)
        converted(workspace, console, request)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("orbax", [False, True])
def test_an_existing_target_is_replaced_only_by_force(model_dir, tmp_path, console, orbax):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "thesis.txt").write_text("unfinished")
    request = Request(str(model_dir), str(target), orbax=orbax)
    with pytest.raises(ConfigError, match=r"taken exists; give another --target, or --force"):
        converted(None, console, request)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]

    converted(None, console, Request(str(model_dir), str(target), orbax=orbax, force=True))
    assert not (target / "thesis.txt").exists()
    found = restore(target, model_dir) if orbax else leaves(from_hf.load(target))
    for path, leaf in leaves(from_hf.load(model_dir)).items():
        np.testing.assert_array_equal(found[path], leaf)


def test_force_replaces_an_older_orbax_checkpoint(model_dir, tmp_path, console):
    target = tmp_path / "orbax"
    converted(None, console, Request(str(model_dir), str(target), orbax=True))
    request = Request(str(model_dir), str(target), dtype="bfloat16", orbax=True, force=True)
    converted(None, console, request)
    for path, leaf in leaves(from_hf.load(model_dir)).items():
        rounded = leaf.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(restore(target, model_dir)[path], rounded)


def test_a_run_without_training_exports_its_initial_model(model_dir, tmp_path, console):
    config = RunConfig(run_dir=str(tmp_path / "run"), model=ModelSourceConfig(path=str(model_dir)))
    with pytest.raises(ConfigError, match=r"no model is trained yet; run `tl-jax train` first"):
        converted(Run(config), console, Request())
    assert not (tmp_path / "run").exists()
    workspace = Run(dataclasses.replace(config, **UNTRAINED))
    converted(workspace, console, Request())
    exported = leaves(from_hf.load(tmp_path / "run" / "export"))
    for path, leaf in leaves(from_hf.load(model_dir)).items():
        assert leaf.tobytes() == exported[path].tobytes()
    card = tmp_path / "run" / "export" / "README.md"
    assert "Not evaluated." in card.read_text() and "not trained" in card.read_text()
    with pytest.raises(ConfigError, match="export exists"):
        converted(workspace, console, Request())
    scores = {"sets": {"world": {"items": 7, "ts": {"percent": 50, "low": 25, "high": 75}}}}
    (tmp_path / "run" / "results" / "before").mkdir(parents=True)
    (tmp_path / "run" / "results" / "before" / "world.json").write_text(json.dumps(scores))
    renew_card(workspace)
    assert "| world | before | 7 | 50.0 [25.0, 75.0] |" in card.read_text()
    converted(workspace, console, Request(dtype="bfloat16", force=True))
    told = card.read_text()
    renew_card(workspace)
    assert card.read_text() == told and "bfloat16" in told


def test_what_cannot_be_converted_is_said(model_dir, tmp_path, console):
    with pytest.raises(ConfigError, match="absent is no directory and no .gguf file here"):
        converted(None, console, Request("/absent", str(tmp_path / "t")))
    with pytest.raises(ConfigError, match="--source needs --target"):
        converted(None, console, Request(source=str(model_dir)))
    with pytest.raises(ConfigError, match="give --config to export a run, or --source"):
        converted(None, console, Request())
    with pytest.raises(ConfigError, match="Hugging Face directory first"):
        converted(None, console, Request("model.gguf", str(tmp_path / "t"), orbax=True))
    with pytest.raises(ConfigError, match="--orbax needs --source"):
        converted(Run(RunConfig(run_dir=str(tmp_path))), console, Request(orbax=True))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_names_both_ends_and_writes_nothing(model_dir, tmp_path, console):
    request = Request(str(model_dir), str(tmp_path / "[new]"), dtype="bfloat16")
    console.width = 300
    planned(None, console, request)
    shown = console.file.getvalue()
    assert "[new] (Hugging Face directory)" in shown and "bfloat16" in shown
    assert model_dir.name in shown
    workspace = Run(
        RunConfig(
            run_dir=str(tmp_path / "run"),
            model=ModelSourceConfig(path=str(model_dir)),
            **UNTRAINED,
        )
    )
    planned(workspace, console, Request())
    assert "before model of" in console.file.getvalue()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="give another --target, or --force"):
        planned(None, console, Request(str(model_dir), str(model_dir)))
