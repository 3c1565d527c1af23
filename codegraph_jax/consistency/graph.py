"""The image graph, its communities, and their significance (docs/method.md sections 4.3 and 4.4).

[paper, by name] Images are nodes, suspicious links are edges, and Leiden finds dense communities under the constant
Potts model (CPM). [ours] The weights, the resolution and the test.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import graspologic_native
import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from codegraph_jax.consistency.groups import empty_graph
from codegraph_jax.consistency.links import Links
from codegraph_jax.core.arrays import CPU_THREADS, arrays_at_once
from codegraph_jax.scoring.distances import Distances

if TYPE_CHECKING:
    import networkx as nx

SIGNIFICANCE = 0.01
"""Probability that a set without recurring patterns has a community [ours: the usual 1%]. The true probability is
greater if images are similar to each other."""

RESOLUTION = 0.5
"""Least resolution of the constant Potts model: mean number of links between two members [paper, by name; value
ours]."""

PERMUTATIONS = 199
"""Number of shuffled graphs in the test of communities [ours: p-values in steps of 1 in 200]."""

MIN_MEMBERS = 3
"""A defect on two images may be two one-off defects that resemble each other."""

STRATUM_SIZE = 4
"""Number of consecutive references, by similarity to an image, among which its links are shuffled. In larger strata,
links that only follow similarity give significant communities; in smaller ones, shuffling changes nothing
(benchmarks/log/recurring.md, "Chance")."""

TRIALS = 10
"""Number of independent Leiden runs; the best is used."""

Members = tuple[int, ...]


class Community(NamedTuple):
    """Images that are joined by more links than chance explains; `p_value` is the probability of as many by chance."""

    members: Members
    p_value: float


def link_counts(links: Links, image_count: int) -> Float[np.ndarray, "n n"]:
    """Number of links from a patch of image i to image j."""
    # float32 counts up to 16 million exactly
    counts = np.zeros((image_count, image_count), np.float32)
    np.add.at(counts, (links.image, links.target), 1.0)
    return counts


def mutual_weights(counts: Float[np.ndarray, "n n"], is_reference: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """w_ij = the smaller number of the links from i to j and from j to i.

    A one-off defect that is similar to a recurring one links to the group, but the group does not link back, since its
    members are closer to each other. Nothing links to images that are not references, so only their own links count.
    """
    weights = counts + counts.T
    references = np.ix_(is_reference, is_reference)
    between = counts[references]
    weights[references] = np.minimum(between, between.T)
    return weights


def background_distances(distances: Distances, links: Links) -> Float[np.ndarray, "n m"]:
    """Distance of each image to each reference: the median over the patches of the image without links.

    Linked patches are left out, since a shared defect alone would make images similar.
    """
    valid = distances.valid()
    unlinked = valid.copy()
    unlinked[links.image, links.patch] = False
    # images without unlinked patches use all inspected ones, or else all
    fallback = valid | ~valid.any(axis=1, keepdims=True)
    return distances.medians(np.where(unlinked.any(axis=1, keepdims=True), unlinked, fallback))


def nearest_first(
    background: Float[np.ndarray, "n m"], references: Int[np.ndarray, " m"], order: Sequence[int]
) -> list[Int[np.ndarray, " o"]]:
    """For each image in the given order, the other references, the most similar first, as positions in the order.

    `background` are the distances between images, and `references` the image of each column.
    """
    position = np.argsort(order)
    columns = np.argsort(position[references])
    targets = position[references[columns]]
    rows = []
    for image in order:
        sorted_columns = np.argsort(background[image, columns], kind="stable")
        others = targets[sorted_columns]
        rows.append(others[others != position[image]])
    return rows


class Shuffler:
    """Shuffles the targets of the links of each image among references of about the same similarity to it.

    This keeps the number of links of each image, their concentration on few targets (the patches of an image are not
    independent observations), and their preference for similar images; only the choice within a stratum is random.
    `targets` is the result of `nearest_first`.
    """

    def __init__(self, counts: Float[np.ndarray, "n n"], targets: Sequence[Int[np.ndarray, " o"]]):
        self._shape, self._dtype = counts.shape, counts.dtype
        lengths = np.array([len(others) for others in targets])
        self._numbers = int(lengths.sum())
        self._targets = np.concatenate([np.zeros(0, int), *targets])
        # few pairs of images are linked, so only these are shuffled
        rows, ranks, linked_counts = [], [], []
        for i, others in enumerate(targets):
            given = counts[i, others]
            linked = np.flatnonzero(given)
            rows.append(np.full(len(linked), i))
            ranks.append(linked)
            linked_counts.append(given[linked])
        self._rows, rank, self._given = (np.concatenate(blocks) for blocks in (rows, ranks, linked_counts))
        # positions of the links and their strata in the concatenated targets
        first = (np.cumsum(lengths) - lengths)[self._rows]
        self._offset = rank % STRATUM_SIZE
        self._stratum = first + rank - self._offset
        members = self._stratum[:, None] + np.arange(STRATUM_SIZE)
        self._inside = members < (first + lengths[self._rows])[:, None]
        self._members = np.where(self._inside, members, 0)

    def __call__(self, generator: np.random.Generator) -> Float[np.ndarray, "n n"]:
        """Shuffled numbers of links from each image to each image."""
        drawn = np.zeros(self._shape, self._dtype)
        numbers = generator.random(self._numbers)
        order = np.argsort(np.where(self._inside, numbers[self._members], np.inf), axis=1)
        moved = self._stratum + order[np.arange(len(order)), self._offset]
        drawn[self._rows, self._targets[moved]] = self._given
        return drawn


def communities(weights: Float[np.ndarray, "n n"], order: Sequence[int], resolution: float) -> list[Members]:
    """Leiden communities of at least three images under CPM, each with its members in the given order.

    `order` must not depend on the listing of the images, since Leiden's result depends on the order of edges. The mean
    weight between two members is at least `resolution`.
    """
    ordered = np.tril(weights[np.ix_(order, order)], -1)
    ends = np.nonzero(ordered)
    edges = [(f"{a:09d}", f"{b:09d}", float(weight)) for a, b, weight in zip(*ends, ordered[ends])]
    if not edges:
        return []
    _, partition = graspologic_native.leiden(
        edges=edges, resolution=resolution, use_modularity=False, iterations=3, seed=0, trials=TRIALS
    )
    members: dict[int, list[int]] = {}
    for node in sorted(partition):
        members.setdefault(partition[node], []).append(order[int(node)])
    return [tuple(group) for group in members.values() if len(group) >= MIN_MEMBERS]


def strength(weights: Float[np.ndarray, "n n"], community: Members) -> float:
    """Mean weight between two members."""
    return 2 * internal_weight(weights, community) / (len(community) * (len(community) - 1))


def internal_weight(weights: Float[np.ndarray, "n n"], community: Members) -> float:
    """Total weight inside a community: the test statistic."""
    return float(weights[np.ix_(community, community)].sum(dtype=np.float64) / 2.0)


def significant_communities(
    counts: Float[np.ndarray, "n n"],
    background: Float[np.ndarray, "n m"],
    references: Int[np.ndarray, " m"],
    order: Sequence[int],
    significance: float = SIGNIFICANCE,
    permutations: int = PERMUTATIONS,
) -> list[Community]:
    """Communities that shuffled graphs rarely have, with their p-values, most links first.

    The p-value is the share of shuffled graphs with any community of as many links, so it accounts for the search over
    all communities. Without recurring patterns, the probability of finding a community is `significance`; it is greater
    if some images are similar to each other (benchmarks/log/recurring.md, "Chance"). `counts` has the links from each
    image to each image, `background` the result of `background_distances`, and `order` the images in an order
    independent of their listing.
    """
    is_reference = np.isin(np.arange(len(counts)), references)
    observed = mutual_weights(counts, is_reference)
    generator = np.random.default_rng(0)
    position = np.argsort(order)
    canonical, canonical_reference = counts[np.ix_(order, order)], is_reference[order]
    shuffled = Shuffler(canonical, nearest_first(background, references, order))
    entries = len(counts) * (len(counts) - 1)
    resolution, chance = RESOLUTION, []
    for _ in range(permutations):
        weights = mutual_weights(shuffled(generator), canonical_reference)
        # a community must be denser than any shuffled graph
        resolution = max(resolution, float(weights.sum(dtype=np.float64) / entries))
        # sparse, since 200 dense graphs of thousands of images would fill the memory
        chance.append(scipy.sparse.csr_array(weights))
    candidates = communities(observed, order, resolution)
    if not candidates:
        return []
    identity = range(len(counts))

    def strongest(sparse: scipy.sparse.csr_array) -> float:
        weights = sparse.toarray()
        by_chance = communities(weights, identity, resolution)
        return max((internal_weight(weights, members) for members in by_chance), default=0.0)

    # Leiden releases the GIL; memory limits the number of large graphs at once
    with ThreadPoolExecutor(min(CPU_THREADS, arrays_at_once(2 * counts.nbytes))) as pool:
        best = list(pool.map(strongest, chance))
    tested = [
        Community(members, (1 + sum(b >= internal_weight(observed, members) for b in best)) / (1 + len(best)))
        for members in candidates
    ]
    kept = [community for community in tested if community.p_value <= significance]
    return sorted(kept, key=lambda one: (-internal_weight(observed, one.members), [position[i] for i in one.members]))


def image_graph(weights: Float[np.ndarray, "n n"], links: Links) -> "nx.Graph":
    """The graph in networkx: nodes are image indices, edges have `weight` and `links` = [(image, patch, target)]."""
    graph = empty_graph()
    graph.add_nodes_from(range(len(weights)))
    for i, j in zip(*np.nonzero(np.triu(weights, 1))):
        graph.add_edge(int(i), int(j), weight=float(weights[i, j]), links=[])
    for image, patch, target in zip(links.image.tolist(), links.patch.tolist(), links.target.tolist()):
        if graph.has_edge(image, target):
            graph.edges[image, target]["links"].append((image, patch, target))
    return graph
