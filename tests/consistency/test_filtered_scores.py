"""Scores after removal of references equal those of tables without them; the tables stay unchanged."""

import numpy as np
import pytest

from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.similarity.host_tables import mean_over_layers, table_scores
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Exclusions, changes_by_removal
from tests.support import planted

N = 14


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("columns", [np.arange(N), np.array([0, 3, 4, 9])])
def test_filtered_scores_are_those_of_filtered_tables(seed, columns):
    tokens = planted.draw(N, group=5, one_off=2, seed=seed)
    comparison = planted.compare(tokens)
    if seed % 2:
        comparison.tables[0][:, 2, 3] = np.inf
    exclusions, subset = planted.draw_exclusions(N, seed), ReferenceSubset(columns, 3)
    before = [table.copy() for table in comparison.tables]

    got = filtered_scores(comparison, subset, exclusions)

    table = comparison.tables[0].copy()
    features = comparison.features
    changes = changes_by_removal(table, features.layers[0], exclusions.removed, np.arange(N), planted.OPTIONS)
    for degree, change in zip(table, changes):
        change.apply(degree)
        degree[exclusions.pairs] = np.inf
        for references, patches in exclusions.masks:
            for i, patch in zip(*np.nonzero(patches)):
                degree[i, references, patch] = np.inf
    want = mean_over_layers([table_scores(table[:, :, columns], 3)])
    usual = np.median(want, axis=1, keepdims=True)
    np.testing.assert_array_equal(got, np.where(exclusions.clipped, np.minimum(want, usual), want))
    for mine, theirs in zip(comparison.tables, before):
        np.testing.assert_array_equal(mine, theirs)


def test_an_empty_filter_changes_nothing():
    comparison = planted.compare(planted.draw(N, group=5))
    subset = comparison.subset(0.3)
    scores = [table_scores(table, subset.k) for table in comparison.tables]
    np.testing.assert_array_equal(
        filtered_scores(comparison, subset, Exclusions.none(comparison.shape)), mean_over_layers(scores)
    )
