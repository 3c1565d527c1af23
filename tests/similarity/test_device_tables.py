"""Tables on several devices are equal to those of one, bit for bit, for any distribution of the images."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.core.mapped_arrays import in_memory
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.stores import StoredLayers
from codegraph_jax.similarity.table_layout import TableLayout
from tests.similarity.tokens import DEGREES, GRID, draw
from tests.support.device_tables import tables_on

OPTIONS = DistanceOptions("reuse", DEGREES, GRID, "float32")


def mesh_of(devices):
    return DeviceMesh(tuple(jax.devices()[:devices]))


@pytest.mark.parametrize(
    "n,devices,references",
    [pytest.param(2, 3, [0, 1], marks=pytest.mark.slow), (13, 2, [0, 2, 6, 12])],
)
def test_tables_and_scores_are_those_of_one_device(n, devices, references):
    layer, references = normalise(jnp.asarray(draw(n, c=16))), np.array(references)
    done = []
    several, one = (
        tables_on(mesh_of(d), [np.asarray(layer)], references, OPTIONS, advance=done.append) for d in (devices, 1)
    )
    np.testing.assert_array_equal(several.host()[0], pairwise_distances(layer, OPTIONS, references))
    assert sum(done) == 2 * (len(references) * (len(references) - 1) // 2 + len(references) * (n - len(references)))
    removed, subset = np.random.default_rng(n).uniform(size=layer.shape[:2]) < 0.2, ReferenceSubset.of(references, 0.7)
    nothing = Exclusions.none(several.shape)
    exclusions = replace(nothing, removed=removed)
    for tables in zip(several.scores(subset, nothing), one.scores(subset, nothing)):
        np.testing.assert_array_equal(*tables)
    changed, expected = (tables.scores(subset, exclusions)[0] for tables in (several, one))
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    assert not np.array_equal(changed, several.scores(subset, nothing)[0])


def test_a_stored_table_is_placed_on_the_devices():
    layer, references = normalise(jnp.asarray(draw(7, c=16))), np.array([0, 2, 5, 6])
    table = pairwise_distances(layer, OPTIONS, references)
    stored = SimpleNamespace(load_table=lambda number, identity, allocate: table)
    layout, loaded = TableLayout.of(mesh_of(3), 7, references), []
    layers = StoredLayers(stored, "", in_memory, table.shape)
    placed = layers.tables([layer], None, lambda: loaded.append(0), layout.split_table, layout.degrees)
    tables = DeviceTables(placed, [layer], OPTIONS, layout)
    assert loaded == [0]
    np.testing.assert_array_equal(tables.host()[0], table)
    means = np.concatenate(
        [np.asarray(mean.values)[: mean.image_count, : mean.reference_count] for mean in tables.means()]
    )
    np.testing.assert_allclose(means, table.mean(axis=0), rtol=1e-6)
