import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.config import ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.devices import DeviceMesh, device_mesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.listing import split
from codegraph_jax.similarity.pairwise import choose_references, pairwise_distances
from codegraph_jax.similarity.sharding import all_distances, meetings
from codegraph_jax.similarity.tiles import TileOptions
from tests.similarity.test_pairwise import DEGREES, GRID, draw


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_ring_computes_every_needed_pair_once_in_half_a_turn(n, devices, limit):
    references = choose_references([bytes([i]) for i in np.random.default_rng(n).permutation(n)], limit)
    bounds = split(n, devices)
    assert np.diff(bounds).max() - np.diff(bounds).min() <= 1
    seen, steps = [], set()
    for meeting in meetings(bounds, references):
        steps.add(meeting.step)
        for d in range(devices):
            visitor = (d + meeting.step) % devices
            for i, j in zip(meeting.own[d][meeting.valid[d]], meeting.visitor[d][meeting.valid[d]]):
                seen.append(tuple(sorted((bounds[d] + i, bounds[visitor] + j))))
    assert steps == set(range(devices // 2 + 1))
    wanted = {(i, j) for i in range(n) for j in range(i + 1, n) if {i, j} & set(references.tolist())}
    assert len(seen) == len(set(seen)), "no pair twice"
    assert set(seen) == wanted


def test_work_is_spread_evenly():
    load = sum(meeting.valid.sum(axis=1) for meeting in meetings(split(64, 8), np.arange(64)))
    assert load.sum() == 64 * 63 // 2
    assert load.max() <= 1.02 * load.mean()


TEAMS = [("shard_map", 1), ("shard_map", 2), ("shard_map", 3), ("shard_map", 8), ("pmap", 2), ("pmap", 3)]


@pytest.mark.parametrize("backend,devices", TEAMS)
@pytest.mark.parametrize("kernel,batch", [("reuse", 1), ("direct", 2)])
def test_any_number_of_devices_gives_the_distances_of_one(backend, devices, kernel, batch):
    normalised = normalise(jnp.asarray(draw(11, c=16)))
    options = TileOptions(kernel, DEGREES, GRID, "float32", batch)
    done = []
    for references in (np.arange(11), np.array([2, 6, 7])):
        want = pairwise_distances(normalised, options, references)
        mesh = DeviceMesh(tuple(jax.devices()[:devices]), backend)
        got = all_distances(np.asarray(normalised), mesh, (11,), options, references, done.append)
        np.testing.assert_array_equal(got, want)
    assert sum(done) == 55 + 8 * 3 + 3


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_images_than_devices(n):
    normalised = normalise(jnp.asarray(draw(n)))
    options = TileOptions("reuse", (1, 3), GRID, "bfloat16")
    want = pairwise_distances(normalised, options, np.arange(n))
    got = all_distances(normalised, DeviceMesh(tuple(jax.devices()[:8])), (n,), options, np.arange(n))
    np.testing.assert_array_equal(got, want)


def test_more_devices_than_there_are_is_an_error_that_names_the_field():
    assert len(device_mesh(ParallelConfig(devices=3))) == 3
    assert len(device_mesh(ParallelConfig())) == len(jax.devices())
    with pytest.raises(ConfigError, match="config.parallel.devices: 1000"):
        device_mesh(ParallelConfig(devices=1000))
