"""A coarse pass: the distance of the patch that few channels say is nearest, on every route the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.backbones import PRESETS
from codegraph_jax.config import BackboneConfig, Config, ParallelConfig, SimilarityConfig
from codegraph_jax.core.arrays import in_memory
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.similarity.coarse import nearest
from codegraph_jax.similarity.pairwise import pairwise_distances, tile_options
from codegraph_jax.similarity.resident import ResidentTables
from codegraph_jax.similarity.sharding import all_distances
from codegraph_jax.similarity.subspace import in_subspaces
from codegraph_jax.similarity.tiles import TileOptions, pair_distances, prepare
from tests.backbones.tiny import GOLDEN, TINY
from tests.similarity.test_subspace import GRID, features

EXACT = TileOptions("direct", (1, 3), GRID, "float32")
EVERYBODY = np.arange(20)


def ordered(**changes):
    """Tokens of 20 images in 96 channels, of which the first hold the most."""
    return in_subspaces(features(**changes), 1.0, in_memory, ordered=True)[0]


@given(st.sampled_from([(1, 1), (64, 65), (5, 2)]), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_nearest_is_found_but_for_the_last_bits(shape, spread, seed):
    cosines = (1 - spread * np.random.default_rng(seed).uniform(size=shape)).astype(np.float32)
    for axis in (0, 1):
        places = np.asarray(nearest(jnp.asarray(cosines), axis))
        found = np.take_along_axis(cosines, np.expand_dims(places, axis), axis).squeeze(axis)
        squared, least = 2 - 2 * found, 2 - 2 * cosines.max(axis=axis)
        bits = (cosines.shape[axis] - 1).bit_length()
        assert (squared <= np.maximum(least, 1e-6) * (1 + 2.0 ** (bits - 22))).all()


def test_what_does_not_count_is_nearest_only_where_nothing_does():
    cosines = np.full((3, 4), -np.inf, np.float32)
    cosines[0, 2] = cosines[1, 3] = -1.0
    np.testing.assert_array_equal(nearest(jnp.asarray(cosines), 1)[:2], [2, 3])
    assert int(nearest(jnp.asarray(cosines), 1)[2]) < 4


def test_tokens_in_order_have_the_same_distances():
    before, after = features().layers[0], ordered()
    np.testing.assert_allclose(
        *(pairwise_distances(x, EXACT, EVERYBODY) for x in (before, after)), atol=2e-5, rtol=1e-5
    )
    held = np.square(np.asarray(after)).sum(axis=(0, 1))
    assert (held[:-1] >= 0.8 * held[1:]).all() and held[0] > 2 * held[-1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_distances_are_the_exact_ones_where_the_nearest_is_found_and_greater_elsewhere(precision):
    layer = ordered(rank=30)
    exact = EXACT._replace(precision=precision)
    want = pairwise_distances(layer, exact, EVERYBODY)
    for channels, found in ((96, 1.0), (32, 0.99), (12, 0.6)):
        got = pairwise_distances(layer, exact._replace(coarse=channels), EVERYBODY)
        inside = np.isfinite(want)
        np.testing.assert_array_equal(np.isfinite(got), inside)
        more = got[inside] ** 2 - want[inside] ** 2
        assert more.min() > -4e-6
        assert (more < 1e-3 * want[inside] ** 2 + 4e-6).mean() >= found


def test_patches_that_do_not_count():
    layer = np.array(ordered())
    layer[3, 10:30] = layer[5] = 0
    options = EXACT._replace(masked=True)
    want, got = (pairwise_distances(layer, o, EVERYBODY) for o in (options, options._replace(coarse=96)))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    inside = np.isfinite(want)
    np.testing.assert_allclose(got[inside] ** 2, want[inside] ** 2, atol=4e-6, rtol=1e-3)
    assert np.isinf(got[:, :, 5]).all() and np.isfinite(got[:, 3, 4, 0]).all()


def test_every_route_gives_the_same_distances():
    layer, options = np.asarray(ordered()), EXACT._replace(coarse=32)
    some = np.array([0, 3, 4, 11, 17])
    want = pairwise_distances(layer, options, some)
    mesh = DeviceMesh(tuple(jax.devices()[:2]))
    np.testing.assert_array_equal(all_distances(layer, mesh, (20,), options, some), want)
    removed = np.random.default_rng(0).uniform(size=layer.shape[:2]) < 0.3
    without = []
    for devices in (mesh, mesh.first):
        tables = ResidentTables([layer], some, options, devices, 2)
        np.testing.assert_array_equal(tables.host()[0], want)
        without += tables.scores_without(2, np.arange(5), np.zeros((20, 5), bool), (), removed)
    np.testing.assert_allclose(*without, atol=1e-6)
    assert without[0].mean() > tables.scores(2, np.arange(5))[0].mean() + 0.01
    # several pairs in one product, as on accelerators
    patches, (first, second) = prepare(jnp.asarray(layer), options), np.array([[0, 3, 4, 2], [1, 7, 6, 9]])
    one, many = (pair_distances(patches, patches, first, second, options._replace(batch=b)) for b in (1, 4))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_a_detection(monkeypatch):
    """With a bank, which compares in all channels."""
    monkeypatch.setitem(PRESETS, "tiny", TINY["dinov2"])
    images = list(draw_set(n=16, size=64, seed=0, one_off=0.2, recurring=(0.25,)).images)

    def detect(coarse):
        config = Config(
            backbone=BackboneConfig(name="tiny", image_size=20, weights=str(GOLDEN / "dinov2.safetensors")),
            similarity=SimilarityConfig(coarse=coarse),
            parallel=ParallelConfig(devices=1),
        )
        return CoDeGraph(config).detect(images, bank_references=5)

    plain, found = detect(0), detect(16)
    np.testing.assert_allclose(found.patch_scores, plain.patch_scores, atol=0.02)
    assert not np.array_equal(found.patch_scores, plain.patch_scores)
    mine, theirs = (result.bank.inspect(images[:3]) for result in (found, plain))
    np.testing.assert_allclose(mine.patch_scores, theirs.patch_scores, atol=0.02)


def test_settings():
    assert tile_options(SimilarityConfig(coarse=64), (1, 3), (8, 8)) == EXACT._replace(coarse=64)
    within = tile_options(SimilarityConfig(coarse=64, radius=3), (1,), (8, 8))
    assert within.radius == 3 and within.coarse == 0, "of the few patches within a radius all are looked at"
