"""Which attention computes the rows of a batch: XLA's own, or a kernel for the devices at hand."""

from __future__ import annotations

import functools
import logging
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tl_jax.ops import cudnn
from tl_jax.ops.attention import QUERY_CHUNK, SAVED, attention
from tl_jax.ops.splash import Blocks, splash_attention
from tl_jax.parallel.sharding import parts, spec

logger = logging.getLogger(__name__)

_HEADS = ("batch", "act_heads", "length", None)


def attend(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    *,
    kind: str,
    blocks: Blocks,
    same_tokens: bool,
    q_segments_BT: jax.Array,
    window: int | jax.Array = 0,
    **where: jax.Array,
) -> jax.Array:
    """Attend as ``ops.attention.attention`` does, by the implementation called ``kind``.

    Kernels compute packed rows; keys in a cache are always XLA's. They count tokens where XLA's
    attention reads positions, so the positions of a segment must rise by one from token to token.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKSH: Keys; N is a multiple of K.
      v_BKSH: Values.
      kind: ``"chunked"`` or ``"dense"`` (XLA), ``"splash"`` (a TPU, or step by step elsewhere),
        ``"cudnn"`` (an NVIDIA GPU), or ``"auto"``: what fits the devices of the mesh in context.
      blocks: Sizes for ``"splash"``.
      same_tokens: Queries and keys are the same packed tokens in order.
      q_segments_BT: Segment of each query, not negative.
      window: Positions a query sees, its own included; 0 means all. Kernels need a plain number.
      **where: The other arguments of ``ops.attention.attention``.

    Raises:
      ValueError: A kernel was asked for by name and cannot do this, or rows or heads cannot be
        spread over the mesh.
    """
    if same_tokens:
        chosen = choose(
            kind,
            platform=_platform(),
            dtype=q_BNTH.dtype,
            head_dim=q_BNTH.shape[-1],
            length=q_BNTH.shape[2],
            one_window=isinstance(window, int),
        )
    else:
        chosen = "dense" if kind == "dense" else "chunked"
    if chosen == "splash":
        # As XLA's attention, the kernel names its output itself, together with the normaliser
        # that its gradient needs.
        kernel = functools.partial(
            splash_attention,
            window=window,
            blocks=blocks,
            saved_name=SAVED,
            interpret=_platform() != "tpu",
        )
        return _spread(kernel, q_BNTH, k_BKSH, v_BKSH, q_segments_BT)
    if chosen == "cudnn":
        kernel = functools.partial(cudnn.cudnn_attention, window=window)
        return checkpoint_name(_spread(kernel, q_BNTH, k_BKSH, v_BKSH, q_segments_BT), SAVED)
    return attention(
        q_BNTH,
        k_BKSH,
        v_BKSH,
        same_tokens=same_tokens,
        q_segments_BT=q_segments_BT,
        window=window,
        chunk=QUERY_CHUNK if chosen == "chunked" else 0,
        **where,
    )


def choose(
    kind: str,
    *,
    platform: str,
    dtype: jnp.dtype,
    head_dim: int,
    length: int,
    one_window: bool,
) -> str:
    """Return the implementation that computes packed rows, and log each choice once.

    Args:
      kind: What the configuration asks for; ``"auto"`` leaves it to this function.
      platform: Of the devices of the mesh: ``"tpu"``, ``"gpu"``, ``"cpu"``; empty without a mesh.
      dtype: Of queries, keys and values.
      head_dim: Size of a head.
      length: Tokens of a row.
      one_window: The layers share one window, or have none.

    Raises:
      ValueError: ``kind`` is a kernel that cannot compute this.
    """
    fits_cudnn = cudnn.fits(jnp.dtype(dtype), head_dim, length)
    if kind in ("splash", "cudnn") and not one_window:
        raise ValueError(
            f"attention {kind!r} needs the same sliding window in all layers; set model.attention "
            "to 'chunked'"
        )
    if kind == "cudnn" and not fits_cudnn:
        raise ValueError(
            f"attention 'cudnn' cannot train on rows of {length} tokens with {dtype} heads of "
            f"{head_dim}; set model.attention to 'auto', or model.dtype to 'bfloat16'"
        )
    chosen = kind
    if kind == "auto":
        chosen = "chunked"
        if platform == "tpu" and one_window:
            chosen = "splash"
        elif platform == "gpu" and one_window and fits_cudnn:
            chosen = "cudnn"
    _log(kind, chosen, platform)
    return chosen


@functools.lru_cache(maxsize=64)
def _log(kind: str, chosen: str, platform: str) -> None:
    logger.info("attention %r on %s: %s", kind, platform or "devices without a mesh", chosen)


def _platform() -> str:
    """Return what the mesh in context consists of; it need not be this machine's own devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return "" if device is None else device.platform


def _spread(
    kernel: functools.partial[jax.Array],
    q_BNTH: jax.Array,
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    segments_BT: jax.Array,
) -> jax.Array:
    """Run a kernel for one device on every device's own rows and heads."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return kernel(q_BNTH, k_BKTH, v_BKTH, segments_BT)
    heads, rows = spec(_HEADS), spec(("batch", "length"))
    for size, what, axes in (
        (q_BNTH.shape[0], "rows of a batch", heads[0]),
        (q_BNTH.shape[1], "heads", heads[1]),
    ):
        devices = parts(mesh, axes)
        if size % devices:
            raise ValueError(
                f"{size} {what} are not divisible by mesh axes {axes} of size {devices}"
            )
    # With fewer key heads than devices each is held by several.
    devices = parts(mesh, heads[1])
    copies = devices // math.gcd(k_BKTH.shape[1], devices)
    if copies > 1:
        k_BKTH, v_BKTH = (jnp.repeat(x, copies, axis=1) for x in (k_BKTH, v_BKTH))
    spread = jax.shard_map(
        kernel, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
    )
    return spread(q_BNTH, k_BKTH, v_BKTH, segments_BT)
