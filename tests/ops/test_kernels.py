"""Kernels give what XLA's attention gives, and the devices of the mesh decide which one runs."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_rows import visible_until

from tl_jax.config import MeshConfig, SplashConfig
from tl_jax.ops import kernels
from tl_jax.ops.attention import Row, row_attention
from tl_jax.ops.cudnn import cudnn_attention
from tl_jax.ops.seen_blocks import Facts
from tl_jax.ops.splash import splash_attention
from tl_jax.ops.tree_kernel import tree_attention
from tl_jax.parallel.mesh import make_mesh

B, N, K, T, H = 2, 4, 2, 200, 16  # two blocks of 128, the second partly filled
BLOCKS = SplashConfig(128, 128)

LENGTHS = ((70, 90, 40), (200, 0, 0))  # of the segments of each row; the third is padding
SEGMENTS = np.array([np.repeat((1, 2, 0), lengths) for lengths in LENGTHS], np.int32)
POSITIONS = np.array([np.concatenate([np.arange(n) for n in ns]) for ns in LENGTHS], np.int32)
ROW = Row(POSITIONS, visible_until(SEGMENTS))


def inputs(kv_heads=K, length=T):
    rng = np.random.default_rng(0)
    shapes = ((B, N, length, H), (B, kv_heads, length, H), (B, kv_heads, length, H))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


@functools.partial(jax.jit, static_argnames=("kind", "blocks", "window"))
def value_and_grads(qkv, row=ROW, *, kind, blocks=BLOCKS, window=0):
    def total(qkv):
        out = kernels.attend(*qkv, row, kind=kind, blocks=blocks, window=window)
        out = jnp.where(row.visible_until[:, None, :, None] > 0, out, 0)  # padding is nobody's
        return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    (_, out), grads = jax.value_and_grad(total, has_aux=True)(qkv)
    return out, grads


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5), found, expected)


@pytest.mark.parametrize(
    ("blocks", "window"),
    [
        (BLOCKS, 50),
        (SplashConfig(4096, 256, fused_backward=True), 0),
        (SplashConfig(4096, 4096), 0),
    ],
)
def test_splash_is_the_attention_of_xla_forward_and_backward(blocks, window):
    expected = value_and_grads(inputs(), kind="dense", window=window)
    assert_close(value_and_grads(inputs(), kind="splash", blocks=blocks, window=window), expected)


def test_every_device_computes_its_own_rows_and_heads():
    """One head of keys is held by both devices along tensor, and its gradient is their sum."""
    splash = functools.partial(value_and_grads, kind="splash", blocks=SplashConfig(256, 256, True))
    expected = value_and_grads(inputs(1), kind="dense")
    with jax.set_mesh(make_mesh(MeshConfig(1, 2, 2), jax.devices()[:4])):
        assert_close(splash(inputs(1)), expected)
        program = str(jax.make_jaxpr(splash)(inputs(2)))
    assert "shard_map" in program and f"[1,{N // 2},256,{H}]" in program


@pytest.mark.parametrize(
    ("sizes", "blocks", "window"),
    [((1, 1, 2, 2), BLOCKS, 50), ((1, 2, 1, 4), SplashConfig(128, 128, True), 0)],
)
def test_devices_that_share_a_row_have_their_own_queries_and_see_all_keys(sizes, blocks, window):
    """Segments lie across the borders of the parts; the last part is half padding."""
    lengths = ((130, 300, 82), (512, 0, 0))
    row = Row(
        np.array([np.concatenate([np.arange(n) for n in ns]) for ns in lengths], np.int32),
        visible_until([np.repeat((1, 2, 0), ns) for ns in lengths]),
    )
    expected = value_and_grads(inputs(1, 512), row, kind="dense", window=window)
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    with jax.set_mesh(mesh):
        found = value_and_grads(inputs(1, 512), row, kind="splash", blocks=blocks, window=window)
    assert_close(found, expected)


def test_devices_that_share_a_row_have_a_window_that_differs_from_layer_to_layer():
    qkv = inputs(1)

    @jax.jit
    def attend(limits_L):
        layer = functools.partial(kernels.attend, *qkv, ROW, kind="chunked", blocks=BLOCKS)
        return jax.lax.map(lambda limit: layer(window=limit), limits_L)

    with jax.set_mesh(make_mesh(MeshConfig(1, 1, 1, 2), jax.devices()[:2])):
        found = attend(np.array([50, 2**31 - 1], np.int32))
    for out, window in zip(found, (50, 0), strict=True):
        out = np.where(ROW.visible_until[:, None, :, None] > 0, out, 0)
        assert_close(out, value_and_grads(qkv, kind="dense", window=window)[0])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((4, 1, 1), "2 rows of a batch.*data"),
        ((1, 1, 8), "4 heads.*tensor"),
        ((1, 1, 1, 3), "200 tokens of a row.*sequence"),
    ],
)
def test_rows_and_heads_that_cannot_be_spread_are_named(sizes, words):
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=f"{words}.*of size {max(sizes)}"):
        kind = "chunked" if len(sizes) > 3 else "splash"
        jax.eval_shape(functools.partial(value_and_grads, kind=kind), inputs())


def test_the_mask_given_to_cudnn_hides_what_is_not_on_the_path_or_before_the_window():
    # A beginning of 70 tokens with branches of 90 and 40; one text.
    trees = Row(
        np.array([[*range(70), *range(70, 160), *range(70, 110)], np.arange(200)], np.int32),
        np.array([np.repeat((200, 160, 200), LENGTHS[0]), np.full(T, T)], np.int32),
    )
    for row, window in ((ROW, 0), (ROW, 50), (trees, 0), (trees, 50)):
        found = cudnn_attention(*inputs(), row, window=window, implementation="xla")
        found = np.where(row.visible_until[:, None, :, None] > 0, found, 0)
        expected, _ = value_and_grads(inputs(), row, kind="dense", window=window)
        assert_close(found, expected)


def test_rows_of_one_text_are_attended_without_a_mask():
    """What stands at padding is nobody's; real tokens never see it."""
    lengths = ((130, 70), (200, 0))
    segments = np.array([np.repeat((1, 0), ns) for ns in lengths], np.int32)
    positions = np.array([np.concatenate([np.arange(n) for n in ns]) for ns in lengths], np.int32)
    real = segments[:, None, :, None] > 0

    def total(attend, qkv):
        out = jnp.where(real, attend(*qkv), 0)
        return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    row = Row(positions, visible_until(segments))

    def cudnn(q, k, v):
        return cudnn_attention(q, k, v, row, window=50, implementation="xla")

    def chunked(q, k, v):
        return row_attention(q, k, v, row, row, window=50)

    found, expected = (
        jax.jit(jax.value_and_grad(functools.partial(total, one), has_aux=True))(inputs())
        for one in (cudnn, chunked)
    )
    assert_close(found, expected)


