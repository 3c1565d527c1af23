import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.scoring.maps import anomaly_maps
from tests.support import reference


@pytest.mark.parametrize("grid,size", [((5, 7), 40), ((16, 16), 224), ((2, 3), 2)])
def test_maps_interpolate_with_aligned_corners(grid, size):
    scores = np.random.default_rng(1).uniform(size=(3, *grid)).astype(np.float32)
    got = np.asarray(anomaly_maps(jnp.asarray(scores), size))
    np.testing.assert_allclose(got, np.stack([reference.upsample(s, size) for s in scores]), atol=1e-6)
    corners = np.ix_(range(3), (0, -1), (0, -1))
    np.testing.assert_allclose(got[corners], scores[corners], atol=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 1)])
def test_maps_of_a_single_row_or_column(grid):
    scores = np.arange(np.prod(grid), dtype=np.float32).reshape(1, *grid)
    got = np.asarray(anomaly_maps(jnp.asarray(scores), 8))
    assert got.shape == (1, 8, 8)
    np.testing.assert_allclose([got.min(), got.max()], [scores.min(), scores.max()], atol=1e-6)
