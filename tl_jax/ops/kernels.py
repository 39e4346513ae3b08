"""Which attention computes the rows of a batch: XLA's own, or a kernel for the devices at hand."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp

from tl_jax.ops import cudnn, splash
from tl_jax.ops.attention import SAVED, Row, is_limited, row_attention
from tl_jax.ops.block_attention import BLOCK, block_attention
from tl_jax.ops.seen_blocks import Facts
from tl_jax.ops.spread import spread
from tl_jax.ops.tree_kernel import tree_attention
from tl_jax.parallel.sharding import cut

logger = logging.getLogger(__name__)


def attend(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    row: Row[jax.Array],
    *,
    kind: str,
    blocks: splash.Blocks,
    window: int | jax.Array = 0,
) -> jax.Array:
    """Attend as ``ops.attention`` does, by the implementation called ``kind``.

    Where devices share a row each has its own queries and gathers the keys and values of all.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKSH: Keys; N is a multiple of K.
      v_BKSH: Values.
      row: Of the tokens, which are queries and keys.
      kind: ``"chunked"`` or ``"dense"`` (XLA), ``"tree"`` or ``"splash"`` (a TPU, or step by step
        elsewhere), ``"cudnn"`` (an NVIDIA GPU), or ``"auto"``: what fits the devices of the mesh in
        context. ``"splash"`` computes plain rows only (``takes_trees``).
      blocks: Sizes for ``"tree"`` and ``"splash"``.
      window: Positions a query sees, its own included; 0 means all. ``"splash"`` and ``"cudnn"``
        need a plain number.

    Raises:
      ValueError: A kernel was asked for by name and cannot do this, or rows, heads or tokens
        cannot be spread over the mesh.
    """
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
    elif chosen == "tree":
        kernel = functools.partial(_tree, window=window, blocks=blocks)
    elif chosen == "chunked" and q_BNTH.shape[2] > BLOCK * cut("length"):
        kernel = functools.partial(_blocks, window=window)
    else:
        kernel = functools.partial(_dense, window=window)
    # The compiler itself spreads rows and heads of what it knows.
    if jax.sharding.get_abstract_mesh().size <= 1 or (kernel.func is _dense and cut("length") == 1):
        return kernel(q_BNTH, k_BKSH, v_BKSH, row, row, 0)
    return spread(kernel, q_BNTH, k_BKSH, v_BKSH, row)


def takes_trees(kind: str) -> bool:
    """Whether an attention that the configuration names computes rows of prefix trees."""
    return kind != "splash"


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


def _tree(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int | jax.Array,
    blocks: splash.Blocks,
) -> jax.Array:
    return tree_attention(
        *(q_BNTH, k_BKSH, v_BKSH, _facts(queries, keys, part, window)),
        blocks=blocks,
        saved_name=SAVED,
        interpret=_platform() != "tpu",
    )


def _blocks(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int | jax.Array,
) -> jax.Array:
    facts = _facts(queries, keys, part, window)
    return block_attention(q_BNTH, k_BKSH, v_BKSH, facts, saved_name=SAVED)


def _dense(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    part: jax.Array | int,
    *,
    window: int | jax.Array,
) -> jax.Array:
    first = part * q_BNTH.shape[2]
    return row_attention(q_BNTH, k_BKSH, v_BKSH, queries, keys, first=first, window=window)


def _facts(
    queries: Row[jax.Array], keys: Row[jax.Array], part: jax.Array | int, window: int | jax.Array
) -> Facts:
    return Facts(
        queries.positions,
        keys.positions,
        keys.visible_until,
        jnp.asarray(part * queries.positions.shape[1], jnp.int32),
        jnp.asarray(window, jnp.int32) if is_limited(window) else None,
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
      blocks: Sizes for ``"tree"`` and ``"splash"``.
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
    chosen, why = kind, ""
    if kind == "auto":
        chosen = "chunked"
        if platform == "tpu":
            # It skips the other texts of a plain row, too, which splash reads and masks.
            chosen = "tree"
        elif platform == "gpu" and one_window and fits_cudnn:
            chosen = "cudnn"
            why = f", with a mask of {2 * length**2 / 2**20:.0f} MiB where a row has several texts"
        elif platform == "gpu":
            such = f"rows of {length} tokens with {dtype} heads of {head_dim}"
            such = such if one_window else "windows that differ from layer to layer"
            why = f", as cuDNN does not take {such} here"
    _log(kind, chosen, platform, why)
    return chosen


@functools.lru_cache(maxsize=64)
def _log(kind: str, chosen: str, platform: str, why: str) -> None:
    where = platform or "devices without a mesh"
    logger.info("attention %r on %s: %s%s", kind, where, chosen, why)


def _platform() -> str:
    """Return what the mesh in context consists of; it need not be this machine's own devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return "" if device is None else device.platform
