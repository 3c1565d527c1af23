"""A device runs out of memory: fewer items at once, the same numbers, one warning."""

import jax
import numpy as np
import pytest

from codegraph_jax.config import Config, DataConfig, ParallelConfig
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed.chunks import Chunks, is_out_of_memory
from tests.support.out_of_memory import FULL, out_of_memory_above, warnings
from tests.support.photos import drawn_parts
from tests.support.tiny_backbones import tiny_backbone

IMAGES = drawn_parts(8)
pytestmark = pytest.mark.usefixtures("tiny_presets")


def detector(devices=1, batch_size=4):
    backbone = tiny_backbone(batch_size=batch_size)
    return CoDeGraph(Config(data=DataConfig(), backbone=backbone, parallel=ParallelConfig(devices=devices)))


def tables(working):
    return np.stack(working.compare(IMAGES).tables)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("most", [2, 1])
def test_the_backbone_gets_fewer_images(caplog, devices, most):
    want, calls = tables(detector(devices)), []
    small = detector(devices)
    length = lambda images: images.shape[0 if devices == 1 else 1]  # noqa: E731
    # replaces the compiled program of the extractor
    vars(small.extractor)["compiled"] = out_of_memory_above(most, small.extractor.compiled, length, calls)
    got = tables(small)
    assert max(calls) == 4 and calls[-1] <= most
    # squared, since the square root magnifies the rounding near zero
    np.testing.assert_allclose(np.square(got), np.square(want), atol=2e-6)
    assert warnings(caplog) == ["a device is out of memory with 4 images at once; trying fewer"]


def test_late_out_of_memory_is_handled(caplog):
    """Some devices return at once and fail only when the result is needed."""

    class Late:
        def block_until_ready(self):
            raise FULL

        def __array__(self, dtype=None, copy=None):
            raise FULL

    blocks = Chunks("items", "do with less")
    assert blocks(lambda part: np.ones(part.stop - part.start) if part.stop - part.start < 4 else Late(), 8).sum() == 8
    assert blocks.size == 2 and caplog.text.count("out of memory") == 1


def test_other_failures_are_not_retried():
    def fail(part):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        Chunks("items", "")(fail, 8)
    assert not is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))
