import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.similarity.references import pair_count
from codegraph_jax.similarity.schedule import pairs_of_shards


def chosen(n, seed):
    """Some of n images, in ascending order."""
    return np.flatnonzero(np.random.default_rng(seed).uniform(size=n) < 0.4)


def listed(*arguments):
    pairs = list(map(tuple, pairs_of_shards(*arguments).T.tolist()))
    assert len(pairs) == len(set(pairs)), "each pair once"
    return set(pairs)


@given(st.integers(0, 40), st.integers(0, 9), st.integers(0, 10**6))
@settings(deadline=None)
def test_pairs_of_a_shard_with_itself(n, start, seed):
    serves = chosen(n, seed)
    wanted = {(i, j) for i in range(n) for j in range(i + 1, n) if {i, j} & set(serves.tolist())}
    assert listed((start, start + n), (start, start + n), serves + start, None) == wanted
    assert len(wanted) == pair_count(n, len(serves))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 10**6), st.sampled_from([None, 0, 1]))
@settings(deadline=None)
def test_pairs_of_two_shards(n, m, seed, parity):
    serves = chosen(n + m, seed)
    wanted = {(i, j) for i in range(n) for j in range(m) if {i, n + j} & set(serves.tolist())}
    wanted = {(i, j) for i, j in wanted if parity is None or (i + j) % 2 == parity}
    assert listed((0, n), (n, n + m), serves, parity) == (wanted if n or m else set())
