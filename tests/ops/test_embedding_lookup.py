"""Rows of a table: the same rows and gradients as plain indexing, added in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.ops.lookup import look_up

IDS = jnp.concatenate([jnp.zeros(1023, jnp.int32), jnp.array([3, 1, 3])]).reshape(2, 513)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_rows_are_those_of_the_table_and_gradients_are_sums_over_their_places(kind):
    table_VD = jnp.arange(12, dtype=kind).reshape(4, 3)
    weights = jnp.ones((*IDS.shape, 3), kind).at[1, -1].set(0.5)

    def loss(table_VD):
        rows = look_up(table_VD, IDS)
        return (rows * weights).astype(jnp.float32).sum(), rows

    (_, rows), grads_VD = jax.jit(jax.value_and_grad(loss, has_aux=True))(table_VD)
    np.testing.assert_array_equal(rows, table_VD[IDS])
    assert rows.dtype == grads_VD.dtype == kind
    # 1,023 in bfloat16 is 1,024; added one by one it would stop at 256.
    expected_V = jnp.array([1023, 1, 0, 1.5]).astype(kind)
    np.testing.assert_array_equal(grads_VD, np.tile(expected_V[:, None], 3))
