import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.config import ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.chunks import OutOfMemory
from codegraph_jax.distributed.devices import DeviceMesh, device_mesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity import sharding
from codegraph_jax.similarity.listing import split
from codegraph_jax.similarity.pairwise import (
    DEVICE_SHARE,
    choose_references,
    image_bytes,
    pairwise_distances,
    schedule_length,
)
from codegraph_jax.similarity.sharding import all_distances, ring_steps
from codegraph_jax.similarity.tiles import TileOptions
from tests.similarity.test_pairwise import DEGREES, GRID, draw


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_ring_computes_every_needed_pair_once_in_half_a_turn(n, devices, limit):
    references = choose_references([bytes([i]) for i in np.random.default_rng(n).permutation(n)], limit)
    bounds = split(n, devices)
    assert np.diff(bounds).max() - np.diff(bounds).min() <= 1
    seen, steps = [], set()
    shards = np.stack([bounds[:-1], bounds[1:]], axis=1)
    for ring_step in ring_steps(shards, shards, references):
        steps.add(ring_step.step)
        for d in range(devices):
            remote = (d + ring_step.step) % devices
            for i, j in zip(ring_step.own[d][ring_step.valid[d]], ring_step.remote[d][ring_step.valid[d]]):
                seen.append(tuple(sorted((bounds[d] + i, bounds[remote] + j))))
    assert steps == set(range(devices // 2 + 1))
    wanted = {(i, j) for i in range(n) for j in range(i + 1, n) if {i, j} & set(references.tolist())}
    assert len(seen) == len(set(seen)), "no pair twice"
    assert set(seen) == wanted


def test_work_is_spread_evenly():
    shards = np.stack([np.arange(0, 64, 8), np.arange(8, 65, 8)], axis=1)
    load = sum(ring_step.valid.sum(axis=1) for ring_step in ring_steps(shards, shards, np.arange(64)))
    assert load.sum() == 64 * 63 // 2
    assert load.max() <= 1.02 * load.mean()


TEAMS = [("shard_map", 1), ("shard_map", 2), ("shard_map", 3), ("shard_map", 8), ("pmap", 2), ("pmap", 3)]
QUICK = [("shard_map", 1, "reuse"), ("shard_map", 3, "reuse"), ("shard_map", 2, "direct"), ("pmap", 2, "reuse")]
"""One of every kind; all others run with the slow tests."""


@pytest.mark.parametrize(
    "backend,devices,kernel",
    [
        pytest.param(*team, kernel, marks=[] if (*team, kernel) in QUICK else pytest.mark.slow)
        for team in TEAMS
        for kernel in ("reuse", "direct")
    ],
)
def test_any_number_of_devices_gives_the_distances_of_one(backend, devices, kernel):
    normalised = normalise(jnp.asarray(draw(11, c=16)))
    options = TileOptions(kernel, DEGREES, GRID, "float32", {"reuse": 1, "direct": 2}[kernel])
    done = []
    for references in (np.arange(11), np.array([2, 6, 7])):
        want = pairwise_distances(normalised, options, references)
        mesh = DeviceMesh(tuple(jax.devices()[:devices]), backend)
        got = all_distances(np.asarray(normalised), mesh, (11,), options, references, done.append)
        np.testing.assert_array_equal(got, want)
    assert sum(done) == 55 + 8 * 3 + 3


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
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


@pytest.mark.parametrize(
    "devices,kernel,batch,most", [pytest.param(2, "reuse", 1, 3, marks=pytest.mark.slow), (3, "direct", 2, 1)]
)
def test_shards_that_devices_cannot_hold_meet_in_parts(devices, kernel, batch, most, monkeypatch):
    normalised = normalise(jnp.asarray(draw(13, c=16)))
    options, mesh = TileOptions(kernel, DEGREES, GRID, "float32", batch), DeviceMesh(tuple(jax.devices()[:devices]))
    sizes, placed = [], sharding._placed

    def placing(mesh, normalised, offset, options, shards):
        sizes.append(int((shards[:, 1] - shards[:, 0]).max()))
        return placed(mesh, normalised, offset, options, shards)

    monkeypatch.setattr(sharding, "_placed", placing)
    image = image_bytes(normalised[0].size, 4, options)
    monkeypatch.setattr(sharding, "device_bytes", lambda devices: int((3 * most + 0.5) * image / DEVICE_SHARE))
    for references in (np.arange(13), np.array([2, 6, 7, 12])):
        done = []
        want = pairwise_distances(normalised, options, references)
        sharding.parts_at_once.cache_clear()
        got = all_distances(np.asarray(normalised), mesh, (13,), options, references, done.append)
        np.testing.assert_array_equal(got, want)
        assert sum(done) == schedule_length(13, len(references))
    assert max(sizes) <= most
    sharding.parts_at_once.cache_clear()


def test_a_device_that_runs_out_of_memory_gets_smaller_parts(monkeypatch, caplog):
    normalised, options = normalise(jnp.asarray(draw(13, c=16))), TileOptions("reuse", DEGREES, GRID, "float32")
    mesh, references, placed = DeviceMesh(tuple(jax.devices()[:3])), np.arange(13), sharding._placed

    def placing(mesh, normalised, offset, options, shards):
        if (shards[:, 1] - shards[:, 0]).max() > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return placed(mesh, normalised, offset, options, shards)

    monkeypatch.setattr(sharding, "_placed", placing)
    sharding.parts_at_once.cache_clear()
    got = all_distances(np.asarray(normalised), mesh, (13,), options, references)
    np.testing.assert_array_equal(got, pairwise_distances(normalised, options, references))
    assert "trying 4 parts" in caplog.text
    monkeypatch.setattr(sharding, "_placed", lambda *_: placing(*_[:4], np.array([[0, 9]])))
    with pytest.raises(OutOfMemory, match="three images"):
        all_distances(np.asarray(normalised), mesh, (13,), options, references)
    sharding.parts_at_once.cache_clear()
