"""The kernel equals `direct` in Mosaic GPU's interpreter, which finds races, and lowers for Hopper without a device."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from codegraph_jax.similarity import fused_gpu
from codegraph_jax.similarity.kernels import pick_kernel
from tests.similarity.tokens import BOUNDS, assert_maxima, draw, expected, table, unit_vectors


@pytest.mark.parametrize("p,c", [(200, 320), pytest.param(264, 64, marks=pytest.mark.slow)])
def test_maxima_are_exact_with_overlapping_blocks_and_reused_buffers(p, c):
    vectors = unit_vectors(3, p, c, dtype=jnp.bfloat16)
    first, second = jnp.array([2]), jnp.array([1])
    rows, columns = fused_gpu.pair_maxima(vectors, vectors, first, second, emulate=True)
    assert_maxima(rows, columns, vectors, first, second)


def test_padding_never_wins():
    # all true cosines are negative, so that a zero from the padding would be the greatest
    left = -jnp.broadcast_to(jnp.eye(8)[0], (1, 35, 8)).astype(jnp.bfloat16)
    vectors, others = fused_gpu.pad_vectors(left), fused_gpu.pad_vectors(-left)
    assert vectors.shape == (1, 128, 64)
    rows, columns = fused_gpu.pair_maxima(vectors, others, jnp.array([0]), jnp.array([0]), emulate=True)
    np.testing.assert_array_equal(rows, -1.0)
    np.testing.assert_array_equal(columns, -1.0)


def test_distances_stay_within_the_stated_bound_and_near_direct():
    tokens, degrees = draw(2, c=48), (1, 3)
    off = ~np.eye(2, dtype=bool)
    squares = np.square(table(tokens, "fused_gpu", "bfloat16", degrees=degrees)[:, off].astype(np.float64))
    assert np.abs(squares - np.square(expected(tokens, degrees=degrees)[:, off])).max() <= BOUNDS["bfloat16"]
    # the same operands, so only the order of the sums differs
    direct = table(tokens, "direct", "bfloat16", degrees=degrees)[:, off]
    np.testing.assert_allclose(squares, np.square(direct), atol=2e-6)


@pytest.mark.parametrize("p,columns", [(128, 128), (256, 256), (1024, 256), (1376, 232)])
def test_blocks_cover_the_image_with_little_to_spare(p, columns):
    assert fused_gpu.block_columns(p) == columns


@pytest.mark.parametrize("p,c", [(256, 384), (1376, 1024)])
def test_the_kernel_lowers_for_hopper(p, c):
    vectors = jax.ShapeDtypeStruct((4, p, c), jnp.bfloat16)
    pairs = jax.ShapeDtypeStruct((6,), jnp.int32)
    # JAX does not guarantee the form of this call for stored programs; this one is not stored
    unchecked = [export.DisabledSafetyCheck.custom_call("mosaic_gpu_v2")]
    exported = export.export(jax.jit(fused_gpu.pair_maxima), platforms=["cuda"], disabled_checks=unchecked)
    assert "mosaic_gpu" in exported(vectors, vectors, pairs, pairs).mlir_module()


@pytest.mark.parametrize(
    "capability,precision,kernel",
    [("9.0", "bfloat16", "fused_gpu"), ("10.0", "bfloat16", "fused_gpu"), ("8.9", "bfloat16", "direct"),
     ("9.0", "float32", "direct"), ("9.0", "tf32", "direct")],
)  # fmt: skip
def test_only_hopper_and_newer_in_bfloat16_take_it(monkeypatch, caplog, capability, precision, kernel):
    gpu = SimpleNamespace(platform="gpu", compute_capability=capability, device_kind="a GPU")
    monkeypatch.setattr(jax, "devices", lambda: [gpu])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert pick_kernel("fused", precision) == kernel
    assert ("config.similarity.kernel" in caplog.text) == (kernel == "direct")
    assert pick_kernel("auto", precision) == "direct"
