import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.config import ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.chunks import OutOfMemoryError
from codegraph_jax.distributed.devices import DeviceMesh, device_mesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity import ring
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import choose_references, pair_count
from codegraph_jax.similarity.ring import DEVICE_SHARE, Ring, image_bytes, pairwise_distances, ring_limits
from codegraph_jax.similarity.schedule import PAIRS_PER_CALL, ring_calls, shard_bounds
from tests.similarity.tokens import GRID, draw
from tests.support.device_tables import tables_on
from tests.support.out_of_memory import FULL, out_of_memory_above, warnings


@pytest.fixture(autouse=True)
def forget():
    """Each test starts without the memory limits of other tests."""
    ring_limits.cache_clear()
    yield
    ring_limits.cache_clear()


def mesh_of(devices, backend="shard_map"):
    return DeviceMesh(tuple(jax.devices()[:devices]), backend)


@given(st.integers(1, 40), st.integers(1, 9), st.none() | st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_the_ring_computes_every_needed_pair_once_in_half_a_turn(n, devices, limit):
    references = choose_references([bytes([i]) for i in np.random.default_rng(n).permutation(n)], limit)
    bounds = shard_bounds(n, devices)
    assert np.diff(bounds).max() - np.diff(bounds).min() <= 1
    seen, steps = [], set()
    shards = np.stack([bounds[:-1], bounds[1:]], axis=1)
    for call in ring_calls(shards, shards, references, 1, PAIRS_PER_CALL, False):
        steps.add(call.step)
        for d in range(devices):
            remote = (d + call.step) % devices
            for i, j in zip(call.own_indices[d][call.valid[d]], call.remote_indices[d][call.valid[d]]):
                seen.append(tuple(sorted((bounds[d] + i, bounds[remote] + j))))
    assert steps == set(range(devices // 2 + 1))
    wanted = {(i, j) for i in range(n) for j in range(i + 1, n) if {i, j} & set(references.tolist())}
    assert len(seen) == len(set(seen)), "each pair once"
    assert set(seen) == wanted


def test_work_is_spread_evenly():
    shards = np.stack([np.arange(0, 64, 8), np.arange(8, 65, 8)], axis=1)
    load = sum(call.valid.sum(axis=1) for call in ring_calls(shards, shards, np.arange(64), 1, PAIRS_PER_CALL, False))
    assert load.sum() == 64 * 63 // 2
    assert load.max() <= 1.02 * load.mean()


@pytest.mark.parametrize("same_size,size", [(False, 4), (True, 8)])
def test_calls_of_one_size_cover_the_same_pairs(same_size, size):
    shards = np.array([[0, 5], [5, 10]])
    calls = list(ring_calls(shards, shards, np.arange(10), 4, 6, same_size))
    assert {call.own_indices.shape[1] for call in calls} == {size}
    assert sum(int(call.valid.sum()) for call in calls) == 45


KERNELS = {
    "reuse": {},
    "direct": {"kernel": "direct", "pairs_per_product": 2},
    "radius": {"kernel": "direct", "radius": 2},
}
CASES = [
    # backend, devices, kernel, images a device holds (0: all), where the table is
    ("shard_map", 1, "reuse", 3, "host"),
    ("shard_map", 1, "direct", 0, "device"),
    ("shard_map", 3, "reuse", 0, "host"),
    ("shard_map", 3, "direct", 1, "host"),
    ("shard_map", 3, "reuse", 2, "device"),
    ("shard_map", 2, "radius", 0, "device"),
    ("pmap", 2, "reuse", 0, "host"),
]
SLOW = [
    (backend, devices, kernel, images, where)
    for backend, devices in (("shard_map", 1), ("shard_map", 2), ("shard_map", 4), ("shard_map", 8), ("pmap", 3))
    for kernel in KERNELS
    for images in (0, 1, 5)
    for where in ("host", "device")
    if (backend, where) != ("pmap", "device")
]


@pytest.mark.parametrize(
    "backend,devices,kernel,images,where",
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in CASES)],
)
def test_several_devices_equal_one(backend, devices, kernel, images, where):
    """Bit for bit on any number of devices, with any shards, on the host and on the devices."""
    normalised = normalise(jnp.asarray(draw(13, c=16)))
    options, mesh = (
        DistanceOptions("reuse", (1, 3), GRID, "float32")._replace(**KERNELS[kernel]),
        mesh_of(devices, backend),
    )
    for references in (np.arange(13), np.array([2, 6, 7, 12])):
        want, done = pairwise_distances(normalised, options, references), []
        ring_limits(mesh, options).image_count = images
        if where == "device":
            tables = tables_on(mesh, [np.asarray(normalised)], references, options, advance=done.append)
            (got,) = tables.host()
        else:
            got = pairwise_distances(np.asarray(normalised), options, references, done.append, mesh=mesh)
        np.testing.assert_array_equal(got, want)
        assert sum(done) == pair_count(13, len(references))
        ring_limits.cache_clear()


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_fewer_images_than_devices_give_the_same(n):
    normalised = normalise(jnp.asarray(draw(n)))
    options = DistanceOptions("reuse", (1, 3), GRID, "bfloat16")
    want = pairwise_distances(normalised, options, np.arange(n))
    got = pairwise_distances(normalised, options, np.arange(n), mesh=mesh_of(8))
    np.testing.assert_array_equal(got, want)


def test_more_devices_than_available_is_an_error_that_names_the_field():
    assert len(device_mesh(ParallelConfig(devices=3))) == 3
    assert len(device_mesh(ParallelConfig())) == len(jax.devices())
    with pytest.raises(ConfigError, match="config.parallel.devices: 1000"):
        device_mesh(ParallelConfig(devices=1000))


@pytest.mark.parametrize("devices,most", [(1, 1), (1, 5), (3, 1), (3, 2)])
def test_shards_on_devices_follow_from_their_memory(devices, most, monkeypatch):
    """A single device holds two shards, its own and the remote one; several devices hold three each."""
    normalised, options = normalise(jnp.asarray(draw(13, c=16))), DistanceOptions("reuse", (1,), GRID, "float32")
    want, sizes = pairwise_distances(normalised, options, np.arange(13)), []
    watched = ring.Ring._put_tokens
    monkeypatch.setattr(ring.Ring, "_put_tokens", lambda self, *given: sizes.append(given[2]) or watched(self, *given))
    room = (ring.shards_at_once(devices) * most + 0.5) * image_bytes(normalised[0].size, 4, options) / DEVICE_SHARE
    monkeypatch.setattr(ring, "device_bytes", lambda devices: int(room))
    got = pairwise_distances(np.asarray(normalised), options, np.arange(13), mesh=mesh_of(devices))
    np.testing.assert_array_equal(got, want)
    assert 0 < max(sizes) <= most


def test_a_small_category_does_not_change_the_limits_for_a_large_one(monkeypatch):
    """With a known memory of the device, all four images and then all eleven are on it at once."""
    options, sizes, watched = DistanceOptions("reuse", (1,), GRID, "float32"), [], ring.Ring._put_tokens
    monkeypatch.setattr(ring, "device_bytes", lambda devices: 10**9)
    monkeypatch.setattr(ring.Ring, "_put_tokens", lambda self, *given: sizes.append(given[2]) or watched(self, *given))
    for n in (4, 11):
        pairwise_distances(draw(n), options, np.arange(n))
    assert sizes == [4, 11]


def test_parts_follow_from_the_memory_of_the_device(monkeypatch):
    """ViT-L/14 at 518 px, unit vectors of three degrees in bfloat16 on 80 GB."""
    options = DistanceOptions("direct", (1, 3, 5), (37, 37), "bfloat16")
    monkeypatch.setattr(ring, "device_bytes", lambda devices: 80 * 10**9)
    image = image_bytes(1369 * 1024, 2, options)
    one = Ring(mesh_of(1), options, None, None, None)
    assert one._fitting_images(1000, image) == 1000, "all fit at once"
    assert 1500 < (most := one._fitting_images(10_000, image)) < 1700
    assert 2 * most * 1369 * 1024 * (2 + 4 + 6) <= 0.7 * 80e9
    assert one._fitting_images(1000, image) == 1000, "a large set does not change the limit of a smaller one"


@pytest.mark.parametrize("devices,per_product,most", [(1, 1, 20), (1, 1, 1), (3, 1, 2), (1, 8, 3), (2, 8, 1)])
def test_a_device_that_runs_out_of_memory_in_a_call_gets_fewer_images(devices, per_product, most, monkeypatch, caplog):
    normalised = normalise(jnp.asarray(draw(11, c=16)))
    options = DistanceOptions("reuse", (1, 3), GRID, "float32", per_product)
    want, calls, step = pairwise_distances(normalised, options, np.arange(11)), [], ring._step
    pairs = lambda own, remote, indices: indices.shape[2]  # noqa: E731
    monkeypatch.setattr(ring, "_step", lambda *how: out_of_memory_above(most, step(*how), pairs, calls))
    done = []
    got = pairwise_distances(np.asarray(normalised), options, np.arange(11), done.append, mesh=mesh_of(devices))
    np.testing.assert_array_equal(got, want)
    assert max(calls) > most >= calls[-1] and sum(done) == 55
    tried_first = "the patches of" if per_product == 1 else "8 products at once; trying 4"
    assert warnings(caplog)[0].startswith(f"a device is out of memory with {tried_first}")
    calls.clear()
    pairwise_distances(normalised, options, np.arange(11), mesh=mesh_of(devices))
    assert max(calls) <= most, "the next layer has the same limit"


@pytest.mark.parametrize("how", [{"pairs_per_product": 8}, {"kernel": "direct", "radius": 2, "blocks_per_product": 8}])
def test_products_get_smaller_before_images_get_fewer(how, monkeypatch, caplog):
    options, step = DistanceOptions("reuse", (1, 3), GRID, "float32")._replace(**how), ring._step
    want = pairwise_distances(draw(5), options, np.arange(5))
    products = lambda mesh, options, pass_on: options.per_product  # noqa: E731
    monkeypatch.setattr(ring, "_step", out_of_memory_above(4, step, products, []))
    np.testing.assert_array_equal(pairwise_distances(draw(5), options, np.arange(5)), want)
    assert warnings(caplog) == ["a device is out of memory with 8 products at once; trying 4"]


@pytest.mark.parametrize("devices,most", [(1, 3), (3, 2)])
def test_layer_that_does_not_fit_is_sent_in_parts(devices, most, monkeypatch, caplog):
    normalised, options = normalise(jnp.asarray(draw(13, c=16))), DistanceOptions("reuse", (1, 3), GRID, "float32")
    want, calls = pairwise_distances(normalised, options, np.arange(13)), []
    rows = lambda self, tokens, places, length: length  # noqa: E731
    monkeypatch.setattr(ring.Ring, "_put_tokens", out_of_memory_above(most, ring.Ring._put_tokens, rows, calls))
    got = pairwise_distances(np.asarray(normalised), options, np.arange(13), mesh=mesh_of(devices))
    np.testing.assert_array_equal(got, want)
    assert calls[0] == -(-13 // devices) and calls[-1] <= most
    assert "images; trying" in warnings(caplog)[0]


def test_pairs_that_never_fit_raise_an_out_of_memory_error(monkeypatch):
    options = DistanceOptions("reuse", (1,), GRID, "float32")
    for name, length in (("_put_tokens", lambda *_: 1), ("_compare_shards", lambda *_: 1)):
        with monkeypatch.context() as patched, pytest.raises(OutOfMemoryError, match=r"two images; .*input size"):
            patched.setattr(ring.Ring, name, out_of_memory_above(0, None, length, []))
            pairwise_distances(draw(4), options, np.arange(4))


def test_late_out_of_memory_is_handled(monkeypatch):
    """Some devices return at once and fail only when the result is needed."""
    options, fetch, failed = DistanceOptions("reuse", (1,), GRID, "float32"), ring._fetch, []

    def late(mesh, results):
        if results.shape[1] > 3:
            failed.append(results.shape[1])
            raise FULL
        return fetch(mesh, results)

    want = pairwise_distances(draw(5), options, np.arange(5))
    monkeypatch.setattr(ring, "_fetch", late)
    np.testing.assert_array_equal(pairwise_distances(draw(5), options, np.arange(5)), want)
    assert failed == [10, 6, 4]


def test_other_failures_are_not_retried(monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(ring.Ring, "_put_tokens", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        pairwise_distances(draw(4), DistanceOptions("reuse", (1,), GRID, "float32"), np.arange(4))
