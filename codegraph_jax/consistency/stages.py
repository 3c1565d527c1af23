"""The consistency stages in order: links, selection, graph, communities, views, missed members, patches of patterns.

CoDeGraph, arXiv:2510.10456; docs/method.md section 4 separates the paper's rules from this project's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency.defect_or_variant import decide, measure_evidence
from codegraph_jax.consistency.duplicates import duplicate_pairs
from codegraph_jax.consistency.graph import (
    Community,
    Members,
    background_distances,
    image_graph,
    link_counts,
    mutual_weights,
    significant_communities,
    strength,
)
from codegraph_jax.consistency.groups import Group, RecurringPatterns, connected_groups
from codegraph_jax.consistency.links import LinkFinder, Links, burnout_links, find_links, select_by_coverage
from codegraph_jax.consistency.membership import with_missed_members
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.pattern_patches import (
    MIN_OUTSIDE,
    PatternTest,
    find_member_patches,
    member_boxes,
    pattern_tests,
    shows_pattern,
)
from codegraph_jax.consistency.recognition import pattern_numbers_of, with_signatures, with_verdicts
from codegraph_jax.consistency.spacing_law import measure_spacing_law
from codegraph_jax.consistency.views import MIN_VIEW_AGREEMENT, agreement_elsewhere
from codegraph_jax.scoring.distances import Distances, distances_of
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.references import by_content
from codegraph_jax.similarity.removal import Exclusions, ReferenceMask


def find_recurring_patterns(
    comparison: Comparison,
    k: int,
    config: RecurringConfig,
    patterns: Sequence[Pattern] = (),
    link_finder: LinkFinder = burnout_links,
) -> tuple[RecurringPatterns, Exclusions]:
    """Finds recurring patterns in a set, and the references and patches to filter out.

    Photos of the same part are no references for each other. Patches that show a recurring defect are removed from all
    references, and are scored by images outside their group only, since the patches around them resemble it
    without showing the defect. Added images are compared with the set only. Patches that show a harmless variant count
    as normal. `patterns` are known ones, and scores average `k` references.
    """
    set_size, grid = comparison.set_size, comparison.options.grid
    distances = distances_of(comparison)
    duplicates = duplicate_pairs(distances)
    distances = distances.exclude(duplicates)
    keys = comparison.features.keys[:set_size]
    own = distances.select(slice(set_size))
    recurring, member_patches, tests = find_groups(own, keys, k, grid, config, link_finder)
    pairs = ((int(i), int(distances.references[c])) for i, c in zip(*np.nonzero(duplicates[:set_size])))
    recurring = replace(recurring, duplicates=connected_groups(pairs))
    recurring = with_signatures(recurring, member_patches, comparison)
    recurring, patches_by_pattern = with_verdicts(recurring, patterns, comparison)

    # patches come from the group on members, from its test on added images, and from signatures on others
    added = range(set_size, len(distances))
    for number, (group, test) in enumerate(zip(recurring.groups, tests, strict=True), 1):
        patches = patches_by_pattern.setdefault(number, np.zeros(distances.shape[::2], bool))
        members = list(group.members)
        patches[members] |= member_patches[members]
        if added:
            patches[set_size:] |= shows_pattern(distances, added, test, k)
    defects = [pattern.number for pattern in recurring.with_verdict("defect")]
    pattern_numbers = pattern_numbers_of(patches_by_pattern, defects, distances.shape[::2])
    recurring = replace(recurring, pattern_numbers=pattern_numbers.reshape(-1, *grid))
    return recurring, _exclusions_of(recurring, patches_by_pattern, distances, duplicates)


def find_groups(
    distances: Distances,
    keys: Sequence[bytes],
    k: int,
    grid: tuple[int, int],
    config: RecurringConfig,
    link_finder: LinkFinder,
) -> tuple[RecurringPatterns, Bool[np.ndarray, "n p"], list[PatternTest]]:
    """The groups of a set with verdicts, the patches of members that show their pattern, and the test of each group.

    `distances` are infinite for excluded references and duplicates; `keys`, the digests of the images, break ties
    independently of the listing. The other arguments are those of `pattern_tests`.
    """
    images = len(distances)
    links = select_by_coverage(find_links(distances, link_finder), images)
    counts = link_counts(links, images)
    order = by_content(range(images), keys)
    background = background_distances(distances, links)
    communities = significant_communities(counts, background, distances.references, order)
    communities, views = _without_views(communities, links, distances, k, grid)
    complete = with_missed_members([community.members for community in communities], distances, k)
    tests = pattern_tests(distances, complete, k)
    member_patches = find_member_patches(distances, complete, tests, k)
    evidence = measure_evidence(distances, complete, member_patches, tests, k)

    weights = mutual_weights(counts, np.isin(np.arange(images), distances.references))
    groups = []
    for members, community, measured in zip(complete, communities, evidence, strict=True):
        typical = tuple(sorted(members, key=lambda i: (-weights[i, list(members)].sum(), keys[i])))
        boxes, verdict = member_boxes(member_patches, typical, grid), decide(measured, config)
        groups.append(Group(typical, strength(weights, members), community.p_value, boxes, verdict, measured))
    recurring = RecurringPatterns(
        groups=tuple(groups),
        views=views,
        graph=image_graph(weights, links),
        spacing_law=measure_spacing_law(distances, distances.scores(k), member_patches),
    )
    return recurring, member_patches, tests


def _exclusions_of(
    recurring: RecurringPatterns,
    patches_by_pattern: Mapping[int, Bool[np.ndarray, "n p"]],
    distances: Distances,
    duplicates: Bool[np.ndarray, "n m"],
) -> Exclusions:
    """Removes defects from the references, scores them from outside their group, and clips variants."""
    masks, nothing = [], np.zeros(distances.shape[::2], bool)
    for defect in recurring.with_verdict("defect"):
        inside = distances.columns_of(defect.images)
        # a defect on nearly all images leaves too few references, so it is not filtered
        if len(distances.references) - len(inside) >= MIN_OUTSIDE:
            masks.append(ReferenceMask(inside, patches_by_pattern[defect.number]))
    removed = np.any([nothing, *(patches for _, patches in masks)], axis=0)
    variants = [patches_by_pattern[variant.number] for variant in recurring.with_verdict("variant")]
    clipped = np.any([nothing, *variants], axis=0)
    return Exclusions(duplicates, removed, masks, clipped)


def _without_views(
    communities: Sequence[Community], links: Links, distances: Distances, k: int, grid: tuple[int, int]
) -> tuple[list[Community], tuple[Members, ...]]:
    """Separates communities that share a view from the others."""
    members = [community.members for community in communities]
    linked = find_member_patches(distances, members, pattern_tests(distances, members, k), k)
    linked[links.image, links.patch] = True
    kept: list[Community] = []
    views: list[Community] = []
    for community in communities:
        agreement = agreement_elsewhere(distances, community.members, linked, grid)
        (views if agreement >= MIN_VIEW_AGREEMENT else kept).append(community)
    return kept, tuple(tuple(sorted(view.members)) for view in views)
