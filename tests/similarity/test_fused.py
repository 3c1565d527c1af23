import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from codegraph_jax.similarity import fused
from codegraph_jax.similarity.kernels import pick_kernel
from tests.similarity.tokens import BOUNDS, assert_maxima, draw, expected, table, unit_vectors


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 40), st.sampled_from([8, 16]), st.integers(0, 10**6))
def test_maxima_are_exact_for_any_number_of_patches(p, block, seed):
    vectors = unit_vectors(3, p, 12, seed)
    first, second = jnp.array([0, 0, 1, 2]), jnp.array([1, 2, 2, 0])
    rows, columns = fused.pair_maxima(vectors, vectors, first, second, lax.Precision.HIGHEST, True, block)
    assert_maxima(rows, columns, vectors, first, second)


def test_patches_beyond_the_image_never_win():
    # all true cosines are negative, so that a zero or an old number from the padding would be the maximum
    left = -unit_vectors(1, 11, 8, 1).at[...].set(jnp.eye(8)[0])
    right = jnp.broadcast_to(jnp.eye(8)[0], (1, 11, 8))
    rows, columns = fused.pair_maxima(left, right, jnp.array([0]), jnp.array([0]), lax.Precision.HIGHEST, True, 8)
    np.testing.assert_array_equal(rows, -1.0)
    np.testing.assert_array_equal(columns, -1.0)


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("kernel", ["fused", "direct"])
def test_distances_stay_within_the_stated_bound(kernel, precision):
    tokens = draw(4, c=48)
    off = ~np.eye(4, dtype=bool)
    squares = np.square(table(tokens, kernel, precision)[:, off].astype(np.float64))
    assert np.abs(squares - np.square(expected(tokens)[:, off])).max() <= BOUNDS[precision]


def test_direct_and_fused_kernels_agree():
    tokens = draw(4)
    np.testing.assert_allclose(table(tokens, "fused") ** 2, table(tokens, "direct") ** 2, atol=2e-6)


@pytest.mark.parametrize("precision,dtype", [("HIGHEST", jnp.float32), ("DEFAULT", jnp.bfloat16)])
def test_the_kernel_lowers_for_tpu(precision, dtype):
    vectors = jax.ShapeDtypeStruct((4, 1369, 1024), dtype)
    pairs = jax.ShapeDtypeStruct((6,), jnp.int32)

    def run(left, right, first, second):
        return fused.pair_maxima(left, right, first, second, lax.Precision[precision])

    lowered = export.export(jax.jit(run), platforms=["tpu"])(vectors, vectors, pairs, pairs)
    assert "tpu_custom_call" in lowered.mlir_module()


def test_platforms_without_it_take_the_plain_form(caplog):
    assert pick_kernel("fused", "float32") == "direct"
    assert "config.similarity.kernel" in caplog.text
