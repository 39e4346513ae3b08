"""The TPU compiler's word about the real step: memory, collectives, flags. Needs no TPU."""

import dataclasses
import importlib.util
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tl_jax.aot import compile, hlo, plan, programs, roofline
from tl_jax.config import (
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError
from tl_jax.models import functional, known
from tl_jax.parallel import sharding, tpu
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run.directory import Run
from tl_jax.run.prepare import known_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = ROOT / "launch" / "xla_flags"
RESULTS = ROOT / "tools/bench/results/aot.json"
TABLE = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
RANKING = RESULTS.with_name("rank.json")
RANKS = json.loads(RANKING.read_text(encoding="utf-8")) if RANKING.exists() else {}
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.py"))
    if "topology=" in path.read_text(encoding="utf-8")
]

needs_compiler = pytest.mark.skipif(
    not tpu.is_compiler_installed(), reason="needs the package libtpu, see tools/test.sh"
)

MODEL = ModelConfig(
    vocab_size=1024,
    embed_dim=256,
    num_layers=6,
    num_heads=2,
    num_kv_heads=2,
    head_dim=128,
    mlp_dim=512,
    dtype="bfloat16",
    remat="full",
)
SMALL = RunConfig(
    mesh=MeshConfig(topology="v5e:2x2", sampling_tensor=2),
    data=DataConfig(batch_size=4, max_length=256),
    train=TrainConfig(ce_chunk=128),
    optim=OptimConfig(warmup_steps=1),
    ppo=PpoConfig(
        steps=4, prompts_per_step=4, max_prompt_length=128, max_new_tokens=128, critic="separate"
    ),
)
ONE_MATRIX = MODEL.embed_dim * MODEL.head_dim * MODEL.num_heads


