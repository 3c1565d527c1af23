import tracemalloc

import numpy as np
import pytest

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.graph import (
    communities,
    image_graph,
    mutual_weights,
    shuffled,
    significant_communities,
    strength,
)
from codegraph_jax.consistency.links import Links


def planted_counts(n=40, group=8, seed=0, noise=0.03):
    """Links inside the first `group` images, and some that lead anywhere."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(noise, size=(n, n)).astype(float)
    counts[:group, :group] += rng.poisson(4.0, size=(group, group))
    np.fill_diagonal(counts, 0)
    return counts


def test_weights_need_links_both_ways_between_references():
    counts = np.array([[0, 5, 2], [3, 0, 0], [1, 4, 0]], float)
    everyone = mutual_weights(counts, np.ones(3, bool))
    np.testing.assert_array_equal(everyone, [[0, 3, 1], [3, 0, 0], [1, 0, 0]])
    # image 2 is no reference: nobody can link to it, so its own links count
    two = mutual_weights(counts * [1, 1, 0], np.array([True, True, False]))
    np.testing.assert_array_equal(two, [[0, 3, 1], [3, 0, 4], [1, 4, 0]])


def test_shuffling_keeps_how_many_links_an_image_has_and_how_they_bundle():
    counts = planted_counts()
    drawn = shuffled(counts, np.arange(40), np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.sort(counts, axis=1))
    assert not np.diag(drawn).any()
    assert (drawn != counts).any()


def test_the_planted_group_is_the_only_significant_community():
    found = significant_communities(planted_counts(), np.ones(40, bool), range(40), ConsistencyConfig())
    (members, p_value), *others = found
    assert sorted(members) == list(range(8)) and not others
    assert p_value == pytest.approx(1 / 200)


def test_chance_gives_communities_no_more_often_than_promised():
    config = ConsistencyConfig(significance=0.05, permutations=39)
    flagged = 0
    for seed in range(40):
        counts = planted_counts(n=30, group=0, seed=seed, noise=0.6)
        flagged += bool(significant_communities(counts, np.ones(30, bool), range(30), config))
    # binomial(40, 0.05) exceeds 6 less than once in 200
    assert flagged <= 6


def test_the_order_of_the_images_does_not_matter():
    counts, rng = planted_counts(noise=0.2), np.random.default_rng(3)
    straight = significant_communities(counts, np.ones(40, bool), range(40), ConsistencyConfig())
    for _ in range(5):
        order = rng.permutation(40)  # place -> image
        canonical = np.argsort(order).tolist()
        shuffled_counts = counts[np.ix_(order, order)]
        found = significant_communities(shuffled_counts, np.ones(40, bool), canonical, ConsistencyConfig())
        assert [({int(order[i]) for i in members}, p) for members, p in found] == [(set(m), p) for m, p in straight]


def test_two_images_are_no_community_and_no_links_no_graph():
    weights = np.zeros((5, 5))
    assert communities(weights, range(5), 0.5, seed=0) == []
    weights[0, 1] = weights[1, 0] = 9
    assert communities(weights, range(5), 0.5, seed=0) == []
    weights[[0, 2, 1, 2], [2, 0, 2, 1]] = 9
    assert [sorted(c) for c in communities(weights, range(5), 0.5, seed=0)] == [[0, 1, 2]]
    assert strength(weights, (0, 1, 2)) == 9


def test_the_networkx_graph_carries_the_patch_links():
    links = Links(np.array([0, 1, 2]), np.array([7, 8, 9]), np.array([1, 0, 0]), np.zeros(3))
    graph = image_graph(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], float), links)
    assert set(graph.nodes) == {0, 1, 2}
    assert graph.edges[0, 1]["weight"] == 1.0
    assert graph.edges[0, 1]["links"] == [(0, 7, 1), (1, 8, 0)]


def test_shuffled_graphs_of_many_images_fit_in_memory():
    # two hundred full matrices of 5,000 images would be 40 GB
    counts = planted_counts(n=300, group=20, noise=0.01)
    tracemalloc.start()
    try:
        found = significant_communities(counts, np.ones(300, bool), range(300), ConsistencyConfig())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [sorted(members) for members, _ in found] == [list(range(20))]
    assert peak < 40 * counts.nbytes
