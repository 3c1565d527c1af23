import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.scoring.rescoring import rescore
from tests.support import reference


def test_rescoring_equals_the_definition():
    rng = np.random.default_rng(2)
    scores, features = rng.uniform(size=20), rng.normal(size=(20, 6)) + 2.0
    np.testing.assert_allclose(
        rescore(scores, features, (1, 2, 3), 0), reference.rescore(scores, features, (1, 2, 3)), atol=1e-12
    )


def test_rescoring_of_constant_scores_and_of_small_sets():
    assert not rescore(np.full(4, 0.7), np.ones((4, 3)), (1, 2, 3), 0).any()
    small = rescore(np.array([0.0, 1.0]), np.eye(2), (1, 8, 9), 0)
    np.testing.assert_allclose(small, [0.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_rescoring_commutes_with_the_order_of_the_images(n, seed):
    rng = np.random.default_rng(seed)
    scores, features, order = rng.uniform(size=n), rng.normal(size=(n, 5)), rng.permutation(n)
    straight, shuffled = (rescore(scores[o], features[o], (1, 2, 3), 0) for o in (slice(None), order))
    np.testing.assert_allclose(straight[order], shuffled, atol=1e-9)
