"""Checkpoints come back whole, on any mesh, or are recognised as damaged."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.shards import write_examples
from tl_jax.data.loader import loader as loader_lib
from tl_jax.run import checkpoint
from tl_jax.types import TrainState

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def make_state(step=0, shape=(8, 16)):
    key = jax.random.key(step)
    params = {
        "embed": {"embedding": jax.random.normal(key, shape)},
        "norm": {"scale": jnp.ones(16) * step},
    }
    opt_state = OPTIMIZER.init(params)
    grads = jax.tree.map(jnp.ones_like, params)
    _, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return TrainState(
        step=jnp.int32(step), params=params, opt_state=opt_state, skipped=jnp.int32(1)
    )


def abstract(state, mesh_shape=(1, 1)):
    devices = np.asarray(jax.devices()[: int(np.prod(mesh_shape))]).reshape(mesh_shape)
    mesh = Mesh(devices, ("fsdp", "tensor"))

    def leaf(x):
        spec = PartitionSpec("fsdp", "tensor") if x.ndim == 2 else PartitionSpec()
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(leaf, state)


def assert_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save_steps(directory, steps, **settings):
    with checkpoint.Checkpoints(directory, **{"every_steps": 1, "keep": 5, **settings}) as saver:
        for step in steps:
            assert saver.save(step, make_state(step), None, {"step": step})


def array_file(step_dir):
    """Return the largest array file of a step."""
    return max((step_dir / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def loader(path):
    return loader_lib.make_loader(
        path, length=16, rows=2, seed=0, packing=True, packing_bins=4, prefetch=1
    )


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples"
    sizes = [3 + i % 7 for i in range(40)]
    write_examples(path, [Example(str(i), [i] * n, [1.0] * n, {}) for i, n in enumerate(sizes)])
    return path


def test_state_loader_and_metadata_come_back(tmp_path, examples):
    stream = loader(examples)
    for _ in range(3):
        next(stream)
    state = make_state(7)
    with checkpoint.Checkpoints(tmp_path / "c", every_steps=7, keep=2) as saver:
        assert saver.latest() is None
        assert saver.save(7, state, stream, {"stage": "supervised", "tokens": 12})
        expected = [next(stream) for _ in range(4)]
    with checkpoint.Checkpoints(tmp_path / "c", every_steps=7, keep=2) as saver:
        assert saver.latest() == 7
        resumed = loader(examples)
        restored, metadata = saver.restore(abstract(state), resumed)
    assert_equal(restored, state)
    assert metadata == {"stage": "supervised", "tokens": 12}
    for batch in expected:
        jax.tree.map(np.testing.assert_array_equal, next(resumed), batch)
    stream.close()
    resumed.close()


@pytest.mark.parametrize("mesh_shape", [(2, 4), (8, 1), (1, 4)])
def test_state_restores_onto_another_mesh(tmp_path, mesh_shape):
    state = jax.tree.map(
        lambda x, s: jax.device_put(x, s.sharding), make_state(1), abstract(make_state(1), (4, 2))
    )
    with checkpoint.Checkpoints(tmp_path, 1, 2) as saver:
        saver.save(1, state, None, {})
        target = abstract(state, mesh_shape)
        restored, _ = saver.restore(target)
    assert_equal(restored, state)
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True):
        assert leaf.sharding == wanted.sharding


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    state, expected = make_state(1), make_state(1)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    with checkpoint.Checkpoints(tmp_path, 1, 2) as saver:
        saver.save(1, state, None, {})
        jax.block_until_ready(change(state))
        restored, _ = saver.restore(abstract(expected))
    assert_equal(restored, expected)


def test_saves_at_the_interval_or_by_force_and_never_twice(tmp_path):
    with checkpoint.Checkpoints(tmp_path, every_steps=5, keep=9) as saver:
        saved = [step for step in range(1, 13) if saver.save(step, make_state(step), None, {})]
        assert saved == [5, 10]
        assert saver.save(12, make_state(12), None, {}, force=True)
        assert not saver.save(12, make_state(12), None, {}, force=True)
        saver.wait()
        assert saver.latest() == 12


def test_only_the_newest_steps_are_kept(tmp_path):
    save_steps(tmp_path, [1, 2, 3, 4], keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4"]
    assert all((tmp_path / name / checkpoint.MANIFEST).exists() for name in ("3", "4"))


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete_file", "delete_item", "manifest"])
def test_damage_is_noticed_and_the_newest_good_step_is_used(tmp_path, caplog, damage):
    save_steps(tmp_path, [1, 2, 3])
    newest = tmp_path / "3"
    if damage == "flip":
        flip_bit(array_file(newest))
    elif damage == "truncate":
        content = array_file(newest).read_bytes()
        array_file(newest).write_bytes(content[: len(content) // 2])
    elif damage == "delete_file":
        array_file(newest).unlink()
    elif damage == "delete_item":
        shutil.rmtree(newest / "state")
    else:
        (newest / checkpoint.MANIFEST).write_text("{")
    with caplog.at_level(logging.ERROR), checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        restored, metadata = saver.restore(abstract(make_state()))
        assert metadata == {"step": 2}
        assert_equal(restored, make_state(2))
        assert "CHECKPOINT DAMAGED" in caplog.text
        assert (tmp_path / "damaged" / "3.0").is_dir() and not newest.exists()
        # The run goes on and may save the same step again.
        assert saver.save(3, make_state(3), None, {"step": 3})
        assert_equal(saver.restore(abstract(make_state()))[0], make_state(3))


def test_all_processes_list_the_steps_after_damaged_ones_are_gone(tmp_path, monkeypatch):
    """Else one would take such a step for saved, and not save it with the others."""
    save_steps(tmp_path, [1, 2, 3])
    (tmp_path / "2" / "_CHECKPOINT_METADATA").write_text("{")
    flip_bit(array_file(tmp_path / "3"))
    seen = []

    def wait(name):
        seen.append((name, [n for n in (1, 2, 3) if (tmp_path / str(n)).exists()]))

    monkeypatch.setattr(checkpoint.processes, "wait_for_all", wait)
    reload = checkpoint.ocp.training.Checkpointer.reload
    listed = lambda self: (seen.append("listed"), reload(self))  # noqa: E731
    monkeypatch.setattr(checkpoint.ocp.training.Checkpointer, "reload", listed)
    with checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        saver.restore(abstract(make_state()))
    assert seen == [(f"steps of {tmp_path.name}", [1, 3]), ("without step 3", [1]), "listed"]


def test_every_flipped_bit_of_an_array_file_is_noticed(tmp_path):
    save_steps(tmp_path, [1])
    path = array_file(tmp_path / "1")
    clean = path.read_bytes()
    assert checkpoint.find_damage(checkpoint.latest_step_dir(tmp_path)) is None
    for position in np.random.default_rng(0).integers(0, len(clean), 25):
        content = bytearray(clean)
        content[position] ^= 1 << int(position % 8)
        path.write_bytes(content)
        assert "changed content" in checkpoint.find_damage(checkpoint.latest_step_dir(tmp_path))


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_a_step_whose_facts_cannot_be_read_does_not_hide_the_others(tmp_path, caplog, content):
    save_steps(tmp_path, [1, 2])
    facts = tmp_path / "1" / "_CHECKPOINT_METADATA"
    facts.write_text(content or facts.read_text().replace("performance", "performanze"))
    with checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        assert saver.latest() == 2 and saver.save(3, make_state(3), None, {"step": 3})
    assert (tmp_path / "damaged" / "1.0").is_dir() and "CHECKPOINT DAMAGED" in caplog.text


def test_foreign_and_half_written_directories_do_not_count(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "notes").mkdir()
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "0012").mkdir()
    (tmp_path / "900").mkdir()
    (tmp_path / "900" / "state").mkdir()
    with caplog.at_level(logging.ERROR), checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        assert saver.latest() == 2
        assert "900 was never committed" in caplog.text
        assert saver.restore(abstract(make_state()))[1] == {"step": 2}
        assert saver.save(3, make_state(3), None, {})
    assert (tmp_path / "notes").is_dir() and (tmp_path / "damaged" / "900.0").is_dir()


def test_a_committed_step_without_digests_loads_unverified(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2" / checkpoint.MANIFEST).unlink()
    with checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        with caplog.at_level(logging.WARNING):
            assert saver.restore(abstract(make_state()))[1] == {"step": 2}
    assert "loaded unverified" in caplog.text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_step_without_digests_that_cannot_be_read_is_set_aside(tmp_path, caplog, share):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2" / checkpoint.MANIFEST).unlink()
    for path in (tmp_path / "2" / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with caplog.at_level(logging.ERROR), checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        assert saver.restore(abstract(make_state()))[1] == {"step": 1}
    assert "cannot be read" in caplog.text


def test_nothing_usable_is_said_and_not_replaced_silently(tmp_path):
    save_steps(tmp_path, [1])
    flip_bit(array_file(tmp_path / "1"))
    with checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        with pytest.raises(checkpoint.CheckpointError, match=r"steps \[1\] were damaged"):
            saver.restore(abstract(make_state()))


def test_other_shapes_types_or_missing_shardings_are_refused_by_name(tmp_path):
    save_steps(tmp_path, [1])
    with checkpoint.Checkpoints(tmp_path, 1, 5) as saver:
        with pytest.raises(checkpoint.CheckpointError, match="embedding as float32"):
            saver.restore(abstract(make_state(shape=(4, 16))))
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), make_state().params)
        with pytest.raises(checkpoint.CheckpointError, match="needs bfloat16"):
            saver.restore(abstract(make_state().replace(params=half)))
        with pytest.raises(checkpoint.CheckpointError, match="no sharding"):
            saver.restore(jax.eval_shape(make_state))
    assert (tmp_path / "1").is_dir()


def test_a_loader_of_another_file_is_refused_and_the_step_stays(tmp_path, examples):
    stream = loader(examples)
    with checkpoint.Checkpoints(tmp_path / "c", 1, 2) as saver:
        saver.save(1, make_state(1), stream, {})
        saver.wait()
        write_examples(examples, [Example("new", [1, 2], [0, 1.0], {})])
        with pytest.raises(checkpoint.LoaderMismatch, match="source was"):
            saver.restore(abstract(make_state()), loader(examples))
        assert saver.latest() == 1
    stream.close()


def test_parameters_alone_restore_in_another_type_and_without_some_leaves(tmp_path):
    save_steps(tmp_path, [4])
    wanted = {"embed": make_state(4).params["embed"]}
    half = abstract(jax.tree.map(lambda x: x.astype(jnp.bfloat16), wanted), (2, 2))
    step_dir = checkpoint.latest_step_dir(tmp_path)
    restored = checkpoint.restore_params(step_dir, half)
    assert_equal(restored, jax.tree.map(lambda x: x.astype(jnp.bfloat16), wanted))
    with pytest.raises(checkpoint.CheckpointError, match="does not hold params/other"):
        checkpoint.restore_params(step_dir, {"other": half["embed"]["embedding"]})
    flip_bit(array_file(tmp_path / "4"))
    with pytest.raises(checkpoint.CheckpointError, match="changed content .*move 4 out of"):
        checkpoint.restore_params(step_dir, half)