def flags(chip):
    return tpu.read_flags((FLAGS / f"{chip}.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pod():
    return compile.open_pod(SMALL, MODEL, flags("v5e"))


@pytest.fixture(scope="module")
def step(pod, tmp_path_factory):
    """The figures of the supervised step, and its collectives."""
    folder = tmp_path_factory.mktemp("hlo")
    figures = compile.measure("supervised", pod, keep=folder)
    return figures, hlo.collectives((folder / "supervised.hlo").read_text())


@needs_compiler
def test_the_step_holds_more_than_its_state_and_less_than_a_chip(pod, step):
    figures, _ = step
    state, batch, _ = programs.supervised_program(SMALL, MODEL, pod.mesh).arguments
    own = programs.bytes_per_device((state, batch))
    assert own < figures["peak_bytes"] < figures["limit_bytes"]
    assert figures["beside_bytes"] == 0


@needs_compiler
def test_gradients_move_by_reduce_scatter(step):
    _, found = step
    scattered = [one for one in found if one.kind == "reduce-scatter" and one.in_loop]
    assert sum(one.elements for one in scattered) >= 7 * ONE_MATRIX
    reduced = [one.elements for one in found if one.kind == "all-reduce"]
    assert max(reduced, default=0) < ONE_MATRIX


@needs_compiler
def test_no_parameter_of_the_layers_is_gathered_outside_their_loop(step):
    figures, found = step
    assert [one for one in found if one.kind == "all-gather" and one.in_loop]
    # The embedding and the output projection are used outside; the stacks of the layers are
    # larger.
    table = MODEL.vocab_size * MODEL.embed_dim
    assert max(o.elements for o in found if o.kind == "all-gather" and not o.in_loop) <= table
    assert figures["largest_gather_outside_loops_bytes"] <= 4 * table


@needs_compiler
def test_a_mesh_may_cut_the_sides_of_a_slice(caplog):
    """No set of sides of a 4 x 4 torus has 8 chips."""
    config = dataclasses.replace(SMALL, mesh=MeshConfig(data=2, topology="v6e:4x4"))
    mesh = compile.open_pod(config, MODEL, {}).mesh
    assert dict(mesh.shape) == {"data": 2, "fsdp": 8, "sequence": 1, "tensor": 1}
    assert len(set(mesh.devices.flat)) == 16 and "cuts the sides of the slice" in caplog.text


@needs_compiler
def test_what_does_not_fit_is_refused(pod):
    wide = dataclasses.replace(MODEL, vocab_size=128 * 1024)
    config = dataclasses.replace(
        SMALL,
        data=dataclasses.replace(SMALL.data, batch_size=4 * 256),
        train=dataclasses.replace(SMALL.train, ce_chunk=0),
    )
    with pytest.raises(compile.DoesNotFit, match="does not fit a device: needs .*G of 15.75G"):
        compile.measure("supervised", dataclasses.replace(pod, config=config, model=wide))


@pytest.mark.slow
@needs_compiler
def test_devices_share_rows_and_exchange_keys_and_values(pod, tmp_path):
    """The TPU kernel has its queries' part of the mask, and nobody gathers hidden states."""
    mesh = MeshConfig(topology="v5e:2x2", sequence=2)
    data = dataclasses.replace(SMALL.data, max_length=512)
    config = dataclasses.replace(SMALL, mesh=mesh, data=data)
    model = dataclasses.replace(MODEL, num_kv_heads=1, attention="splash")
    figures = compile.measure(
        "supervised", compile.open_pod(config, model, flags("v5e")), keep=tmp_path
    )
    assert figures["peak_bytes"] < figures["limit_bytes"]
    found = hlo.collectives((tmp_path / "supervised.hlo").read_text())
    layers = [one for one in found if one.times == MODEL.num_layers]
    gathered = [one for one in layers if one.kind == "all-gather"]
    keys, hidden = (2 * 512 * size for size in (MODEL.head_dim, MODEL.embed_dim))
    assert max(one.elements for one in gathered) < hidden
    # Forward and once more backward, where their gradients go the other way.
    assert sum(one.group == 2 and one.elements == keys for one in gathered) == 4
    scattered = [one for one in layers if one.kind == "reduce-scatter" and one.group == 2]
    assert [one.elements for one in scattered] == [keys, keys]
    reduced = [one.elements for one in found if one.kind == "all-reduce"]
    assert max(reduced, default=0) < ONE_MATRIX


@pytest.mark.slow
@needs_compiler
def test_the_update_of_reward_training_has_the_reference_beside_it(pod):
    figures = compile.measure("update", pod)
    declared = functional.abstract_params(MODEL)
    leaves = jax.tree.leaves(declared, is_leaf=lambda x: hasattr(x, "axes"))
    reference = 4 * sum(np.prod(leaf.shape) for leaf in leaves) / pod.mesh.size
    assert abs(figures["beside_bytes"] - reference) < 0.01 * reference
    reduced = figures["collectives"].get("all-reduce", {"wire_bytes": 0})["wire_bytes"]
    assert reduced < figures["collectives"]["reduce-scatter"]["wire_bytes"]


def test_what_waits_in_the_memory_of_the_host_takes_none_of_the_device():
    idle = dataclasses.replace(SMALL, ppo=dataclasses.replace(SMALL.ppo, idle_memory="host"))
    mesh = make_mesh(MeshConfig())
    update = programs.update_program(SMALL, MODEL, mesh)
    moments, reference = map(
        programs.bytes_per_device, (update.arguments[0].opt_state, update.beside)
    )
    waiting = {"update": reference, "score": moments}
    for name in ("update", "score", "prefill", "decode"):
        there, here = (
            programs.bytes_per_device(programs.PROGRAMS[name](config, MODEL, mesh).beside)
            for config in (idle, SMALL)
        )
        assert here - there == waiting.get(name, moments + reference) > 0


@needs_compiler
@pytest.mark.parametrize("name", ["prefill", "decode"])
def test_sampling_compiles(pod, name):
    assert compile.measure(name, pod)["peak_bytes"] > 0


@needs_compiler
@pytest.mark.parametrize(
    ("chip", "topology"), [("v5e", "2x2"), ("v5p", "2x2x1"), ("v6e", "2x2"), ("tpu7x", "2x2x1")]
)
def test_the_compiler_takes_every_flag_that_is_shipped(chip, topology):
    mesh = make_mesh(MeshConfig(), tpu.devices(f"{chip}:{topology}"))
    where = NamedSharding(mesh, sharding.spec(("batch", None)))
    x = jax.ShapeDtypeStruct((128, 128), jnp.float32, sharding=where)
    lowered = jax.jit(lambda x: jnp.sum(x @ x)).lower(x)
    assert flags(chip) and lowered.compile(compiler_options=flags(chip))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_no_such_flag"):
        lowered.compile(compiler_options={"xla_tpu_no_such_flag": "true"})


@needs_compiler
def test_slices_lie_along_the_data_axis():
    devices = tpu.devices("v5e:2x2", 2)
    made = make_mesh(MeshConfig(data=4, fsdp=2), devices)
    slices = np.vectorize(lambda device: device.slice_index)(made.devices)
    assert [len(set(row.flat)) for row in slices] == [1, 1, 1, 1]
    assert set(slices.flat) == {0, 1}
    with pytest.raises(ValueError, match="data 1 is not divisible by the 2 slices"):
        make_mesh(MeshConfig(), devices)


@needs_compiler
@pytest.mark.parametrize("chip", tpu.CHIPS)
def test_a_chip_has_the_memory_that_the_compiler_grants(chip):
    devices = tpu.devices(f"{chip}:{'2x2' if chip in ('v5e', 'v6e') else '2x2x1'}")
    assert len(devices) == tpu.parse(f"{chip}:2x2")[1]
    where = NamedSharding(make_mesh(MeshConfig(), devices), jax.P("fsdp"))
    shape = (len(devices) * 1024, 1024, 128 * 1024)
    huge = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=where)
    with pytest.raises(jax.errors.JaxRuntimeError) as refused:
        jax.jit(lambda x: x + 1).lower(huge).compile()
    granted = float(re.search(r"HBM \((\d+\.\d\d)G\)", str(refused.value))[1])
    # Releases of libtpu keep a few MiB more or less for themselves.
    assert granted == pytest.approx(tpu.CHIPS[chip].hbm_bytes / tpu.GIB, abs=0.011)


def test_work_is_counted_by_the_formula_that_is_printed():
    model = known.find("codellama/CodeLlama-7b-hf")
    config = dataclasses.replace(SMALL, data=DataConfig(batch_size=8, max_length=8192))
    mesh = make_mesh(MeshConfig())
    program = programs.supervised_program(config, model, mesh)
    full = dataclasses.replace(model, remat="full")
    found = roofline.work("supervised", program, full, "shared")
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    scores = 32 * 2 * 8192 * 4096
    token = 2 * layers + 2 * 4096 * 32016 + scores
    assert found.model_flops == 3 * 8 * 8192 * token
    # The last matrix of a layer is not needed again; the output projection is.
    down = 2 * 32 * 4096 * 11008
    assert found.executed_flops == 8 * 8192 * (4 * token - down)
    none = dataclasses.replace(model, remat="none")
    plain = roofline.work("supervised", program, none, "shared")
    assert plain.model_flops == found.model_flops
    assert found.executed_flops - plain.executed_flops == 8 * 8192 * (2 * layers + scores - down)
    chip = tpu.CHIPS["v5e"]
    times = roofline.times(found, 400e9, 3 * 10**9, chip, 8)
    assert times["ici_s"] == 2.0
    assert times["roofline_s"] == max(times[f"{part}_s"] for part in ("compute", "hbm", "ici"))
    assert times["schedule_s"] == times["estimate_s"] == 2.0
    assert times["mfu_bound"] <= found.model_flops / found.executed_flops < 0.8
    # Inputs of the layers wait on the host; the forward pass has a quarter of the time.
    there = dataclasses.replace(model, dtype="bfloat16", remat="offload")
    moved = roofline.work("supervised", program, there, "shared")
    assert found.host_bytes == times["host_s"] == 0
    assert moved.host_bytes == 2 * 32 * 4096 * 8 * 8192 / mesh.size
    assert moved.executed_flops == found.executed_flops
    slow = roofline.times(moved, 0.0, 0, chip, 8)
    assert slow["host_s"] == slow["estimate_s"] == 4 * moved.host_bytes / chip.host_bandwidth


def read(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return from_dict(RunConfig, module.get_config().to_dict())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_logits_that_exist_at_once_stay_below_a_gibibyte_of_a_chip(path):
    config = read(path)
    assert config.data.max_length >= 8192 and config.model.dtype == "bfloat16"
    model, mesh = known_model(Run(config)), plan.planned_mesh(Run(config))
    rows = config.data.batch_size / config.train.accumulation / (mesh["data"] * mesh["fsdp"])
    assert rows == int(rows)
    chunk = config.train.ce_chunk / mesh["sequence"]
    assert 4 * rows * chunk * model.vocab_size / mesh["tensor"] < tpu.GIB


@pytest.mark.parametrize("name", TABLE)
def test_the_committed_table_is_that_of_the_configuration_and_fits(name):
    path = ROOT / "configs" / f"{name}.py"
    config, row = read(path), TABLE[name]
    assert (row["topology"], row["slices"]) == (config.mesh.topology, config.mesh.slices)
    assert (row["model"], row["remat"]) == (config.model.path, config.model.remat)
    found = {one["program"]: one for one in row["programs"]}
    assert set(found) <= set(compile.names(config))
    assert found["supervised"]["rows"] == config.data.batch_size
    assert found["supervised"]["length"] == config.data.max_length
    assert all(one["peak_bytes"] < one["limit_bytes"] for one in found.values())
    # Only the embedding and the output projection are whole outside the loop over layers.
    model = known.find(config.model.path)
    table = 4 * model.vocab_size * model.embed_dim
    assert all(one["largest_gather_outside_loops_bytes"] <= table for one in found.values())
    for step in found.keys() & {"supervised", "update"}:
        moved = found[step]["collectives"]
        assert moved["reduce-scatter"]["wire_bytes"] > 5 * moved["all-reduce"]["wire_bytes"]
    # The docstring shows the compiler's figures, and configs/README.md has them in its table.
    text = path.read_text(encoding="utf-8")
    readme = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    (cells,) = (line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
    for one in found.values():
        peak = f"{one['peak_bytes'] / tpu.GIB:.2f}"
        sent = sum(kind["wire_bytes"] for kind in one["collectives"].values()) / 1e9
        rows = f"{one['rows']} x {one['length']} "
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [one["program"]])
        assert rows in line and f" {peak} GiB" in line and f" {sent:.1f} GB" in line
        assert f" {peak} " in cells


def test_a_variant_has_the_policy_and_flags_that_its_name_says():
    flags = {"async_one": "1", "async_two": "2", "scatter": "3"}
    pod = compile.Pod(SMALL, MODEL, make_mesh(MeshConfig()), tpu.CHIPS["v5e"], flags)
    assert compile.variant(pod, "full") == pod
    changed = compile.variant(pod, "attention-async+scatter=4+new=true")
    assert changed.model == dataclasses.replace(MODEL, remat="attention")
    assert changed.options == {"scatter": "4", "new": "true"}
    assert not compile.variant(pod, "qkv-").options and pod.options == flags
    for text, message in (("fast", "must begin with none, full"), ("full-no", "has 'no' in its")):
        with pytest.raises(ConfigError, match=message):
            compile.variant(pod, text)


def test_a_ranking_begins_with_the_shortest_estimate_and_ends_with_what_does_not_fit():
    rows = [{"variant": "none", "refused": "too large"}]
    rows += [{"variant": str(time), "estimate_s": time} for time in (3, 1, 2)]
    assert [row["variant"] for row in compile.ranked(rows)] == ["1", "2", "3", "none"]


@pytest.mark.parametrize("name", RANKS)
def test_the_shipped_policy_and_flags_lead_the_committed_ranking(name):
    config, found = read(ROOT / "configs" / f"{name}.py"), RANKS[name]["ranking"]
    assert found == compile.ranked(found)
    rows = {row["variant"]: row.get("estimate_s", np.inf) for row in found}
    # Estimates that are this near to each other say nothing.
    assert rows[config.model.remat] <= 1.02 * min(rows.values())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_pod_configuration_fits(path):
    config = read(path)
    chip, _ = tpu.parse(config.mesh.topology)
    pod = compile.open_pod(config, known_model(Run(config)), flags(chip))
    for name in compile.names(config):
        figures = compile.measure(name, pod)
        assert figures["peak_bytes"] < figures["limit_bytes"]


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_the_largest_batch_is_the_last_that_fits(monkeypatch, most):
    """Whole rows a device; four devices share them."""
    pod = compile.Pod(
        SMALL, MODEL, make_mesh(MeshConfig(), jax.devices()[:4]), tpu.CHIPS["v5e"], {}
    )

    def compile_program(program, _):
        if program.arguments[1].tokens.shape[0] > 4 * most:
            raise compile.DoesNotFit("too large")

    monkeypatch.setattr(compile, "compile_program", compile_program)
    assert compile.largest_batch(pod) == 4 * most
