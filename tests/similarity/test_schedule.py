import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.similarity.pairwise import schedule_length
from codegraph_jax.similarity.schedule import pairs_between, pairs_within


def chosen(n, seed):
    """Some of n images, in ascending order."""
    return np.flatnonzero(np.random.default_rng(seed).uniform(size=n) < 0.4)


def written_down(listing):
    return np.stack(listing.at(np.arange(len(listing))))


@given(st.integers(0, 40), st.integers(0, 10**6))
@settings(deadline=None)
def test_pairs_within_are_those_of_the_plain_list(n, seed):
    serves = chosen(n, seed)
    first, second = np.triu_indices(n, 1)
    needed = np.isin(first, serves) | np.isin(second, serves)
    np.testing.assert_array_equal(written_down(pairs_within(n, serves)), np.stack([first[needed], second[needed]]))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 10**6), st.sampled_from([None, 0, 1]))
@settings(deadline=None)
def test_pairs_between_are_those_of_the_plain_list(n, m, seed, parity):
    left, right = chosen(n, seed), chosen(m, seed + 1)
    i, j = (x.ravel() for x in np.indices((n, m)))
    needed = np.isin(i, left) | np.isin(j, right)
    if parity is not None:
        needed &= (i + j) % 2 == parity
    np.testing.assert_array_equal(written_down(pairs_between(n, m, left, right, parity)), np.stack([i, j])[:, needed])


@pytest.mark.parametrize("references", [100_000, 256])
def test_a_schedule_takes_memory_for_its_images_only(references):
    n = 100_000
    pairs = pairs_within(n, np.arange(references))
    assert len(pairs) == schedule_length(n, references)
    assert len(pairs) == references * (references - 1) // 2 + references * (n - references)
    assert sum(array.nbytes for array in (pairs.offsets, pairs.begin, pairs.partners)) < 50 * n
    first, second = pairs.at(np.array([0, n - 2, n - 1, len(pairs) - 1]))
    np.testing.assert_array_equal([first, second], [[0, 0, 1, min(references, n - 1) - 1], [1, n - 1, 2, n - 1]])
