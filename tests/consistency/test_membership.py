import numpy as np
import pytest

from codegraph_jax.consistency.membership import MAX_AFFINITY, affinities, with_missed_members
from codegraph_jax.scoring.distances import as_distances
from codegraph_jax.similarity.references import neighbour_count
from tests.support.planted import REGION, draw, table


def grown(tokens, communities):
    distances = table(tokens)[1][0]
    references = np.arange(len(tokens))
    k = neighbour_count(len(tokens), 0.3)
    return with_missed_members(communities, as_distances(distances, references), k)


@pytest.mark.parametrize("seed", range(4))
def test_missed_members_join_and_no_others(seed):
    tokens = draw(n=60, group=8, one_off=6, seed=seed)
    (members,) = grown(tokens, [(0, 1, 2, 3)])
    assert sorted(members) == list(range(8))


def test_no_image_joins_a_group_that_shares_nothing():
    tokens = draw(n=60, group=0, one_off=6)
    assert grown(tokens, [(20, 30, 40)]) == [(20, 30, 40)]
    assert grown(tokens, []) == []


def test_of_two_communities_the_nearer_one_is_joined():
    tokens = draw(n=60, group=10, one_off=0)
    rng = np.random.default_rng(9)
    other = 2.5 * rng.normal(size=(len(REGION), tokens.shape[2]))
    tokens[50:, REGION + 24] = other + 0.4 * rng.normal(size=(10, len(REGION), tokens.shape[2]))
    first, second = grown(tokens, [tuple(range(7)), tuple(range(50, 57))])
    assert sorted(first) == list(range(10)) and sorted(second) == list(range(50, 60))


def test_affinity_is_the_least_ratio_at_patches_that_stand_out():
    distances = np.array([[0.4, 0.1], [0.4, 0.1], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]], np.float32)
    inside, outside = np.arange(2), np.arange(2, 6)
    assert affinities(as_distances(distances[None]), [0], inside, outside, 0.5) == pytest.approx([0.5])
    assert affinities(as_distances(distances[None]), [0], inside, outside, 0.9) == [np.inf]
    assert affinities(as_distances(distances[None]), [0], inside, outside[:3], 0.5) == [np.inf]
    assert 0 < MAX_AFFINITY < 1
