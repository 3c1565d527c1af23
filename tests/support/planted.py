"""Sets of tokens with known defects: a texture, defects of one image each, and a recurring defect."""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency import stages
from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.consistency.groups import Group, RecurringPatterns
from codegraph_jax.consistency.pattern_patches import pattern_tests
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import HostTables, mean_over_layers
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.removal import Exclusions, ReferenceMask
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.valid import mark_invalid

GRID = (8, 8)
OPTIONS = DistanceOptions("direct", (1,), GRID, "float32")
REGION = np.array([18, 19, 26, 27])
"""Patches of the recurring defect."""


def draw(n=48, group=10, one_off=5, seed=0, channels=96, rough=1.2):
    """Tokens [n, p, c]; the first `group` images share a defect, the next `one_off` have one of their own each.

    `rough` is how much the repeats of the defect differ; below 0.4 it repeats more exactly than the part does, as an
    imprint would.
    """
    rng = np.random.default_rng(seed)
    patches = GRID[0] * GRID[1]
    tokens = rng.normal(size=(1, patches, channels)) + 0.4 * rng.normal(size=(n, patches, channels))
    shared = tokens[:, REGION].mean(axis=0) + 1.6 * rng.normal(size=(len(REGION), channels))
    tokens[:group, REGION] = shared + rough * rng.normal(size=(group, len(REGION), channels))
    for i in range(group, group + one_off):
        tokens[i, REGION + 3] = 2.5 * rng.normal(size=(len(REGION), channels))
    return tokens.astype(np.float32)


def table(tokens, references=None, options=OPTIONS):
    """(normalised tokens, distances [1, n, m, p])."""
    references = np.arange(len(tokens)) if references is None else references
    normalised = normalise(jnp.asarray(tokens))
    return normalised, pairwise_distances(normalised, options, references)


def compare(tokens, references=None, options=OPTIONS, inspected=None):
    """The comparison of a set of one layer; with `inspected` patches the tokens are not normalised."""
    references = np.arange(len(tokens)) if references is None else references
    n = len(tokens)
    placement = Placement.whole(Frame("squeeze", GRID, 14), np.ones((n, 2), int))
    if inspected is None:
        normalised, distances = table(tokens, references, options)
    else:
        normalised, placement = jnp.asarray(tokens), placement.within(inspected)
        distances = pairwise_distances(normalised, options, references)
        mark_invalid(distances, inspected)
    keys = [image.tobytes() for image in tokens]
    features = Features(
        layers=[normalised], images_per_process=(n,), image_features=np.zeros((n, 1), np.float32), keys=keys,
        kept=np.arange(n), placement=placement, areas=[everything] * n, unreadable=[],
    )  # fmt: skip
    return Comparison(features, HostTables([distances], [normalised], (n,), references, options))


def draw_exclusions(n, seed=0):
    """Excluded, removed, masked and clipped patches of n images."""
    rng = np.random.default_rng(seed)
    pairs = rng.uniform(size=(n, n)) < 0.05
    removed = rng.uniform(size=(n, 64)) < 0.2
    removed[rng.permutation(n)[:8]] = False
    masks = [
        ReferenceMask(np.array([0, 3, 5]), rng.uniform(size=(n, 64)) < 0.1),
        ReferenceMask(np.array([3]), rng.uniform(size=(n, 64)) < 0.1),
    ]
    return Exclusions(pairs, removed, masks, rng.uniform(size=(n, 64)) < 0.05)


class Found(NamedTuple):
    """The patterns of a set, and the patch scores [n, p] of mutual scoring and of the full method."""

    recurring: RecurringPatterns
    mutual_scores: np.ndarray
    filtered_scores: np.ndarray
    comparison: Comparison
    exclusions: Exclusions


def find(tokens, config=None, patterns=(), references=None) -> Found:
    """Compares a set of one layer and looks for recurring patterns; `patterns` are known ones."""
    comparison = compare(tokens, references)
    subset = comparison.subset(0.3)
    recurring, exclusions = stages.find_recurring_patterns(comparison, subset.k, config or RecurringConfig(), patterns)
    mutual = mean_over_layers(comparison.tables.scores(subset, Exclusions.none(comparison.shape)))
    return Found(recurring, mutual, filtered_scores(comparison, subset, exclusions), comparison, exclusions)


def plant_group(monkeypatch, group: Group, patches) -> None:
    """Every set has this group alone; the members show its pattern in `patches`, an index of the grid."""
    find_groups = stages.find_groups

    def found(distances, keys, k, grid, *others):
        recurring, member_patches, _ = find_groups(distances, keys, k, grid, *others)
        member_patches.reshape(-1, *grid)[(list(group.members), *patches)] = True
        return replace(recurring, groups=(group,)), member_patches, pattern_tests(distances, [group.members], k)

    monkeypatch.setattr(stages, "find_groups", found)
