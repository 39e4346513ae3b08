"""Log-probability of each target token, and entropy, without whole logits."""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from tl_jax.ops.matmul import matmul
from tl_jax.parallel.sharding import constrain, cut

Scores = tuple[jax.Array, jax.Array]


def token_logprobs(
    hidden_BTD: jax.Array,
    kernel_DV: jax.Array,
    targets_BT: jax.Array,
    counted_BT: jax.Array,
    *,
    chunk: int,
    temperature: float = 1.0,
    with_entropy: bool = True,
) -> Scores:
    """Return the log-probability of each target and the entropy of each prediction.

    The vocabulary is only ever materialised for ``chunk`` positions per row; the backward pass
    computes each chunk's logits again. The positions of a row that count come first, and a chunk
    where no row has one left is not computed: of tool calls few tokens are trained. Devices that
    share a row have a part of every chunk.

    Args:
      hidden_BTD: Final hidden states.
      kernel_DV: Output projection.
      targets_BT: int32 target ids.
      counted_BT: Not 0 where somebody asks; elsewhere both results are 0.
      chunk: Positions per chunk; 0 means all at once.
      temperature: Divides the logits.
      with_entropy: If false, the entropy is returned as zeros and not computed.

    Returns:
      ``(logprobs_BT, entropy_BT)``, both float32.
    """
    B, T = targets_BT.shape
    counted_BT = counted_BT != 0
    kernel_DV = kernel_DV.astype(hidden_BTD.dtype)
    if chunk <= 0 or chunk >= T:
        found = _score(hidden_BTD, kernel_DV, targets_BT, None, temperature, with_entropy)
        return jnp.where(counted_BT, found[0], 0), jnp.where(counted_BT, found[1], 0)

    # Time is split, rows stay whole, and a chunk has tokens of every device along a row, so that it
    # is spread over the mesh like the batch.
    devices = cut("length")
    own = T // devices
    size = -(-chunk // devices)
    count = -(-own // size)
    order = jnp.argsort(~counted_BT.reshape(B, devices, own), axis=-1)
    back = jnp.argsort(order, axis=-1)

    def chunks(x: jax.Array) -> jax.Array:
        x = _permuted(x.reshape(B, devices, own, -1), order, back)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - own), (0, 0)))
        x = x.reshape(B, devices, count, size, -1).transpose(2, 0, 1, 3, 4)
        return x.reshape(count, B, devices * size, -1)

    def joined(x: jax.Array) -> jax.Array:
        x = x.reshape(count, B, devices, size).transpose(1, 2, 0, 3)
        x = x.reshape(B, devices, count * size, 1)[:, :, :own]
        return jnp.where(counted_BT, _permuted(x, back, order).reshape(B, T), 0)

    def body(_: None, xs: tuple[jax.Array, ...]) -> tuple[None, Scores]:
        hidden_BCD, targets_BC1, counts = xs
        targets_BC = targets_BC1[..., 0]
        return None, _score(hidden_BCD, kernel_DV, targets_BC, counts, temperature, with_entropy)

    # Together, because devices then agree about chunks when they have hidden states, not before: on
    # the CPU a collective operation that waits for nothing can hold the threads that others need.
    both = jnp.concatenate([hidden_BTD, counted_BT[..., None].astype(hidden_BTD.dtype)], axis=-1)
    both = chunks(both)
    counts = jnp.any(both[..., -1] > 0, axis=(1, 2))
    _, outputs = jax.lax.scan(body, None, (both[..., :-1], chunks(targets_BT), counts))
    logprobs_BT, entropy_BT = map(joined, outputs)
    return logprobs_BT, entropy_BT


@jax.custom_vjp
def _permuted(x: jax.Array, order: jax.Array, back: jax.Array) -> jax.Array:
    """Return ``x[b, p, order[b, p, t]]``; ``back`` undoes ``order``, so that no pass scatters."""
    return jnp.take_along_axis(x, order[..., None], axis=2)


_permuted.defvjp(
    lambda x, order, back: (_permuted(x, order, back), (order, back)),
    lambda orders, grad: (_permuted(grad, *orders[::-1]), None, None),
)


def _scored(
    hidden_BCD: jax.Array,
    kernel_DV: jax.Array,
    targets_BC: jax.Array,
    counts: jax.Array | None,
    temperature: float,
    with_entropy: bool,
) -> Scores:
    """Return both results for a chunk; where ``counts`` is false, zeros without a computation."""
    found = _computed(hidden_BCD, kernel_DV, targets_BC, counts, temperature, with_entropy)
    return found[0], found[1]


def _if_counted(counts: jax.Array | None, compute: Any, *operands: jax.Array) -> Any:
    if counts is None:
        return compute(*operands)
    shapes = jax.eval_shape(compute, *operands)
    nothing = lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)  # noqa: E731
    return jax.lax.cond(counts, compute, nothing, *operands)


