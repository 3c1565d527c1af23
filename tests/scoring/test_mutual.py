import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.scoring.mutual import anomaly_maps, mean_of_smallest, mutual_scores, neighbour_count, rescore
from tests.support import reference


@pytest.mark.parametrize("references,k", [(2, 1), (3, 1), (5, 1), (8, 2), (84, 24), (201, 60)])
def test_neighbour_count_follows_musc_and_never_reaches_zero(references, k):
    assert neighbour_count(references, 0.3) == k


def test_mutual_scores_equal_the_definition():
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 2, size=(2, 12, 12, 9)).astype(np.float32)
    table[:, np.arange(12), np.arange(12)] = np.inf
    got = mutual_scores(table, neighbour_count(12, 0.3))
    want = np.stack([reference.mutual_scores(degree.astype(np.float64), 0.3) for degree in table])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_references_that_must_not_serve_leave_the_mean():
    table = np.array([[1.0, np.inf], [3.0, np.inf], [np.inf, np.inf], [2.0, 5.0]], np.float32)
    np.testing.assert_allclose(mean_of_smallest(table, 2), [1.5, 5.0])
    np.testing.assert_allclose(mean_of_smallest(table, 9), [2.0, 5.0])
    assert np.isinf(mean_of_smallest(np.full((3, 1), np.inf, np.float32), 2)[0])


@pytest.mark.parametrize("grid,size", [((5, 7), 40), ((16, 16), 224), ((2, 3), 2)])
def test_maps_interpolate_with_aligned_corners(grid, size):
    scores = np.random.default_rng(1).uniform(size=(3, *grid)).astype(np.float32)
    got = np.asarray(anomaly_maps(jnp.asarray(scores), size))
    np.testing.assert_allclose(got, np.stack([reference.upsample(s, size) for s in scores]), atol=1e-6)
    corners = np.ix_(range(3), (0, -1), (0, -1))
    np.testing.assert_allclose(got[corners], scores[corners], atol=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 1)])
def test_maps_of_a_single_row_or_column(grid):
    scores = np.arange(np.prod(grid), dtype=np.float32).reshape(1, *grid)
    got = np.asarray(anomaly_maps(jnp.asarray(scores), 8))
    assert got.shape == (1, 8, 8)
    np.testing.assert_allclose([got.min(), got.max()], [scores.min(), scores.max()], atol=1e-6)


def test_rescoring_equals_the_definition():
    rng = np.random.default_rng(2)
    scores, features = rng.uniform(size=20), rng.normal(size=(20, 6)) + 2.0
    np.testing.assert_allclose(
        rescore(scores, features, (1, 2, 3)), reference.rescore(scores, features, (1, 2, 3)), atol=1e-12
    )


def test_rescoring_of_constant_scores_and_of_small_sets():
    assert not rescore(np.full(4, 0.7), np.ones((4, 3)), (1, 2, 3)).any()
    small = rescore(np.array([0.0, 1.0]), np.eye(2), (1, 8, 9))
    np.testing.assert_allclose(small, [0.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_rescoring_commutes_with_the_order_of_the_images(n, seed):
    rng = np.random.default_rng(seed)
    scores, features, order = rng.uniform(size=n), rng.normal(size=(n, 5)), rng.permutation(n)
    straight, shuffled = rescore(scores, features, (1, 2, 3)), rescore(scores[order], features[order], (1, 2, 3))
    np.testing.assert_allclose(straight[order], shuffled, atol=1e-9)
