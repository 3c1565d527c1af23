"""Scores when some references must not serve: only what that can change is computed anew.

Nothing is written into the tables of a comparison. A patch is scored again where one of its references is barred from
it or has lost the patch that was nearest; all other scores stay as they were.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.scoring.mutual import mean_of_smallest, mean_over_layers
from codegraph_jax.scoring.reference_subset import ReferenceSubset, subset_scores
from codegraph_jax.scoring.variants import FEW, VARIANTS
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.multihost import changes_everywhere
from codegraph_jax.similarity.removal import Changes, Neighbours
from codegraph_jax.similarity.resident import ReferenceMask, ResidentTables


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
    features, references, tables = comparison.features, comparison.references, comparison.tables
    if isinstance(tables, ResidentTables):
        pairs = taken_out.pairs if comparison.barred is None else taken_out.pairs | comparison.barred
        if not (pairs.any() or taken_out.removed.any() or taken_out.barred):
            return [layer.copy() for layer in scores]
        return tables.scores_without(subset.k, subset.columns, pairs, taken_out.barred, taken_out.removed)
    removed = np.zeros_like(taken_out.removed)
    serving = references[subset.columns]
    removed[serving] = taken_out.removed[serving]
    barring = _Barring(taken_out, subset, comparison.barred, comparison.shape[1])
    neighbours = Neighbours(subset.columns, subset.k, barring.bar)
    found = [layer.copy() for layer in scores]
    for layer, table, tokens in zip(found, tables, features.layers):
        counts, options = features.counts, comparison.options
        changes = changes_everywhere(table, tokens, counts, removed, references, options, neighbours)
        for degree, changed in enumerate(changes):
            _rescore(layer[degree], table[degree], subset, changed, barring)
    return found


def clip_to_median(scores: Float[np.ndarray, "n p"], clipped: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """The scores of clipped patches lowered to the median of their image."""
    images = np.flatnonzero(clipped.any(axis=1))
    if len(images):
        scores = scores.copy()
        judged = np.where(scores[images] >= 0, scores[images], np.nan)
        lowered = np.minimum(scores[images], np.nanmedian(judged, axis=1, keepdims=True))
        scores[images] = np.where(clipped[images], lowered, scores[images])
    return scores


def bar(
    distances: Float[np.ndarray, "m p"], image: Bool[np.ndarray, " m"], patches: Sequence[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Makes the distances of one image's patches to references that must not serve them infinite, in place.

    Args:
        distances: of p patches.
        image: references that must not serve the image.
        patches: (columns, which of the p patches) that must not serve.
    """
    distances[image] = np.inf
    for columns, chosen in patches:
        distances[np.ix_(columns, np.flatnonzero(chosen))] = np.inf


class _Barring:
    """Which references of a subset must not serve which patches of an image."""

    def __init__(
        self, taken_out: Filter, subset: ReferenceSubset, already: Bool[np.ndarray, "n m"] | None, references: int
    ):
        pairs = taken_out.pairs if already is None else taken_out.pairs | already
        self._images = pairs[:, subset.columns]
        self.place = np.full(references, -1)
        self.place[subset.columns] = np.arange(len(subset.columns))
        self._patch_count = taken_out.removed.shape[1]
        self._patches = []
        for barred in taken_out.barred:
            columns = self.place[barred.columns]
            self._patches.append((columns[columns >= 0], barred.patches))

    def touches(self, i: int) -> Bool[np.ndarray, " p"]:
        """Patches of an image that some reference must not serve."""
        touched = np.full(self._patch_count, self._images[i].any())
        for _, patches in self._patches:
            touched |= patches[i]
        return touched

    def bar(
        self, i: int, distances: Float[np.ndarray, "c q"], patches: Int[np.ndarray, " q"] | slice = slice(None)
    ) -> None:
        """Makes distances of some patches of an image to the subset infinite where they must not serve, in place."""
        bar(distances, self._images[i], [(columns, chosen[i, patches]) for columns, chosen in self._patches])


def _rescore(
    scores: Float[np.ndarray, "n p"],
    table: Float[np.ndarray, "n m p"],
    subset: ReferenceSubset,
    changed: Changes,
    barring: _Barring,
) -> None:
    """Scores anew, in place, the patches of one layer and degree that a filter touches."""
    order = np.argsort(changed.image, kind="stable")
    bounds = np.searchsorted(changed.image[order], np.arange(len(table) + 1))

    def rescore_image(i: int) -> None:
        own = order[bounds[i] : bounds[i + 1]]
        own = own[barring.place[changed.column[own]] >= 0]
        touched = np.zeros(table.shape[2], bool)
        touched[changed.patch[own]] = True
        touched |= barring.touches(i)
        if not touched.any():
            return
        patches = np.flatnonzero(touched)
        rows = table[i][np.ix_(subset.columns, patches)]
        rows[barring.place[changed.column[own]], np.searchsorted(patches, changed.patch[own])] = changed.distance[own]
        barring.bar(i, rows, patches)
        scores[i, patches] = mean_of_smallest(rows, subset.k)

    with ThreadPoolExecutor(CPU_THREADS) as pool:
        list(pool.map(rescore_image, range(len(table))))
