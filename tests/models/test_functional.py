"""The decoder: what each token may see, one declaration per parameter, and the cache."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rows import visible_until

from tl_jax.config import ModelConfig, RopeScaling
from tl_jax.models import functional
from tl_jax.ops import kernels
from tl_jax.types import Batch

MODEL = ModelConfig(
    vocab_size=32,
    embed_dim=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    mlp_dim=24,
    remat="none",
)
TIED = dataclasses.replace(MODEL, tie_embeddings=True)

apply = jax.jit(functional.apply, static_argnums=2)
hidden_states = jax.jit(functional.hidden_states, static_argnums=2)
apply_with_cache = jax.jit(functional.apply_with_cache, static_argnums=3)


@pytest.fixture(scope="module")
def params():
    return functional.init(MODEL, jax.random.key(0))


def rows(tokens, positions=None, segments=None):
    tokens = np.asarray(tokens, np.int32)
    if positions is None:
        positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    until = visible_until(np.ones_like(tokens) if segments is None else segments)
    return Batch(tokens, tokens, np.ones(tokens.shape), np.asarray(positions, np.int32), until)


# Three segments in one row, then padding.
SEGMENTS = np.array([1, 1, 1, 2, 2, 2, 2, 3, 3, 0, 0])
POSITIONS = np.array([0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1])


@functools.cache
def influence(attention):
    """Largest gradient of each output position by each input position, ``[T, T]``."""
    length = len(SEGMENTS)
    # Every position has a token of its own, so that a row of the embedding is one input.
    batch = rows(np.arange(length)[None], POSITIONS[None], SEGMENTS[None])
    config = dataclasses.replace(MODEL, attention=attention)
    params = functional.init(config, jax.random.key(0))
    direction = jax.random.normal(jax.random.key(1), (MODEL.embed_dim,))

    def outputs(embedding):
        changed = {**params, "embed": {"embedding": embedding}}
        return functional.hidden_states(changed, batch, config)[0] @ direction

    gradients = jax.jit(jax.jacrev(outputs))(params["embed"]["embedding"])
    # What stands at padding is nobody's.
    return np.abs(gradients[:, :length]).max(axis=-1) * (SEGMENTS > 0)[:, None]


@pytest.fixture(params=["dense", "chunked"])
def influences(request, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 4)
    return influence(request.param)


def test_no_token_sees_a_later_one(influences):
    assert (influences[np.triu_indices_from(influences, 1)] == 0).all()


def test_no_token_sees_another_segment(influences):
    assert (influences[SEGMENTS[:, None] != SEGMENTS[None]] == 0).all()


def test_every_token_sees_itself_and_all_earlier_tokens_of_its_segment(influences):
    same = (SEGMENTS[:, None] == SEGMENTS[None]) & (SEGMENTS > 0)
    assert (influences[same & np.tri(len(SEGMENTS), dtype=bool)] > 1e-6).all()


def test_a_packed_segment_is_computed_as_if_it_were_alone(params):
    tokens = np.random.default_rng(0).integers(0, 32, (1, len(SEGMENTS)))
    packed = apply(params, rows(tokens, POSITIONS[None], SEGMENTS[None]), MODEL)
    for segment in (1, 2, 3):
        inside = SEGMENTS == segment
        # Padded to one length, so that it is compiled once.
        alone = np.zeros_like(tokens)
        alone[0, : inside.sum()] = tokens[0, inside]
        segments = np.arange(len(SEGMENTS))[None] < inside.sum()
        found = apply(params, rows(alone, segments=segments), MODEL)
        np.testing.assert_allclose(found[0, : inside.sum()], packed[0, inside], atol=2e-5)


def test_padding_to_the_right_changes_nothing(params):
    tokens = np.random.default_rng(1).integers(0, 32, (2, 6))
    padded = np.pad(tokens, ((0, 0), (0, 5)), constant_values=7)
    segments = np.pad(np.ones_like(tokens), ((0, 0), (0, 5)))
    found = apply(params, rows(padded, segments=segments), MODEL)
    expected = apply(params, rows(tokens), MODEL)
    np.testing.assert_allclose(found[:, :6], expected, atol=2e-5)
    assert np.isfinite(found).all()


def with_cache(params, tokens, pieces, *, gap=0, length=None, config=MODEL):
    """Hidden states of ``tokens`` fed through an empty cache in pieces.

    The last ``gap`` tokens that row 0 has in the first piece are padding.
    """
    tokens = np.asarray(tokens, np.int32)
    cache = functional.init_cache(config, len(tokens), length or tokens.shape[1] + 2)
    fast = functional.unstack_layers(params)
    outputs, at = [], 0
    for size in pieces:
        hidden, cache = apply_with_cache(fast, tokens[:, at : at + size], cache, config)
        if not at:
            cache = cache.replace(index=cache.index.at[0].add(-gap))
        outputs.append(hidden)
        at += size
    assert cache.index.tolist() == [at - gap] + [at] * (len(tokens) - 1)
    return np.concatenate(outputs, axis=1)


TOKENS = np.random.default_rng(2).integers(0, 32, (2, 8))


@pytest.mark.parametrize("pieces", [(8,), (5, 3), (1,) * 8, (5, 1, 1, 1)], ids=str)
def test_a_cache_filled_in_pieces_gives_the_states_of_the_whole_row(params, pieces):
    # In one piece this also says: the scan over stacked layers is a loop over the layers.
    expected = hidden_states(params, rows(TOKENS), MODEL)
    np.testing.assert_allclose(with_cache(params, TOKENS, pieces), expected, atol=2e-5)


# Two layers with windows, one of them of a single token, and one without.
WINDOWS = dataclasses.replace(MODEL, sliding_windows=(3, 0, 1))
SAME_WINDOWS = dataclasses.replace(MODEL, sliding_windows=(3, 3, 3))


@pytest.mark.parametrize("config", [WINDOWS, SAME_WINDOWS], ids=["by layer", "shared"])
def test_windows_hold_in_the_cache_as_in_the_whole_row(params, config):
    expected = hidden_states(params, rows(TOKENS), config)
    found = with_cache(params, TOKENS, (5, 1, 1, 1), config=config)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_each_layer_has_its_own_window(params):
    # The last of three layers with windows of 3 sees back 3 * 2 positions, and no further.
    before, after = (
        hidden_states(params, rows(np.concatenate([[[n]], TOKENS[:1]], axis=1)), SAME_WINDOWS)
        for n in (1, 2)
    )
    seen = np.abs(before - after).max(axis=(0, 2)) > 0
    assert seen.tolist() == [True] * 7 + [False] * 2


def test_slots_of_padding_are_never_attended(params):
    # Row 0 has 3 tokens before two slots of padding, row 1 has 5; then both decode 3 tokens.
    valid = np.ones((2, 8), bool)
    valid[0, 3:5] = False
    other = np.where(valid, TOKENS, 31 - TOKENS)
    first = with_cache(params, TOKENS, (5, 1, 1, 1), gap=2)
    again = with_cache(params, other, (5, 1, 1, 1), gap=2)
    np.testing.assert_array_equal(first[valid], again[valid])
    assert np.isfinite(first).all()
    # The row with the gap equals the same text without it.
    dense = np.concatenate([TOKENS[:1, :3], TOKENS[:1, 5:]], axis=1)
    expected = hidden_states(params, rows(np.pad(dense, ((0, 1), (0, 2)))), MODEL)
    np.testing.assert_allclose(first[0, valid[0]], expected[0, :6], atol=2e-5)


def test_unused_slots_of_a_longer_cache_change_nothing(params):
    short = with_cache(params, TOKENS, (5, 3))
    np.testing.assert_allclose(with_cache(params, TOKENS, (5, 3), length=24), short, atol=2e-5)


@pytest.mark.parametrize("config", [MODEL, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("value_head", [False, True])
def test_what_is_initialised_is_what_is_declared(config, value_head):
    config = dataclasses.replace(config, param_dtype="bfloat16")
    declared = functional.abstract_params(config, value_head=value_head)
    made = jax.eval_shape(lambda: functional.init(config, jax.random.key(0), value_head=value_head))
    described = jax.tree.map(lambda info: (info.shape, info.dtype), declared)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), made) == described
    for info in jax.tree.leaves(declared, is_leaf=lambda x: hasattr(x, "axes")):
        assert len(info.axes) == len(info.shape)
        assert (info.axes[0] == "layers") == (info.shape[0] == config.num_layers)
    assert ("lm_head" in declared) == (not config.tie_embeddings)
    assert ("value_head" in declared) == value_head


def test_initial_values_differ_between_layers_and_keys(params):
    kernel = params["layers"]["mlp"]["up"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1
    again = functional.init(MODEL, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    other = functional.init(MODEL, jax.random.key(1))
    assert np.abs(kernel - other["layers"]["mlp"]["up"]["kernel"]).max() > 0.1


def test_initial_kernels_keep_the_size_of_their_input(params):
    # Stacked layers must not count as inputs: variance 1 / fan_in per layer.
    for name, fan_in in (("gate", MODEL.embed_dim), ("down", MODEL.mlp_dim)):
        kernel = np.asarray(params["layers"]["mlp"][name]["kernel"])
        np.testing.assert_allclose(kernel.std(), fan_in**-0.5, rtol=0.1)


def test_values_are_zero_at_first_and_stop_their_gradient_on_request():
    params = functional.init(MODEL, jax.random.key(0), value_head=True)
    hidden = jax.random.normal(jax.random.key(1), (2, 5, MODEL.embed_dim), jnp.bfloat16)
    found = functional.values(params, hidden, stop_gradient=False)
    assert found.shape == (2, 5) and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, 0)

    params["value_head"]["kernel"] += 1.0

    def total(x, stop):
        return functional.values(params, x, stop_gradient=stop).sum()

    assert np.all(jax.grad(total)(hidden, True) == 0) and np.all(jax.grad(total)(hidden, False))


def test_computing_in_bfloat16_still_gives_float32_logits(params):
    low = dataclasses.replace(MODEL, dtype="bfloat16")
    assert jax.eval_shape(lambda: functional.hidden_states(params, rows(TOKENS), low)).dtype == (
        jnp.bfloat16
    )
    found = apply(params, rows(TOKENS), low)
    assert found.dtype == jnp.float32
    expected = apply(params, rows(TOKENS), MODEL)
    error = np.abs(found - expected).max()
    assert 0 < error < 0.1 * np.abs(expected).max()
    # Logits are not rounded to bfloat16 on their way.
    assert np.any(np.asarray(found.astype(jnp.bfloat16), np.float32) != np.asarray(found))


def test_tied_embeddings_are_one_array_for_input_and_output():
    params = functional.init(TIED, jax.random.key(0))
    embedding = params["embed"]["embedding"]
    np.testing.assert_array_equal(functional.head_kernel(params, TIED), embedding.T)
    tokens = np.full((1, 3), 5)

    def score(table, target):
        tied = {**params, "embed": {"embedding": table}}
        return functional.apply(tied, rows(tokens), TIED)[0, -1, target]

    gradient = jax.jit(jax.grad(score))(embedding, 9)
    # Token 9 is only an output, token 5 only an input, the others neither.
    touched = np.abs(gradient).max(axis=-1) > 0
    assert np.flatnonzero(touched).tolist() == [5, 9]


SCALED = RopeScaling("llama3", factor=8.0, original_max_position=16)
YARN = RopeScaling("yarn", factor=8.0, original_max_position=64, attention_factor=1.2)
BASES = {
    "plain": MODEL,
    "full": dataclasses.replace(MODEL, attention_bias="qkvo", mlp_bias=True, qk_norm=True),
    "llama3": dataclasses.replace(MODEL, rope_scaling=SCALED),
    "yarn": dataclasses.replace(MODEL, head_dim=16, rope_scaling=YARN),
}
# What is changed -> (the configuration it is changed in, field, other value).
PERTURBED = {
    "rope_theta": ("plain", "rope_theta", 500.0),
    "norm_eps": ("plain", "norm_eps", 0.1),
    "head_dim": ("plain", "head_dim", 8),
    "tie_embeddings": ("plain", "tie_embeddings", True),
    "sliding_windows": ("plain", "sliding_windows", (0, 3, 0)),
    "linear": ("plain", "rope_scaling", RopeScaling("linear", factor=2.0)),
    "llama3": ("plain", "rope_scaling", SCALED),
    "attention_bias": ("full", "attention_bias", "none"),
    "attention_bias o": ("full", "attention_bias", "qkv"),
    "mlp_bias": ("full", "mlp_bias", False),
    "qk_norm": ("full", "qk_norm", False),
    **{
        f"llama3 {name}": ("llama3", "rope_scaling", dataclasses.replace(SCALED, **{name: value}))
        for name, value in {
            "factor": 4.0,
            "original_max_position": 100,
            "low_freq_factor": 2.0,
            "high_freq_factor": 8.0,
        }.items()
    },
    **{
        f"yarn {name}": ("yarn", "rope_scaling", dataclasses.replace(YARN, **{name: value}))
        for name, value in {
            "factor": 4.0,
            "original_max_position": 600,
            "beta_fast": 2.0,
            "beta_slow": 0.01,
            "truncate": False,
            "attention_factor": 1.0,
        }.items()
    },
}


@functools.cache
def sample_logits(config):
    """Logits of random parameters; those that the configuration does not declare are left out."""
    everything = dataclasses.replace(BASES["full"], head_dim=config.head_dim)
    full = functional.init(everything, jax.random.key(4))
    # Initial biases are zero and scales one, which would hide them.
    rng = np.random.default_rng(6)
    full = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), full)
    declared = functional.abstract_params(config)

    def declared_part(tree, infos):
        return {
            key: declared_part(tree[key], info) if isinstance(info, dict) else tree[key]
            for key, info in infos.items()
        }

    tokens = np.random.default_rng(5).integers(0, 32, (1, 12))
    batch = rows(tokens, positions=7 * np.arange(12)[None])
    return np.asarray(apply(declared_part(full, declared), batch, config))


@pytest.mark.parametrize("name", PERTURBED)
def test_every_field_of_the_architecture_changes_the_logits(name):
    base, field, value = PERTURBED[name]
    changed = dataclasses.replace(BASES[base], **{field: value})
    assert np.abs(sample_logits(changed) - sample_logits(BASES[base])).max() > 1e-3


def test_biases_and_head_norms_lie_as_what_they_are_added_to():
    declared = functional.abstract_params(BASES["full"])["layers"]
    attn, mlp = declared["attn"], declared["mlp"]
    for linear in (*(attn[name] for name in "qkvo"), *mlp.values()):
        assert linear["bias"].axes == ("layers", linear["kernel"].axes[-1])
        assert linear["bias"].shape == (MODEL.num_layers, linear["kernel"].shape[-1])
    for name in ("q_norm", "k_norm"):
        assert attn[name]["scale"].axes == ("layers", None)
        assert attn[name]["scale"].shape == (MODEL.num_layers, MODEL.head_dim)
    fresh = functional.init(BASES["full"], jax.random.key(0))["layers"]
    assert not np.any(fresh["attn"]["q"]["bias"]) and np.all(fresh["attn"]["q_norm"]["scale"] == 1)


@pytest.mark.parametrize("unroll", [2, 9])
def test_layers_taken_several_at_a_time_give_the_same(params, unroll):
    """Three layers, two at a time or all at once: values, and gradients with rematerialisation."""
    batch = rows(np.arange(8)[None])

    def loss(params, config):
        return jnp.sin(functional.hidden_states(params, batch, config)).sum()

    expected, found = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(
            params, dataclasses.replace(MODEL, remat="minimal", unroll=count)
        )
        for count in (1, unroll)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )
