"""The image graph, its communities, and which of them chance does not explain (docs/method.md sections 4.3 and 4.4).

[paper, by name] Images are nodes, suspicious links are edges, Leiden finds dense communities under the constant Potts
model (CPM). [ours] The weights, the resolution and the test.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import graspologic_native
import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from codegraph_jax.consistency.constants import CONSTANTS, MethodConstants
from codegraph_jax.consistency.links import Links
from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.scoring.distances import Distances, as_distances

LEAST_MEMBERS = 3
"""Two images that share a defect are two one-off defects that happen to look alike."""

STRATUM = 4
"""References that are about as like an image as each other. With more, links that only follow likeness make communities
that chance does not explain; with fewer, nothing is exchanged (benchmarks/log/recurring.md, "Chance")."""

TRIALS = 10
"""Independent Leiden runs, of which the best counts."""

Members = tuple[int, ...]


def link_counts(links: Links, images: int) -> Float[np.ndarray, "n n"]:
    """Number of links from a patch of image i to image j."""
    # float32 counts up to 16 million exactly
    counts = np.zeros((images, images), np.float32)
    np.add.at(counts, (links.image, links.target), 1.0)
    return counts


def mutual_weights(counts: Float[np.ndarray, "n n"], is_reference: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """w_ij = the fewer of the links from i to j and from j to i.

    A defect that is merely similar to a recurring one links to the group, but the group does not link back: its
    members have each other. An image that is no reference cannot be linked to, so its own links count alone.
    """
    weights = counts + counts.T
    references = np.ix_(is_reference, is_reference)
    between = counts[references]
    weights[references] = np.minimum(between, between.T)
    return weights


def likeness(distances: Distances | Float[np.ndarray, "n m p"], links: Links) -> Float[np.ndarray, "n m"]:
    """How far every image is from each reference, by the patches that no link starts from: their median distance.

    What the images of a group share does not count, or they would be alike by that alone.
    """
    held = as_distances(distances)
    judged = held.valid()
    unlinked = judged.copy()
    unlinked[links.image, links.patch] = False
    # where nothing is left, what there is
    everything = judged | ~judged.any(axis=1, keepdims=True)
    return held.medians(np.where(unlinked.any(axis=1, keepdims=True), unlinked, everything))


def nearest_first(
    alike: Float[np.ndarray, "n m"], references: Int[np.ndarray, " m"], order: Sequence[int]
) -> list[Int[np.ndarray, " o"]]:
    """For each image, in an order that is given, the other references, those that look like it most first.

    Args:
        alike: distances between images.
        references: image of each column.
        order: images in an order that does not depend on how they were listed; results are places in it.
    """
    place = np.argsort(order)
    columns = np.argsort(place[references])
    targets = place[references[columns]]
    rows = []
    for image in order:
        sorted_columns = np.argsort(alike[image, columns], kind="stable")
        others = targets[sorted_columns]
        rows.append(others[others != place[image]])
    return rows


class Shuffler:
    """Leads the links of every image to other images by a random exchange among targets that are about as like it.

    How many links an image has, how they bundle on few targets (the patches of one image are no independent
    observations), and how much they prefer images that look like it all over stays; only which of several images alike
    they lead to becomes chance.
    """

    def __init__(self, counts: Float[np.ndarray, "n n"], targets: Sequence[Int[np.ndarray, " o"]]):
        """
        Args:
            counts: links from each image to each.
            targets: of `nearest_first`.
        """
        self._shape, self._dtype = counts.shape, counts.dtype
        lengths = np.array([len(others) for others in targets])
        self._numbers = int(lengths.sum())
        self._targets = np.concatenate([np.zeros(0, int), *targets])
        # links are few: only where there are some does it matter who changes places
        rows, places, found = [], [], []
        for i, others in enumerate(targets):
            given = counts[i, others]
            linked = np.flatnonzero(given)
            rows.append(np.full(len(linked), i))
            places.append(linked)
            found.append(given[linked])
        self._rows, place, self._given = (np.concatenate(part) for part in (rows, places, found))
        # where the links and their strata lie in what follows row by row
        first = (np.cumsum(lengths) - lengths)[self._rows]
        self._own = place % STRATUM
        self._stratum = first + place - self._own
        members = self._stratum[:, None] + np.arange(STRATUM)
        self._there = members < (first + lengths[self._rows])[:, None]
        self._members = np.where(self._there, members, 0)

    def __call__(self, generator: np.random.Generator) -> Float[np.ndarray, "n n"]:
        """The links of one exchange [n, n]."""
        drawn = np.zeros(self._shape, self._dtype)
        numbers = generator.random(self._numbers)
        order = np.argsort(np.where(self._there, numbers[self._members], np.inf), axis=1)
        moved = self._stratum + order[np.arange(len(order)), self._own]
        drawn[self._rows, self._targets[moved]] = self._given
        return drawn


def communities(weights: Float[np.ndarray, "n n"], order: Sequence[int], resolution: float, seed: int) -> list[Members]:
    """Leiden communities of three images or more under CPM, each with its members in the given order.

    Args:
        weights: symmetric, zero on the diagonal.
        order: the images in an order that does not depend on how they were listed: Leiden's result depends on the
            order of the edges, seeded or not.
        resolution: links that two members share at least, on average.
        seed: of the algorithm's random moves.
    """
    ordered = np.tril(weights[np.ix_(order, order)], -1)
    ends = np.nonzero(ordered)
    edges = [(f"{a:09d}", f"{b:09d}", float(weight)) for a, b, weight in zip(*ends, ordered[ends])]
    if not edges:
        return []
    _, found = graspologic_native.leiden(
        edges=edges, resolution=resolution, use_modularity=False, iterations=3, seed=seed, trials=TRIALS
    )
    members: dict[int, list[int]] = {}
    for node in sorted(found):
        members.setdefault(found[node], []).append(order[int(node)])
    return [tuple(group) for group in members.values() if len(group) >= LEAST_MEMBERS]


def strength(weights: Float[np.ndarray, "n n"], community: Members) -> float:
    """Mean weight between two members."""
    inside = weights[np.ix_(community, community)]
    return float(inside.sum(dtype=np.float64) / (len(community) * (len(community) - 1)))


def evidence(weights: Float[np.ndarray, "n n"], community: Members) -> float:
    """Links inside a community: what is compared between the graph and its shuffled copies."""
    return float(weights[np.ix_(community, community)].sum(dtype=np.float64) / 2.0)


def significant_communities(
    counts: Float[np.ndarray, "n n"],
    alike: Float[np.ndarray, "n m"],
    references: Int[np.ndarray, " m"],
    order: Sequence[int],
    constants: MethodConstants = CONSTANTS,
) -> list[tuple[Members, float]]:
    """Communities that shuffled graphs do not give, with their p-values, strongest evidence first.

    The p-value of a community is the share of shuffled graphs in which any community holds as many links. It so pays
    for the search through all communities: if nothing recurs and images are no more like each other than chance has
    it, the chance that anything is found is `significance`; where they are, it is more (benchmarks/log/recurring.md,
    "Chance").

    Args:
        counts: links from each image to each.
        alike: of `likeness`.
        references: image of each of its columns.
        order: the images in an order that does not depend on how they were listed.
        constants: significance, resolution and permutations.
    """
    is_reference = np.isin(np.arange(len(counts)), references)
    observed = mutual_weights(counts, is_reference)
    generator = np.random.default_rng(0)
    position = np.argsort(order)
    canonical, canonical_reference = counts[np.ix_(order, order)], is_reference[order]
    shuffled = Shuffler(canonical, nearest_first(alike, references, order))
    entries = len(counts) * (len(counts) - 1)
    resolution, chance = constants.resolution, []
    for _ in range(constants.permutations):
        weights = mutual_weights(shuffled(generator), canonical_reference)
        # a community must be denser than a shuffled graph is as a whole
        resolution = max(resolution, float(weights.sum(dtype=np.float64) / entries))
        # nearly all of it is zero, and for thousands of images two hundred of them would fill the memory
        chance.append(csr_array(weights))
    found = communities(observed, order, resolution, seed=0)
    if not found:
        return []
    identity = range(len(counts))

    def strongest(sparse: csr_array) -> float:
        weights = sparse.toarray()
        by_chance = communities(weights, identity, resolution, seed=0)
        return max((evidence(weights, members) for members in by_chance), default=0.0)

    # Leiden releases the interpreter; of large graphs few exist at once
    with ThreadPoolExecutor(min(CPU_THREADS, at_once(2 * counts.nbytes))) as pool:
        best = list(pool.map(strongest, chance))
    tested = [
        (community, (1 + sum(b >= evidence(observed, community) for b in best)) / (1 + len(best)))
        for community in found
    ]
    kept = [(community, p_value) for community, p_value in tested if p_value <= constants.significance]
    return sorted(kept, key=lambda item: (-evidence(observed, item[0]), [position[i] for i in item[0]]))


def image_graph(weights: Float[np.ndarray, "n n"], links: Links) -> nx.Graph:
    """The graph as networkx: nodes are image indices, edges carry `weight` and `links` = [(image, patch, target)]."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(weights)))
    for i, j in zip(*np.nonzero(np.triu(weights, 1))):
        graph.add_edge(int(i), int(j), weight=float(weights[i, j]), links=[])
    for image, patch, target in zip(links.image.tolist(), links.patch.tolist(), links.target.tolist()):
        if graph.has_edge(image, target):
            graph.edges[image, target]["links"].append((image, patch, target))
    return graph
