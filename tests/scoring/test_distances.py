"""Statistics of distances: the same on the host and on devices, and equal to plain NumPy."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.copy_counts import counted_copies
from codegraph_jax.core import arrays
from codegraph_jax.scoring import device_block
from codegraph_jax.scoring.device_block import DeviceBlock
from codegraph_jax.scoring.distances import Distances, as_distances
from codegraph_jax.scoring.host_block import MAX_DISTANCE, MIN_DISTANCE, HostBlock
from codegraph_jax.similarity.valid import INVALID
from tests.support.compiled_programs import compiled_programs

PATCHES = 6


def draw(n=11, m=9, seed=0):
    """Distances with some infinite values (excluded references, patches beyond a radius), and with patches that are not
    inspected: some, and all of one image."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 1.9, size=(n, m, PATCHES)).astype(np.float32)
    values[rng.uniform(size=values.shape) < 0.1] = np.inf
    values[:, :, 0] = 0.5  # ties
    invalid = rng.uniform(size=(n, PATCHES)) < 0.2
    invalid[n // 2] = True
    values.swapaxes(1, 2)[invalid] = INVALID
    values[rng.uniform(size=(n, m)) < 0.2] = np.inf
    return values


def on_device(values, number, size):
    """A block with consecutive images on a device, padded."""
    n, m, _ = values.shape
    padded = np.full((size, 16, PATCHES), np.inf, np.float32)
    padded[:n, :m] = values
    return DeviceBlock(jax.device_put(padded, jax.devices()[number]), m, np.arange(n))


def host(values):
    return as_distances(values.copy())


def device(values):
    return Distances([on_device(values, 0, 16)], np.arange(values.shape[1]))


def three(values):
    """On three devices, of which the second, or the first two, have no images."""
    ends = (0, len(values) // 3, len(values) // 3, len(values))
    blocks = [on_device(values[a:b], d, 16) for d, (a, b) in enumerate(zip(ends, ends[1:]))]
    return Distances(blocks, np.arange(values.shape[1]))


def stretch(values):
    """Part of a larger set, in a block of the host and one on a device."""
    more = np.pad(values, ((2, 3), (0, 0), (0, 0)), constant_values=0.3)
    blocks = [HostBlock(more[:5].copy(), np.arange(5)), on_device(more[5:], 0, 16)]
    return Distances(blocks, np.arange(values.shape[1])).select(slice(2, 2 + len(values)))


LAYOUTS = [host, device, three, stretch]


def numpy_scores(values, k):
    found = np.full((len(values), PATCHES), np.inf)
    for i, patch in np.ndindex(found.shape):
        nearest = np.sort(values[i, :, patch])[:k]
        if np.isfinite(nearest).any():
            found[i, patch] = nearest[np.isfinite(nearest)].mean(dtype=np.float64)
    return found


def numpy_kth(values, k):
    return np.sort(np.pad(values, ((0, 0), (0, k), (0, 0)), constant_values=np.inf), axis=1)[:, k - 1]


def numpy_quantile(values, share):
    found = np.full((len(values), PATCHES), np.inf)
    for row, distances in zip(found, values):
        serving = distances[np.isfinite(distances).any(axis=1)].astype(np.float64)
        if len(serving):
            low, high = (np.quantile(serving, share, axis=0, method=method) for method in ("lower", "higher"))
            weight = share * (len(serving) - 1) % 1
            finite = np.isfinite(high)
            row[finite] = low[finite] * (1 - weight) + high[finite] * weight
    return found


def numpy_medians(values, patches):
    found = np.full(values.shape[:2], np.inf)
    for i in np.flatnonzero(patches.any(axis=1)):
        found[i] = np.median(values[i][:, patches[i]], axis=1)
    return found


def numpy_relative_distances(values, rank, share):
    found = np.full(values.shape[:2], np.inf)
    for row, distances, usual in zip(found, values, numpy_kth(values, rank)):
        valid = (distances >= 0).all(axis=0)
        if valid.any():
            multiples = distances / np.where(np.isfinite(usual), usual, np.float32(1e-12))
            row[:] = np.sort(multiples[:, valid], axis=1)[:, int(share * (valid.sum() - 1))]
    return found


def numpy_candidates(values, windows, least):
    """The Hill estimator of both sides by its definition, in float64."""
    ordered = np.log(np.sort(np.clip(values, MIN_DISTANCE, MAX_DISTANCE), axis=1), dtype=np.float64)
    spacings = np.diff(ordered, axis=1) * np.arange(1, values.shape[1])[:, None]
    found = np.zeros((len(values), len(windows), PATCHES), bool)
    for w, (window, limits) in enumerate(zip(windows, least)):
        middle = window // 2
        upper = np.maximum(spacings[:, middle : window - 1].mean(axis=1), 1e-12)
        for k, limit in enumerate(limits):
            found[:, w] |= spacings[:, k:middle].mean(axis=1) >= limit * upper
    return found


def assert_statistics(layout, values, rng):
    """Every statistic; exactly equal if it is a distance."""
    n, m, _ = values.shape
    held = layout(values)
    images, columns = rng.permutation(n)[: n // 2 + 1], np.flatnonzero(rng.uniform(size=m) < 0.5)
    patches = rng.uniform(size=(n, PATCHES)) < 0.5
    image, patch = rng.integers(0, n, 20), rng.integers(0, PATCHES, 20)
    k, share = int(rng.integers(1, m + 3)), rng.uniform()
    rank = int(rng.integers(1, m + 1))
    for _ in range(2):
        assert (len(held), held.shape) == (n, values.shape)
        for found, expected in (
            (held.usable(), np.isfinite(values).any(axis=2)),
            (held.valid(), (values >= 0).all(axis=1)),
            (held.smallest([1, k, 1]), np.stack([numpy_kth(values, rank) for rank in (1, k, 1)], axis=1)),
            (held.kth(k), numpy_kth(values, k)),
            (held.kth(k, columns, images), numpy_kth(values[images][:, columns], k)),
            (held.patch_distances(image, patch), values[image, :, patch]),
        ):
            np.testing.assert_array_equal(found, expected)
        for found, expected in (
            (held.scores(k), numpy_scores(values, k)),
            (held.scores(k, columns, images), numpy_scores(values[images][:, columns], k)),
            (held.quantile(share), numpy_quantile(values, share)),
            (held.quantile(share, columns, images), numpy_quantile(values[images][:, columns], share)),
            (held.quantile(1.0, columns, images), numpy_quantile(values[images][:, columns], 1.0)),
            (held.medians(patches), numpy_medians(values, patches)),
            (held.relative_distances(rank, share), numpy_relative_distances(values, rank, share)),
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        for i, found in zip(images, held.of_images(images), strict=True):
            np.testing.assert_array_equal(found, values[i])
        for i, (number, own, rows) in enumerate(held.each(patches, lambda *given: given)):
            assert number == i
            np.testing.assert_array_equal(own, np.flatnonzero(patches[i]))
            np.testing.assert_array_equal(rows, values[i][:, patches[i]].T)
        pairs = rng.uniform(size=(n, m)) < 0.2
        held, values = held.exclude(pairs), np.where(pairs[..., None], np.inf, values)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_statistics_are_those_of_numpy(layout, n, m, seed):
    assert_statistics(layout, draw(n, m, seed), np.random.default_rng(seed))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_selections_give_empty_arrays(layout):
    values, nobody, nothing = draw(), np.zeros(0, int), np.zeros((11, PATCHES), bool)
    held = layout(values)
    assert held.scores(2, images=nobody).shape == held.kth(2, images=[]).shape == (0, PATCHES)
    assert held.quantile(0.5, images=nobody).shape == (0, PATCHES)
    assert held.patch_distances(nobody, nobody).shape == (0, 9)
    assert not list(held.of_images([]))
    for found in (held.kth(1, nobody), held.quantile(0.5, nobody), held.scores(1, nobody), held.medians(nothing)):
        assert np.isposinf(found).all() and len(found) == 11
    assert all(rows.shape == (0, 9) for rows in held.each(nothing, lambda i, patches, rows: rows))
    assert held.select(slice(4, 4)).shape == (0, 9, PATCHES)
    assert held.select(slice(4, 4)).scores(2).shape == (0, PATCHES)
    with pytest.raises(IndexError):
        held.scores(2, images=[3, 11])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_of_a_slice_are_those_of_numpy(layout):
    values = draw()
    held = layout(values).select(slice(2, 10))
    assert_statistics(lambda _: held.select(slice(1, None)), values[3:10], np.random.default_rng(0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_quantile_beside_an_infinite_distance(layout):
    """It is finite if and only if no infinite distance has a weight."""
    values = np.full((1, 5, PATCHES), np.inf, np.float32)
    values[0, [4, 0, 3], 0], values[0, :, 1] = (1, 2, 3), 4
    held = layout(values)
    found = [held.quantile(share)[0, :3] for share in (0.25, 0.5, 0.6, 0.9)]
    np.testing.assert_allclose(found, [[2, 4, np.inf], [3, 4, np.inf], [np.inf, 4, np.inf], [np.inf, 4, np.inf]])


def test_numbers_of_the_host_are_those_of_numpy_to_the_last_bit():
    values = np.random.default_rng(0).uniform(0.1, 1.9, size=(3, 10, PATCHES)).astype(np.float32)
    held = host(values)
    for share in (0.1, 0.25, 0.7, 0.75, 0.9):
        np.testing.assert_array_equal(held.quantile(share), np.quantile(values, share, axis=1))
    for count in (3, 4):
        np.testing.assert_array_equal(
            held.medians(np.arange(PATCHES) < np.full((3, 1), count)), np.median(values[..., :count], axis=2)
        )


def test_memory_of_the_host_is_not_copied():
    values, pairs = draw(), np.zeros((11, 9), bool)
    pairs[3, 4] = True
    held = as_distances(values)
    assert all(np.shares_memory(found, values) for found in held.of_images([5, 2]))
    held.select(slice(2, None)).exclude(pairs[2:])
    assert np.isinf(values[3, 4]).all()


def test_patches_that_may_burn_out():
    """A device finds exactly the candidates; the host tests all patches."""
    values = np.random.default_rng(0).uniform(0.001, 1.9, size=(11, 12, PATCHES)).astype(np.float32)
    for windows in ([6, 9, 11], [6, 7, 8, 9, 11]):
        least = [np.linspace(1, 2, window // 2).astype(np.float32) for window in windows]
        expected = numpy_candidates(values, windows, least)
        assert 0.1 < expected.mean() < 0.9
        for layout in (device, three):
            np.testing.assert_array_equal(layout(values).candidates(windows, least), expected)
        assert host(values).candidates(windows, least).all()


def test_copies_of_several_devices_are_counted_and_few(monkeypatch):
    values = draw()
    held = three(values)
    with counted_copies() as copies:
        held.usable()
        assert (copies.to_device, copies.to_host) == (0, 3)
        # in any order; the device without images has nothing to copy
        list(held.of_images([9, 0, 8, 1, 7, 2]))
        assert copies.to_host == 5
        monkeypatch.setattr(arrays, "COPIED_BYTES", 1)
        list(held.of_images([9, 0, 8, 1, 7, 2]))
        assert copies.to_host == 11
        monkeypatch.setattr(device_block, "CALL_SIZES", (2, 4))
        image = np.tile(np.arange(11), 2)
        np.testing.assert_array_equal(held.patch_distances(image, image % PATCHES), values[image, :, image % PATCHES])
        assert copies.to_host == 11 + 2 + 4


def test_sets_that_are_padded_alike_share_their_programs():
    def all_of_it(n, m, windows):
        values = draw(n, m)
        assert_statistics(device, values, np.random.default_rng(n))
        device(values).candidates(windows, [np.ones(window // 2, np.float32) for window in windows])

    all_of_it(11, 9, [6, 7, 8])
    with compiled_programs() as programs:
        all_of_it(7, 12, [6])
    assert set(programs) <= {"jit(_selected)"}
