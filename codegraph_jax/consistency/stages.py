"""The consistency stages in order: links, selection, graph, communities, views, missed members, flagged patches.

CoDeGraph, arXiv:2510.10456; docs/method.md section 4 says what is the paper's and what is this project's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.community import Community, Consistency
from codegraph_jax.consistency.duplicates import groups, same_part
from codegraph_jax.consistency.filtered import Barred, Filter
from codegraph_jax.consistency.filtering import community_boxes, dependences, flag_patches, recognise
from codegraph_jax.consistency.graph import (
    Members,
    image_graph,
    link_counts,
    mutual_weights,
    significant_communities,
    strength,
)
from codegraph_jax.consistency.links import Links, find_links, select_by_coverage
from codegraph_jax.consistency.membership import with_missed_members
from codegraph_jax.consistency.spacing_law import measure_spacing_law
from codegraph_jax.consistency.views import VIEW, agreement_elsewhere
from codegraph_jax.scoring.mutual import mutual_scores
from codegraph_jax.similarity.comparison import Comparison, mean_distances


def find_consistent(comparison: Comparison, k: int, config: ConsistencyConfig) -> tuple[Consistency, Filter]:
    """Finds what recurs among the images of the set, and what must therefore not serve as a reference.

    Photographs of one and the same part do not serve as references for each other. Patches that show a recurring defect
    serve no image, and are themselves judged by images outside of their community: next to every flagged patch lie some
    that were not flagged and look like it. Added images are treated by what the set has taught.

    Args:
        comparison: of all images.
        k: neighbours that a score averages.
        config: see `ConsistencyConfig`.
    """
    references, own, grid = comparison.references, comparison.own, comparison.options.grid
    distances = mean_distances(comparison.tables)
    if comparison.barred is not None:
        distances[comparison.barred] = np.inf
    duplicates = same_part(distances, references, comparison.added)
    distances[duplicates] = np.inf
    keys = comparison.features.keys[:own]
    found = find_communities(distances[:own], references, duplicates[:own], keys, k, grid, config)

    members = [community.members for community in found.communities]
    tests = dependences(distances[:own], references, members, k, config) if comparison.added else []
    shown = recognise(distances[own:], tests, k)
    flagged = np.any([np.zeros((comparison.added, distances.shape[2]), bool), *shown], axis=0)
    flagged = np.concatenate([found.flagged.reshape(own, -1), flagged])
    barred = []
    for number, community in enumerate(members):
        patches = np.zeros_like(flagged)
        patches[list(community)] = flagged[list(community)]
        if shown:
            patches[own:] = shown[number]
        barred.append(Barred(np.flatnonzero(np.isin(references, community)), patches))
    found = replace(found, flagged=flagged.reshape(-1, *grid))
    return found, Filter(duplicates, flagged, barred)


def find_communities(
    distances: Float[np.ndarray, "n m p"],
    references: Int[np.ndarray, " m"],
    duplicates: Bool[np.ndarray, "n m"],
    keys: Sequence[bytes],
    k: int,
    grid: tuple[int, int],
    config: ConsistencyConfig,
) -> Consistency:
    """The communities of a set, and the patches that make them.

    Args:
        distances: mean over layers and degrees; infinite where a reference must not serve, duplicates included.
        references: image of each column.
        duplicates: which references show the same part as an image.
        keys: content of each image; ties between images are broken by it, never by their place in the list.
        k: neighbours that a score averages.
        grid: (h, w) with h * w = p.
        config: see `ConsistencyConfig`.
    """
    images = len(distances)
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
        measure_spacing_law(distances, mutual_scores(distances[None], k)[0], flagged),
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
