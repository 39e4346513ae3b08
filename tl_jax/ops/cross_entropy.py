"""Log-probability of each target token, and entropy, without whole logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tl_jax.ops.matmul import matmul
from tl_jax.parallel.sharding import constrain, cut


def token_logprobs(
    hidden_BTD: jax.Array,
    kernel_DV: jax.Array,
    targets_BT: jax.Array,
    *,
    chunk: int,
    temperature: float = 1.0,
    with_entropy: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return the log-probability of each target and the entropy of each prediction.

    The vocabulary is only ever materialised for ``chunk`` positions per row; the backward pass
    computes each chunk's logits again. Devices that share a row have a part of every chunk.

    Args:
      hidden_BTD: Final hidden states.
      kernel_DV: Output projection.
      targets_BT: int32 target ids.
      chunk: Positions per chunk; 0 means all at once.
      temperature: Divides the logits.
      with_entropy: If false, the entropy is returned as zeros and not computed.

    Returns:
      ``(logprobs_BT, entropy_BT)``, both float32.
    """

    def score(hidden_BCD: jax.Array, targets_BC: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits_BCV = matmul(hidden_BCD, kernel_DV, out_dtype="float32")
        logits_BCV = constrain(logits_BCV, "batch", "length", "act_vocab") / temperature
        log_norm_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
        target_BC = jnp.take_along_axis(logits_BCV, targets_BC[..., None], axis=-1)[..., 0]
        if not with_entropy:
            return target_BC - log_norm_BC, jnp.zeros_like(log_norm_BC)
        probs_BCV = jnp.exp(logits_BCV - log_norm_BC[..., None])
        entropy_BC = log_norm_BC - jnp.sum(probs_BCV * logits_BCV, axis=-1)
        return target_BC - log_norm_BC, entropy_BC

    B, T = targets_BT.shape
    kernel_DV = kernel_DV.astype(hidden_BTD.dtype)
    if chunk <= 0 or chunk >= T:
        return score(hidden_BTD, targets_BT)

    # Time is split, rows stay whole, and a chunk has tokens of every device along a row, so that it
    # is spread over the mesh like the batch.
    devices = cut("length")
    own = T // devices
    size = -(-chunk // devices)
    count = -(-own // size)

    def chunks(x: jax.Array) -> jax.Array:
        x = x.reshape(B, devices, own, -1)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - own), (0, 0)))
        x = x.reshape(B, devices, count, size, -1).transpose(2, 0, 1, 3, 4)
        return x.reshape(count, B, devices * size, -1)

    def joined(x: jax.Array) -> jax.Array:
        x = x.reshape(count, B, devices, size).transpose(1, 2, 0, 3)
        return x.reshape(B, devices, count * size)[:, :, :own].reshape(B, T)

    scorer = jax.checkpoint(score)
    xs = chunks(hidden_BTD), chunks(targets_BT)[..., 0]
    _, outputs = jax.lax.scan(lambda _, xs: (None, scorer(*xs)), None, xs)
    logprobs_BT, entropy_BT = map(joined, outputs)
    return logprobs_BT, entropy_BT
