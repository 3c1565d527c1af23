"""Tables over several devices: those of one, bit for bit, wherever an image lies."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.tiles import DistanceOptions
from tests.similarity.test_pairwise import DEGREES, GRID, draw

OPTIONS = DistanceOptions("reuse", DEGREES, GRID, "float32")


def tables_on(layers, references, devices, **more):
    mesh = DeviceMesh(tuple(jax.devices()[:devices]))
    return DeviceTables([np.asarray(layer) for layer in layers], references, OPTIONS, mesh, 2, **more)


@pytest.mark.parametrize(
    "n,devices,references,kept_layers",
    [pytest.param(2, 3, [0, 1], None, marks=pytest.mark.slow), (13, 2, [0, 2, 6, 12], 0)],
)
def test_tables_and_scores_are_those_of_one_device(n, devices, references, kept_layers):
    layer, references = normalise(jnp.asarray(draw(n, c=16))), np.array(references)
    done = []
    several, one = (
        tables_on([layer], references, d, kept_layers=kept_layers, advance=done.append) for d in (devices, 1)
    )
    np.testing.assert_array_equal(several.host()[0], pairwise_distances(layer, OPTIONS, references))
    assert sum(done) == 2 * (len(references) * (len(references) - 1) // 2 + len(references) * (n - len(references)))
    removed = np.random.default_rng(n).uniform(size=layer.shape[:2]) < 0.2
    columns, exclusions = np.arange(len(references)), replace(Exclusions.none(several.shape), removed=removed)
    for tables in zip(several.scores(2, columns), one.scores(2, columns)):
        np.testing.assert_array_equal(*tables)
    changed, expected = (tables.scores_without(2, columns, exclusions, ())[0] for tables in (several, one))
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    assert not np.array_equal(changed, several.scores(2, columns)[0])


def test_an_earlier_start_has_the_table():
    layer, references = normalise(jnp.asarray(draw(7, c=16))), np.array([0, 2, 5, 6])
    table = pairwise_distances(layer, OPTIONS, references)
    stored = SimpleNamespace(find=lambda number: table, save=None)
    tables = tables_on([layer], references, 3, store=stored)
    np.testing.assert_array_equal(tables.host()[0], table)
    means = np.concatenate(
        [np.asarray(mean.values)[: mean.image_count, : mean.reference_count] for mean in tables.means()]
    )
    np.testing.assert_allclose(means, table.mean(axis=0), rtol=1e-6)
