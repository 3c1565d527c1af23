"""Scores without the references and patches that belong to recurring defects."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.scoring.mutual import ReferenceSubset, mean_over_layers, subset_scores
from codegraph_jax.scoring.scores import ANSWER_SCORES, FEW_SHARE, Score
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import PatchScore
from codegraph_jax.similarity.removal import Exclusions


def filtered_scores(
    comparison: Comparison,
    subset: ReferenceSubset,
    scores: Sequence[Float[np.ndarray, "r n p"]],
    exclusions: Exclusions,
) -> Float[np.ndarray, "n p"]:
    """Filtered scores by a subset, averaged over layers and degrees and clipped, see `layer_scores_without`."""
    layers = layer_scores_without(comparison, subset, scores, exclusions)
    return clip_to_median(mean_over_layers(layers), exclusions.clipped)


def patch_scores_by_name(
    comparison: Comparison,
    fraction: float,
    standard: Sequence[Float[np.ndarray, "r n p"]],
    exclusions: Exclusions | None,
    chosen: Score,
) -> dict[str, Float[np.ndarray, "n p"]]:
    """Patch scores of the chosen score and of all `ANSWER_SCORES` by all references, at least 0; the chosen one first.

    `standard` are the mutual scores with this fraction; without `exclusions` nothing is excluded.
    """
    subsets = {
        False: ReferenceSubset.of(comparison, fraction),
        True: ReferenceSubset.of(comparison, min(FEW_SHARE, fraction)),
    }

    def layers_of(few: bool, patch_score: PatchScore | None) -> Sequence[Float[np.ndarray, "r n p"]]:
        subset = subsets[few]
        layers = subset_scores(comparison, subset, patch_score) if few or patch_score else standard
        return layer_scores_without(comparison, subset, layers, exclusions, patch_score) if exclusions else layers

    mutual = {few: layers_of(few, None) for few in (False, True)}
    by_name = {}
    for one in (chosen, *ANSWER_SCORES):
        if one.name not in by_name:
            layers = layers_of(one.few_references, one.patch) if one.patch else mutual[one.few_references]
            scores = mean_over_layers(one.select(layers, comparison.options.degrees))
            by_name[one.name] = one.combined(clip_to_median(scores, exclusions.clipped) if exclusions else scores)
    return by_name


def layer_scores_without(
    comparison: Comparison,
    subset: ReferenceSubset,
    scores: Sequence[Float[np.ndarray, "r n p"]],
    exclusions: Exclusions,
    patch_score: PatchScore | None = None,
) -> list[Float[np.ndarray, "r n p"]]:
    """Filtered scores of each layer and degree by a subset, not clipped; `scores` are those of `subset_scores`."""
    if not (exclusions.pairs.any() or exclusions.removed.any() or exclusions.masks):
        return [layer.copy() for layer in scores]
    return comparison.tables.scores_without(subset.k, subset.columns, exclusions, scores, patch_score)


def clip_to_median(scores: Float[np.ndarray, "n p"], clipped: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """Lowers the scores of clipped patches to the median of their image."""
    images = np.flatnonzero(clipped.any(axis=1))
    if len(images):
        scores = scores.copy()
        valid = np.where(scores[images] >= 0, scores[images], np.nan)
        lowered = np.minimum(scores[images], np.nanmedian(valid, axis=1, keepdims=True))
        scores[images] = np.where(clipped[images], lowered, scores[images])
    return scores
