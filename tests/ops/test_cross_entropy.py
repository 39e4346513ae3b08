"""Log-probabilities, their gradient and entropy against numpy, whatever the chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tl_jax.ops.cross_entropy import token_logprobs

B, T, D, V = 2, 7, 5, 11
ALL = np.ones((B, T))


def inputs():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(B, T, D)).astype(np.float32)
    kernel = rng.normal(size=(D, V)).astype(np.float32)
    return hidden, kernel, rng.integers(0, V, (B, T)), rng.choice([0.0, 1.0, 9.0], (B, T))


def by_hand(hidden, kernel, targets, temperature=1.0):
    logits = hidden.astype(np.float64) @ kernel / temperature
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    entropy = -(np.exp(logits) * logits).sum(-1)
    return np.take_along_axis(logits, targets[..., None], -1)[..., 0], entropy


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [0, 1, 3, 7, 100])
def test_logprobs_and_entropy_equal_numpy(chunk, temperature):
    hidden, kernel, targets, _ = inputs()
    found = token_logprobs(hidden, kernel, targets, ALL, chunk=chunk, temperature=temperature)
    expected = by_hand(hidden, kernel, targets, temperature)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_entropy_that_nobody_asked_for_is_zero_and_the_rest_is_the_same():
    hidden, kernel, targets, _ = inputs()
    logprobs, entropy = token_logprobs(hidden, kernel, targets, ALL, chunk=3, with_entropy=False)
    np.testing.assert_allclose(logprobs, by_hand(hidden, kernel, targets)[0], atol=1e-5)
    np.testing.assert_array_equal(entropy, np.zeros((B, T)))


def weighted_loss(hidden, kernel, targets, weights, chunk):
    logprobs, _ = token_logprobs(hidden, kernel, targets, weights, chunk=chunk, with_entropy=False)
    return -jnp.sum(logprobs * weights)


def test_gradients_do_not_depend_on_the_chunk():
    hidden, kernel, targets, weights = inputs()

    def grads(chunk):
        def loss(h, k):
            return weighted_loss(h, k, targets, weights, chunk)

        return jax.grad(loss, argnums=(0, 1))(hidden, kernel)

    # d loss / d hidden by hand: weight * kernel (softmax - onehot).
    logits = hidden @ kernel
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    by_rule = (weights[..., None] * (probs - np.eye(V)[targets])) @ kernel.T
    for chunk in (0, 3):
        found = grads(chunk)
        np.testing.assert_allclose(found[0], by_rule, atol=1e-4)
    for whole, chunked in zip(grads(0), grads(3), strict=True):
        np.testing.assert_allclose(whole, chunked, atol=1e-4)


def test_chunks_keep_logits_of_all_positions_out_of_the_program():
    hidden, kernel, targets, weights = inputs()

    def largest(chunk):
        def loss(h, k):
            return weighted_loss(h, k, targets, weights, chunk)

        program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(hidden, kernel)
        made = [out.aval.shape for x in equations(program.jaxpr) for out in x.outvars]
        return max(int(np.prod(shape)) for shape in made if len(shape) > 2 and shape[-1] == V)

    assert largest(0) == B * T * V
    assert largest(3) == B * 3 * V


def test_half_precision_hidden_states_are_scored_in_float32():
    hidden, kernel, targets, _ = inputs()
    low = jnp.asarray(hidden, jnp.bfloat16)
    found = token_logprobs(low, kernel, targets, ALL, chunk=3)
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in (hidden, kernel)]
    for a, b in zip(found, by_hand(*rounded, targets), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_logits_of_a_large_vocabulary_are_only_there_for_a_chunk():
    """Neither pass of 4096 positions makes an array of more numbers than the projection has."""
    rows, length, width, vocab, chunk = 1, 4096, 128, 128256, 64
    shapes = ((rows, length, width), (width, vocab), (rows, length), (rows, length))
    types = (np.float32, np.float32, np.int32, np.float32)
    arrays = [jax.ShapeDtypeStruct(*pair) for pair in zip(shapes, types, strict=True)]

    def largest(chunk):
        def loss(hidden, kernel, targets, weights):
            return weighted_loss(hidden, kernel, targets, weights, chunk)

        program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*arrays)
        made = (out for equation in equations(program.jaxpr) for out in equation.outvars)
        return max(int(np.prod(out.aval.shape)) for out in made)

    assert largest(chunk) == width * vocab
    assert largest(0) == rows * length * vocab


def equations(jaxpr):
    """All that a program computes, within its loops too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from equations(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("chunk", [0, 3])
def test_the_gradient_of_the_entropy_equals_finite_differences(chunk):
    hidden, kernel, targets, weights = inputs()

    def loss(hidden, kernel):
        logprobs, entropy = token_logprobs(
            hidden, kernel, targets, weights, chunk=chunk, temperature=0.7
        )
        return jnp.sum((logprobs + 2 * entropy) * weights)

    check_grads(loss, (hidden, kernel), order=1, modes=["rev"], rtol=2e-2)


def test_products_of_the_backward_pass_are_of_the_type_of_the_hidden_states():
    """A product that one float32 operand makes float32 takes several times as long."""
    hidden, kernel, targets, weights = inputs()
    hidden = hidden.astype(jnp.bfloat16)
    gradient = jax.grad(weighted_loss, argnums=(0, 1))
    closed = jax.make_jaxpr(gradient, static_argnums=4)(hidden, kernel, targets, weights, 3)
    products = [x for x in equations(closed.jaxpr) if x.primitive.name == "dot_general"]
    assert len(products) == 4
    assert {var.aval.dtype for product in products for var in product.invars} == {
        jnp.dtype("bfloat16")
    }


@pytest.mark.parametrize("chunk", [0, 2, 3])
def test_what_nobody_asks_for_is_zero_and_changes_nothing(chunk):
    """Values and gradients are those of a row whose every position counts, weighted the same."""
    hidden, kernel, targets, _ = inputs()
    counted = np.array([[0, 0, 1, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0]])

    def loss(hidden, kernel, counted_BT):
        logprobs, entropy = token_logprobs(hidden, kernel, targets, counted_BT, chunk=chunk)
        total = jnp.sum((logprobs + 2 * entropy) * counted * np.arange(1, 8))
        return total, (logprobs, entropy)

    gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (few, found), few_grads = gradient(hidden, kernel, counted)
    (every, expected), grads = gradient(hidden, kernel, ALL)
    np.testing.assert_allclose(few, every, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), few_grads, grads)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, np.where(counted, b, 0), atol=1e-5)


def test_a_chunk_without_positions_that_count_is_not_computed():
    """NaN that nobody asks for stays where it is, unless its chunk is computed."""
    hidden, kernel, targets, _ = inputs()
    hidden[:, 3:] = np.nan
    counted = np.arange(T) < 3

    def loss(hidden, kernel, chunk):
        logprobs, _ = token_logprobs(
            *(hidden, kernel, targets, np.broadcast_to(counted, (B, T))), chunk=chunk
        )
        return jnp.sum(logprobs)

    gradient = jax.grad(loss, argnums=(0, 1))
    for found in gradient(hidden, kernel, 3):
        assert np.isfinite(found).all()
    assert np.isnan(gradient(hidden, kernel, 4)[1]).any()
