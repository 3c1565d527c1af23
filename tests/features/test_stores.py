import ml_dtypes
import numpy as np
import pytest

from codegraph_jax.features.stores import FeatureBuffer


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_buffer_returns_the_stored_values(dtype):
    buffer = FeatureBuffer((6, 3, 4), 2, dtype)
    layer = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(dtype)
    for places in ([4, 5], [0], [2]):
        buffer.add(np.array(places), [layer[places], -layer[places]])
    joined = buffer.keep(np.array([0, 2, 4, 5]))
    assert joined[1].dtype == dtype
    np.testing.assert_array_equal(joined[1], -layer[[0, 2, 4, 5]])


def test_only_the_photos_of_a_padded_batch_are_copied_from_the_device():
    class OnDevice:
        """A batch that cannot be copied as a whole."""

        def __getitem__(self, images):
            return np.arange(8 * 12, dtype=np.float32).reshape(8, 3, 4)[images]

    buffer = FeatureBuffer((1, 3, 4), 1, np.float32)
    buffer.add(np.array([0]), [OnDevice()])
    np.testing.assert_array_equal(buffer.keep(np.array([0]))[0].ravel(), np.arange(12))
