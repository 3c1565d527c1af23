import ml_dtypes
import numpy as np
import pytest

from codegraph_jax.features.stores import FeatureBuffer


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_buffer_gives_back_what_it_took(dtype):
    buffer = FeatureBuffer((6, 3, 4), 2, dtype)
    layer = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(dtype)
    for places in ([4, 5], [0], [2]):
        buffer.add(np.array(places), [layer[places], -layer[places]])
    joined = buffer.joined(np.array([0, 2, 4, 5]))
    assert joined[1].dtype == dtype
    np.testing.assert_array_equal(joined[1], -layer[[0, 2, 4, 5]])
