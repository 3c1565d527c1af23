import numpy as np
import pytest

from codegraph_jax.similarity.host_tables import mean_of_smallest, table_scores
from codegraph_jax.similarity.references import neighbour_count
from tests.support import reference


@pytest.mark.parametrize("references,k", [(2, 1), (3, 1), (5, 1), (8, 2), (84, 24), (201, 60)])
def test_neighbour_count_follows_musc_and_never_reaches_zero(references, k):
    assert neighbour_count(references, 0.3) == k


def test_mutual_scores_equal_the_definition():
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 2, size=(2, 12, 12, 9)).astype(np.float32)
    table[:, np.arange(12), np.arange(12)] = np.inf
    got = table_scores(table, neighbour_count(12, 0.3))
    want = np.stack([reference.mutual_scores(degree.astype(np.float64), 0.3) for degree in table])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_excluded_references_are_left_out_of_the_mean():
    table = np.array([[1.0, np.inf], [3.0, np.inf], [np.inf, np.inf], [2.0, 5.0]], np.float32)
    np.testing.assert_allclose(mean_of_smallest(table, 2), [1.5, 5.0])
    np.testing.assert_allclose(mean_of_smallest(table, 9), [2.0, 5.0])
    assert np.isinf(mean_of_smallest(np.full((3, 1), np.inf, np.float32), 2)[0])
    assert np.isinf(mean_of_smallest(np.zeros((0, 1), np.float32), 2)[0])
