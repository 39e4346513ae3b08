"""Log-probability of each target token, and entropy, without whole logits."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.ops.matmul import matmul
from tl_jax.parallel.sharding import constrain, cut

Scores = tuple[jax.Array, jax.Array]


def token_logprobs(
    hidden_BTD: jax.Array,
    kernel_DV: jax.Array,
    targets_BT: jax.Array,
    *,
    chunk: int,
    temperature: float = 1.0,
    with_entropy: bool = True,
) -> Scores:
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
    B, T = targets_BT.shape
    kernel_DV = kernel_DV.astype(hidden_BTD.dtype)
    if chunk <= 0 or chunk >= T:
        return _score(hidden_BTD, kernel_DV, targets_BT, temperature, with_entropy)

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

    def body(_: None, xs: tuple[jax.Array, jax.Array]) -> tuple[None, Scores]:
        hidden_BCD, targets_BC1 = xs
        targets_BC = targets_BC1[..., 0]
        return None, _score(hidden_BCD, kernel_DV, targets_BC, temperature, with_entropy)

    _, outputs = jax.lax.scan(body, None, (chunks(hidden_BTD), chunks(targets_BT)))
    logprobs_BT, entropy_BT = map(joined, outputs)
    return logprobs_BT, entropy_BT


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _score(
    hidden_BCD: jax.Array,
    kernel_DV: jax.Array,
    targets_BC: jax.Array,
    temperature: float,
    with_entropy: bool,
) -> Scores:
    return _forward(hidden_BCD, kernel_DV, targets_BC, temperature, with_entropy)[0]


def _logits(hidden_BCD: jax.Array, kernel_DV: jax.Array, temperature: float) -> jax.Array:
    logits_BCV = matmul(hidden_BCD, kernel_DV, out_dtype="float32")
    return constrain(logits_BCV, "batch", "length", "act_vocab") / temperature


def _forward(
    hidden_BCD: jax.Array,
    kernel_DV: jax.Array,
    targets_BC: jax.Array,
    temperature: float,
    with_entropy: bool,
) -> tuple[Scores, Any]:
    logits_BCV = _logits(hidden_BCD, kernel_DV, temperature)
    log_norm_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
    target_BC = jnp.take_along_axis(logits_BCV, targets_BC[..., None], axis=-1)[..., 0]
    mean_BC = entropy_BC = jnp.zeros_like(log_norm_BC)
    if with_entropy:
        probs_BCV = jnp.exp(logits_BCV - log_norm_BC[..., None])
        mean_BC = jnp.sum(probs_BCV * logits_BCV, axis=-1)
        entropy_BC = log_norm_BC - mean_BC
    residuals = hidden_BCD, kernel_DV, targets_BC, log_norm_BC, mean_BC
    return (target_BC - log_norm_BC, entropy_BC), residuals


def _backward(
    temperature: float, with_entropy: bool, residuals: Any, grads: Scores
) -> tuple[Any, ...]:
    """Return the gradients; the logits ``z`` are computed again.

    With ``p = softmax(z)``, the log-probability of target ``t`` has the gradient ``1[t] - p``, the
    entropy ``-p (z - sum(p z))``. Products take them in the type of the hidden states, as those of
    the forward pass do: a product of bfloat16 and float32 is one of float32, several times slower.
    """
    hidden_BCD, kernel_DV, targets_BC, log_norm_BC, mean_BC = residuals
    logprob_BC1, entropy_BC1 = (grad[..., None] for grad in grads)
    logits_BCV = _logits(hidden_BCD, kernel_DV, temperature)
    probs_BCV = jnp.exp(logits_BCV - log_norm_BC[..., None])
    # A comparison is part of one pass over the logits, where a scatter would be a second one.
    is_target_BCV = jnp.arange(kernel_DV.shape[1]) == targets_BC[..., None]
    grad_BCV = logprob_BC1 * (is_target_BCV - probs_BCV)
    if with_entropy:
        grad_BCV -= entropy_BC1 * probs_BCV * (logits_BCV - mean_BC[..., None])
    grad_BCV = (grad_BCV / temperature).astype(hidden_BCD.dtype)
    grad_BCV = constrain(grad_BCV, "batch", "length", "act_vocab")
    grad_BCD = matmul(grad_BCV, kernel_DV.T)
    transposed = jax.linear_transpose(functools.partial(matmul, hidden_BCD), kernel_DV)
    return grad_BCD, *transposed(grad_BCV), None


_score.defvjp(_forward, _backward)
