"""Distances kept on one or several devices: tables, scores and groups equal those on the host."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.copy_counts import counted_copies
from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.consistency.stages import find_recurring_patterns
from codegraph_jax.core.arrays import padded_size
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features.on_device import DeviceFeatureBuffer
from codegraph_jax.similarity import device_tables
from codegraph_jax.similarity.removal import Exclusions
from tests.support import planted
from tests.support.compiled_programs import compiled_programs
from tests.support.device_tables import tables_on

CLOSE = 2e-6
FRACTION = 0.3


def on_device(comparison, batch=8, devices=1):
    """The same comparison with features and tables on a device, the features put together batch by batch; or with
    tables on several, for which features stay on the host."""
    mesh, layers = DeviceMesh(tuple(jax.devices()[:devices])), [np.asarray(x) for x in comparison.features.layers]
    if devices == 1:
        layers = placed(comparison.features, batch)
    tables = tables_on(mesh, layers, comparison.references, comparison.options, comparison.features.placement.inspected)
    return dataclasses.replace(
        comparison, features=dataclasses.replace(comparison.features, layers=layers), tables=tables
    )


def placed(features, batch):
    device = jax.devices()[0]
    layers = DeviceFeatureBuffer(padded_size(len(features.kept)), device)
    for start in range(0, len(features.kept), batch):
        places = np.arange(start, min(start + batch, len(features.kept)))
        filled = np.resize(places, batch)
        layers.add(places, [np.asarray(layer)[filled] for layer in features.layers])
    return layers.keep(np.arange(len(features.kept)))


FILTERING = RecurringConfig(defects="all")
"""All recurring patches are removed, so that removal is tested."""


def score(comparison):
    """(scores before, groups, removed patches, scores after)."""
    subset = comparison.subset(FRACTION)
    scores = comparison.tables.scores(subset, Exclusions.none(comparison.shape))
    found, exclusions = find_recurring_patterns(comparison, subset.k, FILTERING)
    return scores, found, exclusions, filtered_scores(comparison, subset, exclusions)


def assert_same_patterns(here, there):
    for mine, theirs in zip(here[0], there[0]):
        np.testing.assert_allclose(mine, theirs, atol=CLOSE)
    for mine, theirs in zip(here[1].groups, there[1].groups, strict=True):
        assert (mine.members, mine.boxes, mine.verdict) == (theirs.members, theirs.boxes, theirs.verdict)
        np.testing.assert_allclose(mine.chance_p_value, theirs.chance_p_value)
    np.testing.assert_array_equal(here[1].pattern_numbers, there[1].pattern_numbers)
    assert (here[1].duplicates, here[1].views) == (there[1].duplicates, there[1].views)
    np.testing.assert_array_equal(here[2].removed, there[2].removed)
    np.testing.assert_allclose(here[3], there[3], atol=CLOSE)


@pytest.mark.parametrize(
    "change,devices",
    [
        ({}, 1),
        pytest.param({"kernel": "reuse", "degrees": (1, 3)}, 1, marks=pytest.mark.slow),
        pytest.param({"precision": "bfloat16", "pairs_per_product": 4}, 1, marks=pytest.mark.slow),
        ({"radius": 5}, 1),
        ({"precision": "bfloat16", "pairs_per_product": 4}, 2),
    ],
    ids=str,
)
def test_a_recurring_defect_is_found_and_filtered_the_same(change, devices):
    comparison = planted.compare(planted.draw(n=40, group=8, one_off=4), options=planted.OPTIONS._replace(**change))
    there = on_device(comparison, devices=devices)
    for mine, theirs in zip(there.tables.host(), comparison.tables):
        np.testing.assert_array_equal(mine, theirs)
    here, there = score(comparison), score(there)
    assert_same_patterns(here, there)
    assert here[2].removed.any()


@pytest.mark.parametrize("seed,devices", [(0, 1), pytest.param(1, 1, marks=pytest.mark.slow), (0, 2)])
def test_device_tables_give_the_same_with_subset_added_images_twins_and_excluded_patches(seed, devices):
    tokens = planted.draw(n=60, group=10, one_off=4, seed=seed)
    tokens[30] = tokens[31] + 0.01 * tokens[30]
    normalised = planted.table(tokens)[0]
    inspected = np.ones((60, 64), bool)
    inspected[::3, 5:9] = inspected[7, 40:] = False
    references = np.setdiff1d(np.arange(55), [9, 20, 33])
    options = planted.OPTIONS._replace(masked=True)
    comparison = planted.compare(np.where(inspected[..., None], normalised, 0), references, options, inspected)
    comparison = dataclasses.replace(comparison, added_count=5)
    here, there = score(comparison), score(on_device(comparison, devices=devices))
    assert_same_patterns(here, there)
    assert here[1].duplicates and here[2].removed.any()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_copies_do_not_grow_with_the_images(monkeypatch, devices):
    """Apart from the calls that make a table, at most `CALLS` of them.

    Implicit copies to the device are refused, except of features of a few images if these are on the host.
    """
    monkeypatch.setattr(device_tables, "CALLS", 1)

    def copies(n):
        comparison = planted.compare(planted.draw(n=n, group=8, one_off=4))
        with counted_copies() as copies:
            with jax.transfer_guard_host_to_device("disallow"):
                there = on_device(comparison, batch=190, devices=devices)
            made = dataclasses.replace(copies)
            with jax.transfer_guard_host_to_device("disallow" if devices == 1 else "allow"):
                score(there)
        return made, copies

    few, many = copies(130), copies(190)
    for fewer, more in zip(few, many):
        assert more.to_device <= fewer.to_device + 4
        assert more.to_host == fewer.to_host


def test_sets_of_many_sizes_share_their_programs():
    def all_of_it(n):
        score(on_device(planted.compare(planted.draw(n=n, group=8, one_off=4, seed=n)), batch=8))

    all_of_it(64)
    inputs = {n: planted.compare(planted.draw(n=n, group=8, one_off=4, seed=n)) for n in (35, 63)}
    with compiled_programs() as programs:
        for comparison in inputs.values():
            score(on_device(comparison))
    assert not programs
