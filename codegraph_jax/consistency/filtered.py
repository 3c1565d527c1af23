"""Scores where some references, or some of their patches, must not serve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.scoring.mutual import mean_over_layers
from codegraph_jax.scoring.reference_subset import ReferenceSubset, subset_scores
from codegraph_jax.scoring.variants import FEW, VARIANTS
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.removal import ReferenceMask


@dataclass(frozen=True)
class Filter:
    """What must not serve as a reference.

    Attributes:
        pairs: references that must not serve an image at all [n, m].
        removed: patches that serve nobody; they are still scored [n, p].
        barred: references that must not serve some patches.
        clipped: patches that count as normal: no more anomalous than the rest of their image usually is [n, p].
    """

    pairs: Bool[np.ndarray, "n m"]
    removed: Bool[np.ndarray, "n p"]
    barred: Sequence[ReferenceMask]
    clipped: Bool[np.ndarray, "n p"]

    @classmethod
    def nothing(cls, comparison: Comparison) -> "Filter":
        """Takes nothing out."""
        n, m, p = comparison.shape
        return cls(np.zeros((n, m), bool), np.zeros((n, p), bool), (), np.zeros((n, p), bool))


def filtered_scores(
    comparison: Comparison,
    subset: ReferenceSubset,
    scores: Sequence[Float[np.ndarray, "r n p"]],
    taken_out: Filter,
) -> Float[np.ndarray, "n p"]:
    """Scores by a subset without what the filter takes out, averaged over layers and degrees; see `rescored`."""
    return clip_to_median(mean_over_layers(rescored(comparison, subset, scores, taken_out)), taken_out.clipped)


def variant_scores(
    comparison: Comparison,
    fraction: float,
    standard: Sequence[Float[np.ndarray, "r n p"]],
    taken_out: Filter | None,
) -> dict[str, Float[np.ndarray, "n p"]]:
    """Patch scores by all references, by the name of the variant (`scoring.variants`), at least 0.

    Args:
        comparison: of all images.
        fraction: share of the other images that the standard score averages.
        standard: mutual scores by this fraction.
        taken_out: what must not serve; None: nothing is taken out.
    """
    subsets = {
        False: ReferenceSubset.of(comparison, fraction),
        True: ReferenceSubset.of(comparison, min(FEW, fraction)),
    }
    found = {}
    for few, subset in subsets.items():
        variants = [variant for variant in VARIANTS if variant.few == few]
        layers = subset_scores(comparison, subset) if few else standard
        if taken_out:
            layers = rescored(comparison, subset, layers, taken_out)
        for variant in variants:
            scores = mean_over_layers(variant.select(layers, comparison.options.degrees))
            found[variant.name] = variant.of_photo(clip_to_median(scores, taken_out.clipped) if taken_out else scores)
    return {variant.name: found[variant.name] for variant in VARIANTS}


def rescored(
    comparison: Comparison,
    subset: ReferenceSubset,
    scores: Sequence[Float[np.ndarray, "r n p"]],
    taken_out: Filter,
) -> list[Float[np.ndarray, "r n p"]]:
    """Scores of each layer and degree by a subset without what the filter takes out; nothing is clipped yet.

    Args:
        comparison: of all images.
        subset: the references that score.
        scores: of `subset_scores`.
        taken_out: what must not serve.
    """
    pairs = taken_out.pairs if comparison.barred is None else taken_out.pairs | comparison.barred
    if not (pairs.any() or taken_out.removed.any() or taken_out.barred):
        return [layer.copy() for layer in scores]
    what = pairs, taken_out.barred, taken_out.removed
    return comparison.tables.scores_without(subset.k, subset.columns, *what, scores)


def clip_to_median(scores: Float[np.ndarray, "n p"], clipped: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """The scores of clipped patches lowered to the median of their image."""
    images = np.flatnonzero(clipped.any(axis=1))
    if len(images):
        scores = scores.copy()
        judged = np.where(scores[images] >= 0, scores[images], np.nan)
        lowered = np.minimum(scores[images], np.nanmedian(judged, axis=1, keepdims=True))
        scores[images] = np.where(clipped[images], lowered, scores[images])
    return scores
