"""A device that runs out of memory: fewer items at once, the same numbers, one warning."""

import jax
import numpy as np
import pytest

from codegraph_jax.backbones import PRESETS
from codegraph_jax.config import BackboneConfig, Config, DataConfig, ParallelConfig
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed.chunks import Chunks, OutOfMemory, is_out_of_memory
from codegraph_jax.similarity import pairwise, sharding
from codegraph_jax.similarity.tiles import TileOptions
from tests.backbones.tiny import GOLDEN, TINY

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")
IMAGES = list(draw_set(n=8, size=64, seed=0, one_off=0.2, recurring=(0.25,)).images)


def detector(monkeypatch, devices=1, batch_size=4):
    monkeypatch.setitem(PRESETS, "tiny", TINY["dinov2"])
    backbone = BackboneConfig(
        name="tiny", image_size=20, weights=str(GOLDEN / "dinov2.safetensors"), batch_size=batch_size
    )
    pairwise.pair_chunks.cache_clear()
    return CoDeGraph(Config(data=DataConfig(workers=1), backbone=backbone, parallel=ParallelConfig(devices=devices)))


def limited(function, length, most, calls):
    """`function`, which fails where `length` of its arguments exceeds `most`."""

    def call(*arguments):
        size = length(*arguments)
        calls.append(size)
        if size > most:
            raise FULL
        return function(*arguments)

    return call


@pytest.fixture(autouse=True)
def forget():
    """What one test has taught must not reach the others."""
    yield
    pairwise.pair_chunks.cache_clear()
    pairwise.layers_at_once.cache_clear()


def tables(working):
    return np.stack(working.compare(IMAGES).tables)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("most", [2, 1])
def test_the_backbone_takes_fewer_images(monkeypatch, caplog, devices, most):
    want, calls = tables(detector(monkeypatch, devices)), []
    small = detector(monkeypatch, devices)
    length = lambda images: images.shape[0 if devices == 1 else 1]  # noqa: E731
    # in the place of what the extractor would compile
    vars(small.extractor)["compiled"] = limited(small.extractor.compiled, length, most, calls)
    got = tables(small)
    assert max(calls) == 4 and calls[-1] <= most
    # squared: the root magnifies the rounding near zero
    np.testing.assert_allclose(np.square(got), np.square(want), atol=2e-6)
    assert warnings(caplog) == ["a device is out of memory with 4 images at once; trying fewer"]


@pytest.mark.parametrize("most", [20, 1])
def test_the_kernel_takes_fewer_pairs(monkeypatch, caplog, most):
    want, calls = tables(detector(monkeypatch)), []
    compute = limited(pairwise.pair_distances, lambda a, b, first, second, options: len(first), most, calls)
    monkeypatch.setattr(pairwise, "pair_distances", compute)
    got = tables(detector(monkeypatch))
    assert max(calls) == 28 and calls[-1] <= most
    np.testing.assert_array_equal(got, want)
    assert warnings(caplog) == ["a device is out of memory with 28 pairs of images at once; trying fewer"]


@pytest.mark.slow
def test_several_devices_take_fewer_pairs(monkeypatch, caplog):
    want, calls, step = tables(detector(monkeypatch, 3)), [], sharding._step

    def small(*arguments):
        return limited(step(*arguments), lambda own, visiting, pairs: pairs[0].shape[1], 2, calls)

    monkeypatch.setattr(sharding, "_step", small)
    got = tables(detector(monkeypatch, 3))
    assert max(calls) > 2 >= calls[-1]
    np.testing.assert_array_equal(got, want)


def test_what_never_fits_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(pairwise, "pair_distances", limited(None, lambda *_: 2, 1, []))
    with pytest.raises(OutOfMemory, match=r"one of the pairs of images; .*config\.backbone\.image_size"):
        tables(detector(monkeypatch))


def test_a_failure_that_shows_later_counts_too(caplog):
    """Some devices answer at once and fail when the result is needed."""

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


def test_a_layer_that_does_not_fit_passes_in_blocks(monkeypatch, caplog):
    """The patches of eight images are too many for the device, those of three and three are not."""
    working, calls = detector(monkeypatch), []
    want = tables(working)
    monkeypatch.setattr(pairwise, "prepare", limited(pairwise.prepare, lambda tokens, options: len(tokens), 3, calls))
    got = tables(working)
    np.testing.assert_array_equal(got, want)
    assert calls[:3] == [8, 4, 2] and set(calls[3:]) == {2}
    assert warnings(caplog) == [
        "a device is out of memory with the patches of 8 images; trying blocks of 4",
        "a device is out of memory with the patches of 8 images; trying blocks of 2",
    ]


def test_a_layer_of_which_nothing_fits_is_named(monkeypatch):
    working = detector(monkeypatch)
    monkeypatch.setattr(pairwise, "prepare", limited(pairwise.prepare, lambda tokens, options: len(tokens), 0, []))
    with pytest.raises(OutOfMemory, match="the patches of one image and those of another"):
        tables(working)


@pytest.mark.parametrize("most", [1, 3, 5, 20])
@pytest.mark.parametrize("kernel", ["reuse", "direct"])
def test_blocks_of_any_size_give_the_same_distances(monkeypatch, most, kernel):
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(11, 12, 8)).astype(np.float32)
    references, options = np.array([0, 3, 4, 9]), TileOptions(kernel, (1, 3), (3, 4), "float32")
    want = pairwise.pairwise_distances(tokens, options, references)
    pairwise.layers_at_once(options).images = most
    done: list[int] = []
    got = pairwise.pairwise_distances(tokens, options, references, done.append)
    np.testing.assert_array_equal(got, want)
    assert sum(done) == pairwise.schedule_length(11, 4)


def test_a_small_category_teaches_nothing_of_a_large_one(monkeypatch):
    """Where a device's memory is known, all of four images and then of eleven are on it at once."""
    rng, options = np.random.default_rng(0), TileOptions("reuse", (1,), (3, 4), "float32")
    monkeypatch.setattr(pairwise, "device_bytes", lambda devices: 10**9)
    sizes: list[int] = []
    monkeypatch.setattr(pairwise, "prepare", limited(pairwise.prepare, lambda tokens, options: len(tokens), 99, sizes))
    for n in (4, 11):
        pairwise.pairwise_distances(rng.normal(size=(n, 12, 8)).astype(np.float32), options, np.arange(n))
    assert sizes == [4, 11]


def test_blocks_follow_from_the_memory_of_the_device():
    """ViT-L/14 at 518 px, unit vectors of three degrees in bfloat16 on 80 GB."""
    options = TileOptions("direct", (1, 3, 5), (37, 37), "bfloat16")
    assert pairwise.images_that_fit(80 * 10**9, 1000, 1369 * 1024, 2, options) == 1000
    most = pairwise.images_that_fit(80 * 10**9, 10_000, 1369 * 1024, 2, options)
    assert 1500 < most < 1700
    assert 2 * most * 1369 * 1024 * (2 + 4 + 6) <= 0.7 * 80e9
    assert pairwise.images_that_fit(10**6, 10, 1369 * 1024, 2, options) == 1
