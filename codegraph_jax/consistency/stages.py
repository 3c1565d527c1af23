"""The consistency stages in order: duplicates, links, selection, graph, communities, views, flagged patches.

CoDeGraph, arXiv:2510.10456; codegraph.md section 5 says what is the paper's and what is this project's.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.community import Community, Consistency
from codegraph_jax.consistency.duplicates import duplicate_pairs, groups
from codegraph_jax.consistency.filtering import community_boxes, flag_patches
from codegraph_jax.consistency.graph import (
    Members,
    image_graph,
    link_counts,
    mutual_weights,
    significant_communities,
    strength,
)
from codegraph_jax.consistency.law import measure_law
from codegraph_jax.consistency.links import Links, find_links, select_by_coverage
from codegraph_jax.consistency.membership import with_missed_members
from codegraph_jax.consistency.views import VIEW, agreement_elsewhere
from codegraph_jax.scoring.mutual import mutual_scores


def mean_distances(tables: Sequence[Float[np.ndarray, "r n m p"]]) -> Float[np.ndarray, "n m p"]:
    """Mean over layers and degrees, on which all decisions are made."""
    total = np.zeros(tables[0].shape[1:], np.float32)
    for table in tables:
        for degree in table:
            total += degree
    total /= sum(len(table) for table in tables)
    return total


def find_consistent(
    tables: Sequence[Float[np.ndarray, "r n m p"]],
    references: Int[np.ndarray, " m"],
    keys: Sequence[bytes],
    k: int,
    grid: tuple[int, int],
    config: ConsistencyConfig,
) -> Consistency:
    """Finds what recurs.

    Args:
        tables: distances of each layer; duplicates are taken out of each other's references, in place.
        references: image of each column.
        keys: content of each image; ties between images are broken by it, never by their place in the list.
        k: neighbours that a score averages.
        grid: (h, w) with h * w = p.
        config: see `ConsistencyConfig`.
    """
    distances = mean_distances(tables)
    images = len(distances)
    duplicates = duplicate_pairs(distances, references)
    for table in (distances[None], *tables):
        table[:, duplicates] = np.inf
    is_reference = np.isin(np.arange(images), references)
    links = select_by_coverage(find_links(distances, references, config), images, config.coverage)
    counts = link_counts(links, images)
    order = sorted(range(images), key=lambda i: keys[i])
    found = significant_communities(counts, is_reference, order, config)
    found, views = _without_views(found, links, distances, references, k, grid, config)
    whole = with_missed_members([members for members, _ in found], distances, references, k, config)
    found = [(members, p_value) for members, (_, p_value) in zip(whole, found)]
    flagged = flag_patches(distances, references, [members for members, _ in found], k, config)

    weights = mutual_weights(counts, is_reference)
    communities = []
    for members, p_value in found:
        typical = tuple(sorted(members, key=lambda i: (-weights[i, list(members)].sum(), keys[i])))
        boxes = community_boxes(flagged, typical, grid)
        communities.append(Community(typical, strength(weights, members), p_value, boxes))
    return Consistency(
        tuple(communities),
        groups(duplicates, references),
        views,
        image_graph(weights, links),
        flagged.reshape(images, *grid),
        measure_law(distances, mutual_scores(distances[None], k)[0], flagged),
    )


def _without_views(
    found: Sequence[tuple[Members, float]],
    links: Links,
    distances: Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    k: int,
    grid: tuple[int, int],
    config: ConsistencyConfig,
) -> tuple[list[tuple[Members, float]], tuple[Members, ...]]:
    """Tells the communities that share a defect from those that share a view."""
    tied = flag_patches(distances, references, [members for members, _ in found], k, config)
    tied[links.image, links.patch] = True
    agreement = [agreement_elsewhere(distances, references, members, tied, grid) for members, _ in found]
    kept = [item for item, value in zip(found, agreement) if value < VIEW]
    views = tuple(tuple(sorted(members)) for (members, _), value in zip(found, agreement) if value >= VIEW)
    return kept, views
