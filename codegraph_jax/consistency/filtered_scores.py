"""Scores without the references and patches that belong to recurring defects."""

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.scoring.scores import ANSWER_SCORES, FEW_SHARE, Score
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import mean_over_layers
from codegraph_jax.similarity.references import ReferenceSubset
from codegraph_jax.similarity.removal import Exclusions


def filtered_scores(
    comparison: Comparison, subset: ReferenceSubset, exclusions: Exclusions
) -> Float[np.ndarray, "n p"]:
    """Filtered scores by a subset, averaged over layers and degrees and clipped."""
    return clip_to_median(mean_over_layers(comparison.tables.scores(subset, exclusions)), exclusions.clipped)


def patch_scores_by_name(
    comparison: Comparison, fraction: float, exclusions: Exclusions, chosen_score: Score
) -> dict[str, Float[np.ndarray, "n p"]]:
    """Patch scores of the chosen score and of all `ANSWER_SCORES` by all references, at least 0; the chosen one first.

    A score averages this fraction of the references.
    """
    subsets = {False: comparison.subset(fraction), True: comparison.subset(min(FEW_SHARE, fraction))}
    mutual = {few: comparison.tables.scores(subset, exclusions) for few, subset in subsets.items()}
    by_name = {}
    for one in (chosen_score, *ANSWER_SCORES):
        if one.name not in by_name:
            layers = mutual[one.few_references]
            if one.patch_score:
                layers = comparison.tables.scores(subsets[one.few_references], exclusions, one.patch_score)
            scores = mean_over_layers(one.select(layers, comparison.options.degrees))
            by_name[one.name] = one.combined(clip_to_median(scores, exclusions.clipped))
    return by_name


def clip_to_median(scores: Float[np.ndarray, "n p"], clipped: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """Lowers the scores of clipped patches to the median of their image."""
    images = np.flatnonzero(clipped.any(axis=1))
    if len(images):
        scores = scores.copy()
        valid = np.where(scores[images] >= 0, scores[images], np.nan)
        lowered = np.minimum(scores[images], np.nanmedian(valid, axis=1, keepdims=True))
        scores[images] = np.where(clipped[images], lowered, scores[images])
    return scores
