"""The consistency stages in order: links, selection, graph, communities, views, missed members, patches of patterns.

CoDeGraph, arXiv:2510.10456; docs/method.md section 4 separates the paper's rules from this project's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency.defect_or_variant import decide, measure_evidence
from codegraph_jax.consistency.duplicates import duplicate_pairs
from codegraph_jax.consistency.graph import (
    Members,
    background_distances,
    image_graph,
    link_counts,
    mutual_weights,
    significant_communities,
    strength,
)
from codegraph_jax.consistency.groups import Consistency, Group, connected_groups
from codegraph_jax.consistency.links import LinkFinder, Links, burnout_links, find_links, select_by_coverage
from codegraph_jax.consistency.membership import with_missed_members
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.pattern_patches import (
    MIN_OUTSIDE,
    PatternTest,
    member_boxes,
    member_patches,
    pattern_tests,
    shows_pattern,
)
from codegraph_jax.consistency.recognition import assign_pattern_ids, with_signatures, with_verdicts
from codegraph_jax.consistency.spacing_law import measure_spacing_law
from codegraph_jax.consistency.views import MIN_VIEW_AGREEMENT, agreement_elsewhere
from codegraph_jax.scoring.distances import Distances, distances_of
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.references import by_content
from codegraph_jax.similarity.removal import Exclusions, ReferenceMask


def find_consistent(
    comparison: Comparison,
    k: int,
    config: RecurringConfig,
    patterns: Sequence[Pattern] = (),
    link_finder: LinkFinder = burnout_links,
) -> tuple[Consistency, Exclusions]:
    """Finds recurring patterns in a set, and the references and patches to filter out.

    Photos of the same part are no references for each other. Patches that show a recurring defect are removed from all
    references, and are scored by images outside their group only, since the patches around them resemble it
    without showing the defect. Added images are compared with the set only. Patches that show a harmless variant count
    as normal. `patterns` are known ones, and scores average `k` references.
    """
    references, set_size, grid = comparison.references, comparison.set_size, comparison.options.grid
    distances = distances_of(comparison)
    duplicates = duplicate_pairs(distances, references)
    distances = distances.exclude(duplicates)
    keys = comparison.features.keys[:set_size]
    consistency, tests = find_groups(
        distances.select(slice(set_size)), references, duplicates[:set_size], keys, k, grid, config, link_finder
    )
    consistency, elsewhere = with_verdicts(with_signatures(consistency, comparison), patterns, comparison)

    # patches come from the group on members, from its test on added images, and from signatures on others
    added = range(set_size, len(distances))
    members = consistency.pattern_ids.reshape(set_size, -1)
    pattern_patches = dict(elsewhere)
    for number in range(1, len(consistency.groups) + 1):
        further = np.zeros((len(added), distances.shape[2]), bool)
        if added and tests:
            further = shows_pattern(distances, added, tests[number - 1], k)
        patches = np.concatenate([members == number, further])
        pattern_patches[number] = patches | pattern_patches[number] if number in pattern_patches else patches
    nothing = np.zeros(distances.shape[::2], bool)
    defects = [pattern.number for pattern in consistency.with_verdict("defect")]
    pattern_ids = assign_pattern_ids(pattern_patches, defects, nothing.shape)
    consistency = replace(consistency, pattern_ids=pattern_ids.reshape(-1, *grid))
    return consistency, _filter(consistency, pattern_patches, references, duplicates, nothing)


def find_groups(
    distances: Distances,
    references: Int[np.ndarray, " m"],
    duplicates: Bool[np.ndarray, "n m"],
    keys: Sequence[bytes],
    k: int,
    grid: tuple[int, int],
    config: RecurringConfig,
    link_finder: LinkFinder,
) -> tuple[Consistency, list[PatternTest]]:
    """The groups of a set with verdicts, and for each the test of dependence.

    `distances` are infinite for excluded references and `duplicates`; `keys`, the digests of the images, break ties
    independently of the listing. The other arguments are those of `pattern_tests`.
    """
    images = len(distances)
    is_reference = np.isin(np.arange(images), references)
    links = select_by_coverage(find_links(distances, references, link_finder), images)
    counts = link_counts(links, images)
    order = by_content(range(images), keys)
    communities = significant_communities(counts, background_distances(distances, links), references, order)
    communities, views = _without_views(communities, links, distances, references, k, grid)
    whole = with_missed_members([members for members, _ in communities], distances, references, k)
    tests = pattern_tests(distances, references, whole, k)
    shown = member_patches(distances, whole, tests, k)
    evidence = measure_evidence(distances, references, whole, shown, tests, k) if tests else [None] * len(whole)

    weights = mutual_weights(counts, is_reference)
    groups = []
    pattern_ids = np.zeros(shown.shape, np.int16)
    for members, (_, p_value), measured in zip(whole, communities, evidence):
        typical = tuple(sorted(members, key=lambda i: (-weights[i, list(members)].sum(), keys[i])))
        boxes = member_boxes(shown, typical, grid)
        verdict = decide(measured, config)
        groups.append(Group(typical, strength(weights, members), p_value, boxes, verdict, measured))
        pattern_ids[list(members)] = np.where(shown[list(members)], len(groups), 0)
    consistency = Consistency(
        tuple(groups),
        connected_groups((int(i), int(references[c])) for i, c in zip(*np.nonzero(duplicates))),
        views,
        image_graph(weights, links),
        pattern_ids.reshape(images, *grid),
        measure_spacing_law(distances, distances.scores(k), shown),
    )
    return consistency, tests


def _filter(
    consistency: Consistency,
    pattern_patches: Mapping[int, Bool[np.ndarray, "n p"]],
    references: Int[np.ndarray, " m"],
    duplicates: Bool[np.ndarray, "n m"],
    nothing: Bool[np.ndarray, "n p"],
) -> Exclusions:
    """The filter of the verdicts: defects are removed and scored from outside their group, variants are clipped."""
    masks = []
    for defect in consistency.with_verdict("defect"):
        inside = np.isin(references, defect.images)
        # a defect on nearly all images leaves too few references, so it is not filtered
        if np.count_nonzero(~inside) >= MIN_OUTSIDE:
            masks.append(ReferenceMask(np.flatnonzero(inside), pattern_patches[defect.number]))
    removed = np.any([nothing, *(patches for _, patches in masks)], axis=0)
    variants = [pattern_patches[variant.number] for variant in consistency.with_verdict("variant")]
    clipped = np.any([nothing, *variants], axis=0)
    return Exclusions(duplicates, removed, masks, clipped)


def _without_views(
    communities: Sequence[tuple[Members, float]],
    links: Links,
    distances: Distances,
    references: Int[np.ndarray, " m"],
    k: int,
    grid: tuple[int, int],
) -> tuple[list[tuple[Members, float]], tuple[Members, ...]]:
    """Separates communities that share a view from the others."""
    members = [members for members, _ in communities]
    linked = member_patches(distances, members, pattern_tests(distances, references, members, k), k)
    linked[links.image, links.patch] = True
    agreement = [agreement_elsewhere(distances, references, members, linked, grid) for members, _ in communities]
    kept = [item for item, value in zip(communities, agreement) if value < MIN_VIEW_AGREEMENT]
    views = tuple(
        tuple(sorted(members)) for (members, _), value in zip(communities, agreement) if value >= MIN_VIEW_AGREEMENT
    )
    return kept, views