def _logits(hidden_BCD: jax.Array, kernel_DV: jax.Array, temperature: float) -> jax.Array:
    logits_BCV = matmul(hidden_BCD, kernel_DV, out_dtype="float32")
    return constrain(logits_BCV, "batch", "length", "act_vocab") / temperature


def _computed(
    hidden_BCD: jax.Array,
    kernel_DV: jax.Array,
    targets_BC: jax.Array,
    counts: jax.Array | None,
    temperature: float,
    with_entropy: bool,
) -> tuple[jax.Array, ...]:
    """Return log-probability, entropy, and what the gradient needs: norm and mean of the logits."""

    def compute(
        hidden_BCD: jax.Array, kernel_DV: jax.Array, targets_BC: jax.Array
    ) -> tuple[jax.Array, ...]:
        logits_BCV = _logits(hidden_BCD, kernel_DV, temperature)
        log_norm_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
        target_BC = jnp.take_along_axis(logits_BCV, targets_BC[..., None], axis=-1)[..., 0]
        mean_BC = entropy_BC = jnp.zeros_like(log_norm_BC)
        if with_entropy:
            probs_BCV = jnp.exp(logits_BCV - log_norm_BC[..., None])
            mean_BC = jnp.sum(probs_BCV * logits_BCV, axis=-1)
            entropy_BC = log_norm_BC - mean_BC
        return target_BC - log_norm_BC, entropy_BC, log_norm_BC, mean_BC

    return _if_counted(counts, compute, hidden_BCD, kernel_DV, targets_BC)


def _forward(
    hidden_BCD: Any, kernel_DV: Any, targets_BC: Any, counts: Any, *settings: Any
) -> tuple[Scores, Any]:
    operands: list[Any] = [
        x if x is None else x.value for x in (hidden_BCD, kernel_DV, targets_BC, counts)
    ]
    logprob_BC, entropy_BC, *norms = _computed(*operands, *settings)
    # The structure says whether the kernel is trained.
    trained = () if kernel_DV.perturbed else None
    return (logprob_BC, entropy_BC), (trained, *operands, *norms)


def _backward(
    temperature: float, with_entropy: bool, residuals: Any, grads: tuple[Any, Any]
) -> tuple[Any, ...]:
    """Return the gradients; the logits ``z`` are computed again, for a frozen kernel no more.

    With ``p = softmax(z)``, the log-probability of target ``t`` has the gradient ``1[t] - p``, the
    entropy ``-p (z - sum(p z))``. Products take them in the type of the hidden states, as those of
    the forward pass do: a product of bfloat16 and float32 is one of float32, several times slower.
    """
    trained, hidden_BCD, kernel_DV, targets_BC, counts, *norms = residuals
    # The annotations of a symbolic zero make a method of its type.
    known = [
        jnp.zeros(x.shape, cast(Any, x.dtype)) if isinstance(x, SymbolicZero) else x for x in grads
    ]

    def compute(
        hidden_BCD: jax.Array,
        kernel_DV: jax.Array,
        targets_BC: jax.Array,
        *tokens: jax.Array,
    ) -> tuple[jax.Array, ...]:
        log_norm_BC1, mean_BC1, logprob_BC1, entropy_BC1 = (x[..., None] for x in tokens)
        logits_BCV = _logits(hidden_BCD, kernel_DV, temperature)
        probs_BCV = jnp.exp(logits_BCV - log_norm_BC1)
        # A comparison is part of one pass over the logits, where a scatter would be a second one.
        is_target_BCV = jnp.arange(kernel_DV.shape[1]) == targets_BC[..., None]
        grad_BCV = logprob_BC1 * (is_target_BCV - probs_BCV)
        if with_entropy:
            grad_BCV -= entropy_BC1 * probs_BCV * (logits_BCV - mean_BC1)
        grad_BCV = (grad_BCV / temperature).astype(hidden_BCD.dtype)
        grad_BCV = constrain(grad_BCV, "batch", "length", "act_vocab")
        grad_BCD = matmul(grad_BCV, kernel_DV.T)
        if trained is None:
            return (grad_BCD,)
        transposed = jax.linear_transpose(functools.partial(matmul, hidden_BCD), kernel_DV)
        return grad_BCD, *transposed(grad_BCV)

    operands = hidden_BCD, kernel_DV, targets_BC, *norms, *known
    grad_BCD, *kernels = _if_counted(counts, compute, *operands)
    return grad_BCD, kernels[0] if kernels else None, None, None


_score = jax.custom_vjp(_scored, nondiff_argnums=(4, 5))
_score.defvjp(_forward, _backward, symbolic_zeros=True)
