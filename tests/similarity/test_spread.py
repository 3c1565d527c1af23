"""Tables over several devices: those of one, bit for bit, wherever an image lies."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.scoring.distances import HostDistances
from codegraph_jax.scoring.on_device import DeviceDistances
from codegraph_jax.scoring.spread import SpreadDistances
from codegraph_jax.similarity import resident, sharding
from codegraph_jax.similarity.pairwise import DEVICE_SHARE, image_bytes, pairwise_distances
from codegraph_jax.similarity.resident import ResidentTables
from codegraph_jax.similarity.tiles import TileOptions
from tests.similarity.test_pairwise import DEGREES, GRID, draw

OPTIONS = TileOptions("reuse", DEGREES, GRID, "float32")


def spread(layers, references, devices, **more):
    mesh = DeviceMesh(tuple(jax.devices()[:devices]))
    return ResidentTables([np.asarray(layer) for layer in layers], references, OPTIONS, mesh, 2, **more)


@pytest.mark.parametrize("n,devices,references,kept", [(2, 3, [0, 1], None), (13, 2, [0, 2, 6, 12], 0)])
def test_tables_and_scores_are_those_of_one_device(n, devices, references, kept):
    layer, references = normalise(jnp.asarray(draw(n, c=16))), np.array(references)
    done = []
    several, one = (spread([layer], references, d, kept=kept, progress=done.append) for d in (devices, 1))
    np.testing.assert_array_equal(several.host()[0], pairwise_distances(layer, OPTIONS, references))
    assert sum(done) == 2 * (len(references) * (len(references) - 1) // 2 + len(references) * (n - len(references)))
    removed = np.random.default_rng(n).uniform(size=layer.shape[:2]) < 0.2
    columns, nobody = np.arange(len(references)), np.zeros((n, len(references)), bool)
    for tables in zip(several.scores(2, columns), one.scores(2, columns)):
        np.testing.assert_array_equal(*tables)
    changed, expected = (tables.scores_without(2, columns, nobody, (), removed)[0] for tables in (several, one))
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    assert not np.array_equal(changed, several.scores(2, columns)[0])


def test_an_earlier_start_has_the_table():
    layer, references = normalise(jnp.asarray(draw(7, c=16))), np.array([0, 2, 5, 6])
    table = pairwise_distances(layer, OPTIONS, references)
    kept = SimpleNamespace(find=lambda number: table, keep=None)
    tables = spread([layer], references, 3, store=kept)
    np.testing.assert_array_equal(tables.host()[0], table)
    means = np.concatenate([np.asarray(mean.values)[: mean.images, : mean.references] for mean in tables.means])
    np.testing.assert_allclose(means, table.mean(axis=0), rtol=1e-6)


def test_shards_in_parts_and_meetings_in_calls(monkeypatch):
    """What meets is neither a whole shard nor all that two of them have."""
    layer, references = normalise(jnp.asarray(draw(17, c=16))), np.arange(1, 17)
    image = image_bytes(layer[0].size, 4, OPTIONS)
    monkeypatch.setattr(sharding, "device_bytes", lambda devices: int(3.5 * 3 * image / DEVICE_SHARE))
    monkeypatch.setattr(resident, "CHUNK_TILES", 4)
    sharding.parts_at_once.cache_clear()
    try:
        tables = spread([layer], references, 3)
    finally:
        sharding.parts_at_once.cache_clear()
    np.testing.assert_array_equal(tables.host()[0], pairwise_distances(layer, OPTIONS, references))


def test_several_devices_answer_as_the_host_does():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 1.9, size=(11, 9, 6)).astype(np.float32)
    values[np.arange(9), np.arange(9)] = np.inf
    values[4, :, 2] = -1
    parts, devices = [], jax.devices()
    # the third device has no images
    for number, (start, stop) in enumerate(((0, 4), (4, 9), (9, 9), (9, 11))):
        padded = np.full((8, 16, 6), np.inf, np.float32)
        padded[: stop - start, :9] = values[start:stop]
        parts.append(DeviceDistances(jax.device_put(padded, devices[number]), 0, stop - start, 9))
    here, there = HostDistances(values.copy()), SpreadDistances(parts)
    pairs = rng.uniform(size=(11, 9)) < 0.1
    some, columns = np.array([10, 3, 4, 0, 8]), np.array([1, 2, 3, 5, 8])
    patches = rng.uniform(size=(11, 6)) < 0.5
    patches[:, 0] = True
    image, patch = rng.integers(0, 11, 20), rng.integers(0, 6, 20)
    for _ in range(2):
        assert (len(there), there.shape) == (11, (11, 9, 6))
        for ask in (
            lambda x: x.serves(),
            lambda x: x.judged(),
            lambda x: x.scores(3),
            lambda x: x.scores(2, columns, some),
            lambda x: x.smallest([0, 2, 5]),
            lambda x: x.kth(2, columns, some),
            lambda x: x.quantile(0.4, columns, some),
            lambda x: x.medians(patches),
            lambda x: x.agreement(2, 0.5),
            lambda x: np.stack(list(x.images(some))),
            lambda x: x.rows(image, patch),
            lambda x: np.concatenate([f + i for i, f in x.each(patches, lambda i, p, rows: (i, rows + p[:, None]))]),
            lambda x: x.some(slice(2, 10)).scores(3),
            lambda x: x.some(slice(5, 8)).rows(image % 3, patch),
        ):
            np.testing.assert_allclose(ask(there), ask(here), atol=2e-6)
        here, there = here.without(pairs), there.without(pairs)
