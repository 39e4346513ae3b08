"""Which attention computes the rows of a batch: XLA's own, or a kernel for the devices at hand."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp

from tl_jax.ops import cudnn, splash
from tl_jax.ops.attention import QUERY_CHUNK, SAVED, Row, Slots, row_attention, slot_attention
from tl_jax.ops.spread import spread
from tl_jax.parallel.sharding import cut

logger = logging.getLogger(__name__)


def attend(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    where: Row[jax.Array] | Slots,
    *,
    kind: str,
    blocks: splash.Blocks,
    window: int | jax.Array = 0,
) -> jax.Array:
    """Attend as ``ops.attention`` does, by the implementation called ``kind``.

    Kernels compute rows; keys in a cache are always XLA's. Where devices share a row each has its
    own queries and gathers the keys and values of all.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKSH: Keys; N is a multiple of K.
      v_BKSH: Values.
      where: ``Row`` of tokens that are queries and keys, or ``Slots`` of a cache.
      kind: ``"chunked"`` or ``"dense"`` (XLA), ``"splash"`` (a TPU, or step by step elsewhere),
        ``"cudnn"`` (an NVIDIA GPU), or ``"auto"``: what fits the devices of the mesh in context.
      blocks: Sizes for ``"splash"``.
      window: Positions a query sees, its own included; 0 means all. Kernels need a plain number.

    Raises:
      ValueError: A kernel was asked for by name and cannot do this, or rows, heads or tokens
        cannot be spread over the mesh.
    """
    if isinstance(where, Slots):
        chunk = 0 if kind == "dense" else QUERY_CHUNK
        return slot_attention(q_BNTH, k_BKSH, v_BKSH, where, window=window, chunk=chunk)
    chosen = choose(
        kind,
        platform=_platform(),
        dtype=q_BNTH.dtype,
        head_dim=q_BNTH.shape[-1],
        length=q_BNTH.shape[2],
        one_window=isinstance(window, int),
        blocks=blocks,
        parts=cut("length"),
    )
    if chosen == "splash":
        assert isinstance(window, int), "one_window"
        kernel = functools.partial(_splash, window=window, blocks=blocks)
    elif chosen == "cudnn":
        assert isinstance(window, int), "one_window"
        kernel = functools.partial(_cudnn, window=window)
    else:
        chunk = QUERY_CHUNK if chosen == "chunked" else 0
        kernel = functools.partial(_xla, window=window, chunk=chunk)
    # The compiler itself spreads rows and heads of what it knows.
    if jax.sharding.get_abstract_mesh().size <= 1 or (
        chosen not in ("splash", "cudnn") and cut("length") == 1
    ):
        return kernel(q_BNTH, k_BKSH, v_BKSH, where, where, 0)
    return spread(kernel, q_BNTH, k_BKSH, v_BKSH, where)


def _splash(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int,
    blocks: splash.Blocks,
) -> jax.Array:
    # As XLA's attention, the kernel names its output itself, together with the normaliser that its
    # gradient needs.
    return splash.splash_attention(
        *(q_BNTH, k_BKSH, v_BKSH, queries.visible_until, keys.visible_until),
        part=part,
        window=window,
        blocks=blocks,
        saved_name=SAVED,
        interpret=_platform() != "tpu",
    )


def _cudnn(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int,
) -> jax.Array:
    del keys, part  # the queries are those of all tokens
    return cudnn.cudnn_attention(q_BNTH, k_BKSH, v_BKSH, queries, window=window)


def _xla(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int | jax.Array,
    chunk: int,
) -> jax.Array:
    # The last part of a row sees all keys, and the others wait for it.
    first = part * q_BNTH.shape[2]
    return row_attention(
        *(q_BNTH, k_BKSH, v_BKSH, queries, keys), first=first, window=window, chunk=chunk
    )


def choose(
    kind: str,
    *,
    platform: str,
    dtype: jnp.dtype,
    head_dim: int,
    length: int,
    one_window: bool,
    blocks: splash.Blocks,
    parts: int = 1,
) -> str:
    """Return the implementation that computes packed rows, and log each choice once.

    Args:
      kind: What the configuration asks for; ``"auto"`` leaves it to this function.
      platform: Of the devices of the mesh: ``"tpu"``, ``"gpu"``, ``"cpu"``; empty without a mesh.
      dtype: Of queries, keys and values.
      head_dim: Size of a head.
      length: Tokens of a row.
      one_window: The layers share one window, or have none.
      blocks: Sizes for ``"splash"``.
      parts: Devices that share a row.

    Raises:
      ValueError: ``kind`` is a kernel that cannot compute this.
    """
    fits_cudnn = cudnn.fits(jnp.dtype(dtype), head_dim, length) and parts == 1
    fits_splash = splash.fits(length, parts, blocks)
    if kind in ("splash", "cudnn") and not one_window:
        raise ValueError(
            f"attention {kind!r} needs the same sliding window in all layers; set model.attention "
            "to 'chunked'"
        )
    if kind == "splash" and not fits_splash:
        raise ValueError(
            f"attention 'splash' cannot spread rows of {length} tokens over mesh axis "
            f"'sequence' of size {parts}: {length // parts} are no whole number of blocks; change "
            "the rows, model.splash or mesh.sequence, or set model.attention to 'chunked'"
        )
    if kind == "cudnn" and parts > 1:
        raise ValueError(
            "attention 'cudnn' cannot spread rows over mesh axis 'sequence'; set mesh.sequence to "
            "1, or model.attention to 'chunked'"
        )
    if kind == "cudnn" and not fits_cudnn:
        raise ValueError(
            f"attention 'cudnn' cannot train on rows of {length} tokens with {dtype} heads of "
            f"{head_dim}; set model.attention to 'auto', or model.dtype to 'bfloat16'"
        )
    chosen = kind
    if kind == "auto":
        chosen = "chunked"
        if platform == "tpu" and one_window and fits_splash:
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