def test_the_mask_is_read_where_a_row_has_several_texts_only():
    """Everything else being equal, a text beside another one is what decides."""
    run = jax.jit(functools.partial(cudnn_attention, window=0, implementation="xla"))
    q, k, v = inputs()
    positions = np.arange(T, dtype=np.int32)[None].repeat(B, 0)
    segments = np.ones((B, T), np.int32)
    one = run(q, k, v, Row(positions, visible_until(segments)))
    segments[0, 150:] = 2
    several = run(q, k, v, Row(positions, visible_until(segments)))
    assert_close(several[:, :, :150], one[:, :, :150])
    assert_close(several[1], one[1])
    assert np.abs(several[0, :, 150:] - one[0, :, 150:]).max() > 0.1


@pytest.mark.parametrize(("fused", "kernels"), [(False, 3), (True, 2)])
def test_splash_compiles_to_tpu_code_forward_and_backward(fused, kernels):
    heads = [jax.ShapeDtypeStruct(x.shape[:3] + (128,), jnp.bfloat16) for x in inputs()]
    segments = jax.ShapeDtypeStruct((B, T), jnp.int32)

    def total(q, k, v, segments):
        out = splash_attention(
            *(q, k, v, segments, segments),
            window=50,
            blocks=SplashConfig(128, 128, fused),
            saved_name="attention",
            interpret=False,
        )
        return out.astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(*heads, segments)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == kernels


@pytest.mark.parametrize("window", [None, 50])
def test_the_kernel_of_trees_compiles_to_tpu_code_forward_and_backward(window):
    heads = [jax.ShapeDtypeStruct(x.shape[:3] + (64,), jnp.bfloat16) for x in inputs()]
    row = [jax.ShapeDtypeStruct((B, T), jnp.int32)] * 2

    def total(q, k, v, positions, until):
        limit = None if window is None else jnp.int32(window)
        facts = Facts(positions, positions, until, jnp.int32(0), limit)
        out = tree_attention(
            *(q, k, v, facts), blocks=BLOCKS, saved_name="attention", interpret=False
        )
        return out.astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(*heads, *row)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 3


FACTS = {
    "dtype": jnp.dtype("bfloat16"),
    "head_dim": 64,
    "length": 512,
    "one_window": True,
    "blocks": BLOCKS,
}


@pytest.mark.parametrize(
    ("platform", "change", "chosen"),
    [
        ("tpu", {}, "tree"),
        ("tpu", {"one_window": False}, "tree"),
        ("gpu", {}, "cudnn"),
        ("gpu", {"dtype": jnp.dtype("float32")}, "chunked"),
        ("gpu", {"head_dim": 192}, "chunked"),
        ("gpu", {"length": 513}, "chunked"),
        ("gpu", {"parts": 2}, "chunked"),
        ("tpu", {"parts": 8}, "tree"),
        ("gpu", {"length": 2**15}, "chunked"),
        ("cpu", {}, "chunked"),
        ("", {}, "chunked"),
    ],
)
def test_auto_takes_what_fits_the_devices(platform, change, chosen):
    assert kernels.choose("auto", platform=platform, **(FACTS | change)) == chosen


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("splash", {"one_window": False}, "same sliding window"),
        ("cudnn", {"one_window": False}, "same sliding window"),
        ("cudnn", {"dtype": jnp.dtype("float32")}, "float32 heads.*model.dtype"),
        ("cudnn", {"parts": 2}, "mesh axis 'sequence'"),
        ("splash", {"parts": 8}, "512 tokens over mesh axis 'sequence' of size 8: 64 are no whole"),
    ],
)
def test_a_kernel_that_cannot_do_it_is_refused(kind, change, words):
    with pytest.raises(ValueError, match=words):
        kernels.choose(kind, platform="gpu", **(FACTS | change))


def test_a_choice_is_logged_once(caplog):
    facts = FACTS | {"dtype": jnp.dtype("float32"), "length": 8}
    kernels._log.cache_clear()
    with caplog.at_level(logging.INFO, kernels.__name__):
        for _ in range(2):
            kernels.choose("auto", platform="cpu", **facts)
            kernels.choose("auto", platform="tpu", **facts)
            for length in (4096, 32768):
                kernels.choose("auto", platform="gpu", **(FACTS | {"length": length}))
    assert [record.message for record in caplog.records] == [
        "attention 'auto' on cpu: chunked",
        "attention 'auto' on tpu: tree",
        "attention 'auto' on gpu: cudnn, with a mask of 32 MiB where a row has several texts",
        "attention 'auto' on gpu: chunked, as cuDNN does not take rows of 32768 tokens with "
        "bfloat16 heads of 64 here",
    ]
