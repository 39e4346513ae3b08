"""A step on rows of prefix trees is the step on the same samples apart, to rounding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, OptimConfig
from tl_jax.config.model import RopeScaling
from tl_jax.data.loader.packing import make_row, sorted_fit
from tl_jax.data.loader.prefix_trees import merge
from tl_jax.models import functional, lora
from tl_jax.parallel import mesh as mesh_lib
from tl_jax.parallel import sharding
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib
from tl_jax.types import Batch

LENGTH = 40
# A sliding window in one layer and none in the other, every bias, normalised heads and YaRN.
MODEL = ModelConfig(
    vocab_size=64,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=16,
    attention_bias="qkvo",
    mlp_bias=True,
    qk_norm=True,
    sliding_windows=(5, 0),
    rope_scaling=RopeScaling("yarn", factor=4.0, original_max_position=16, attention_factor=1.1),
)


def groups():
    """Samples that begin alike at several depths, in order: one ends where others go on, two are
    equal, and some part at a trained token.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        manual, turn = rng.integers(1, 64, 7).tolist(), rng.integers(1, 64, 4).tolist()
        group = [manual + rng.integers(1, 64, n).tolist() for n in (3, 5)]
        group += [manual + turn + rng.integers(1, 64, n).tolist() for n in (2, 4)]
        group += [group[0], group[2][:9]]
        found.append(sorted(group))
    found += [[rng.integers(1, 64, n).tolist()] for n in (9, 2)]
    weighed = []
    for group in found:
        weights = [rng.choice([0.0, 1.0, 9.0, 1 / 3], len(ids)).astype(np.float32) for ids in group]
        weighed.append(([np.array(ids, np.int32) for ids in group], weights))
    return weighed


def batch_of(parts):
    """Eight rows with what fits into each; the rest is padding."""
    packed = sorted_fit([len(part["tokens"]) for part in parts], LENGTH)
    rows = [make_row([parts[number] for number in row], LENGTH) for row in packed]
    rows += [{name: np.zeros_like(values) for name, values in rows[0].items()}] * (8 - len(rows))
    return Batch(**{name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]})


def shared():
    return batch_of([merge(*group) for group in groups()])


def apart():
    return batch_of(
        [
            {"tokens": ids[:-1], "targets": ids[1:], "weights": weights[1:]}
            for group in groups()
            for ids, weights in zip(*group, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def params():
    """Parameters of which none is zero."""
    fresh = jax.jit(functools.partial(functional.init, MODEL))(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32) * 0.1, fresh)


def assert_equal_to_rounding(found, expected):
    """Within 1e-5 of the largest number of each array."""

    def check(path, a, b):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(b).max() > 0, path
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max(), err_msg=str(path))

    jax.tree_util.tree_map_with_path(check, found, expected)


NAMES = ("loss", "ce_loss", "weight_sum", "trained_tokens", "tokens", "grad_norm")
CONFIG = OptimConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant", eps=1e-3)


@functools.cache
def program(sizes, accumulation, ce_chunk):
    """A compiled step and what places parameters and batch for it."""
    optimizer = optim.make_optimizer(CONFIG, 10)
    loss = step_lib.LossConfig(ce_chunk=ce_chunk)
    step = step_lib.make_train_step(MODEL, loss, optimizer, accumulation=accumulation)
    mesh = mesh_lib.make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    rows = sharding.batch_sharding(mesh)
    declared = functional.abstract_params(MODEL)
    layout = jax.tree.map(
        lambda leaf: leaf.sharding, step_lib.abstract_state(declared, optimizer, mesh)
    )

    def place(params, batch):
        state = step_lib.init_state(jax.tree.map(jnp.copy, params), optimizer)
        return jax.device_put(state, layout), jax.device_put(batch, rows), {}

    return mesh, step_lib.jit_train_step(step, layout, rows, {}), place


def one_step(params, batch, sizes, accumulation=1, ce_chunk=0):
    """The parameters after a step, what its optimizer keeps of the gradient, and the metrics."""
    mesh, step, place = program(sizes, accumulation, ce_chunk)
    with jax.set_mesh(mesh):
        state, metrics = step(*place(params, batch))
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    return state.params, moments, {name: getattr(metrics, name) for name in NAMES}


@pytest.fixture(scope="module")
def expected(params):
    batch = apart()
    real, trained = batch.visible_until > 0, batch.weights > 0
    # As trees are, so that one program computes both.
    counted = batch.replace(samples=real.astype(jnp.int32), trained=trained.astype(jnp.int32))
    found = one_step(params, counted, (1, 1, 1), ce_chunk=12)
    assert found[2]["tokens"] == real.sum() and found[2]["trained_tokens"] == trained.sum()
    return found


@pytest.mark.parametrize(
    "form",
    [
        {"sizes": (1, 1, 1), "ce_chunk": 12},
        {"sizes": (8, 1, 1)},
        {"sizes": (2, 2, 2), "ce_chunk": 12, "accumulation": 2},
    ],
    ids=str,
)
def test_a_step_on_trees_is_that_on_their_samples(params, expected, form):
    batch = shared()
    assert (batch.visible_until > 0).sum() < 0.6 * (apart().visible_until > 0).sum()
    assert_equal_to_rounding(one_step(params, batch, **form), expected)


def test_gradients_of_adapters_are_those_of_the_samples(params):
    model = dataclasses.replace(MODEL, lora=LoraConfig(rank=2, alpha=4.0))
    fresh = jax.jit(functools.partial(functional.init, model))(jax.random.key(2))
    trained, frozen = lora.split(fresh, model.lora)
    trained = jax.tree.map(lambda x: x + 0.1, trained)

    @jax.jit
    def gradient(trained, batch):
        def loss(trained):
            sums = step_lib.loss_sums(
                lora.joined(trained, frozen), batch, model, step_lib.LossConfig()
            )
            return sums["ce"] / jnp.sum(batch.weights)

        return jax.value_and_grad(loss)(trained)

    trees = shared().replace(samples=None, trained=None)
    assert_equal_to_rounding(gradient(trained, trees), gradient(trained, apart()))


def test_no_branch_sees_another(params):
    """Each entry has an id of its own, so that the table's gradient is that of the entries."""
    tree = merge(*groups()[0])
    row = {name: jnp.asarray(values) for name, values in make_row([tree], LENGTH).items()}
    entries = Batch(**{name: value[None] for name, value in row.items()}).replace(
        tokens=jnp.arange(LENGTH)[None]
    )

    @jax.jit
    def seen(params):
        def hidden(table):
            table = {**params, "embed": {"embedding": table}}
            states = functional.hidden_states(table, entries, MODEL)[0]
            return jnp.sum(states * jnp.arange(1, MODEL.embed_dim + 1), axis=-1)

        return jax.jacrev(hidden)(params["embed"]["embedding"])

    reaches = np.abs(np.asarray(seen(params))).max(-1)[:, :LENGTH] > 0
    until = np.asarray(row["visible_until"])
    query, key = np.mgrid[:LENGTH, :LENGTH]
    real = until > 0
    visible = (key <= query) & (query < until[None])
    assert (reaches[real] == visible[real]).all()
    assert visible[real].sum() < np.tri(LENGTH)[real].sum() * 0.8
