"""Marks: patterns from a single photo that a person has answered, to be recognised in other photos [ours].

A good part that was flagged has a harmless mark, a defective part has a defect. The signature of a group has a
limit from the distances between its members (`consistency.signature`); a single photo has no other members, so the
limit is at most about half of the outside distance. Measured on bottle_recurring (ViT-S/14, 224 px): photos with the
same defect are at 0.1 to 0.5 of the outside distance, good parts at 0.6 or more. Within the limit, photos show the mark
only if a gap separates them from the other photos.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.consistency.pattern import MAX_NAME_LENGTH, Pattern, PatternVerdict, Product
from codegraph_jax.consistency.signature import (
    EPSILON,
    MAX_OUTSIDE,
    MIN_PATCH_SHARE,
    Signature,
    least_limit,
    measure_images,
    patches_of,
    prototype_distances,
    prototypes_of,
    unit_directions,
)
from codegraph_jax.core.arrays import evenly
from codegraph_jax.features.features import Features
from codegraph_jax.similarity.references import by_content

MAX_MARK_PATCHES = 64
"""Maximum number of patches of a mark; those with the highest scores are used."""
MARK_PROTOTYPES = 16
"""Number of prototypes; more than for a group, since a mark may be large and only one photo shows it."""
MAX_LIMIT = 0.55
"""Maximum limit, as a share of the outside distance."""
MIN_GAP_RATIO, MIN_LIMIT = 1.25, 0.1
"""Minimum ratio of distances across a gap; gaps below the second value, a share of the outside distance, do not
count."""


def mark_patches(scores: Float[np.ndarray, " p"], min_score: float) -> Int[np.ndarray, " k"]:
    """The patches of a mark: at most `MAX_MARK_PATCHES`, with scores of `min_score` or more."""
    patches = np.flatnonzero(scores >= min_score)
    return np.sort(patches[np.argsort(-scores[patches], kind="stable")][:MAX_MARK_PATCHES])


def photo_mark(
    photo: int,
    scores: Float[np.ndarray, " p"],
    min_score: float,
    features: Features,
    verdict: PatternVerdict,
    name: str,
) -> Pattern | None:
    """The mark of a photo of the set; None if no patch reaches this score, or if there is no other photo."""
    patches = mark_patches(scores, min_score)
    others = [i for i in by_content(range(len(features.kept)), features.keys) if i != photo]
    if not len(patches) or not others:
        return None
    chosen = np.zeros((len(features.kept), len(scores)), bool)
    chosen[photo, patches] = True
    (mark_vectors,) = patches_of(features, [photo], chosen)
    compared = [others[k] for k in evenly(len(others), MAX_OUTSIDE)]
    signature = mark_signature(mark_vectors, partial(measure_images, features, compared))
    product = Product.of(features.image_features)
    return Pattern(name[:MAX_NAME_LENGTH], verdict, signature, product, 1, len(features.kept), origin="photo")


def mark_signature(
    mark_vectors: Float[np.ndarray, "k l c"],
    measure_others: Callable[[Callable[[Float[np.ndarray, "p d"]], Float[np.ndarray, " x"]]], Float[np.ndarray, "o x"]],
) -> Signature:
    """The signature of some patches of a photo.

    Args:
        mark_vectors: unit vectors of the patches (`signature.patch_vectors`), divided by layer.
        measure_others: results of a function for the vectors of each of o other photos.
    """
    prototypes = prototypes_of([mark_vectors], MARK_PROTOTYPES)
    directions = unit_directions(prototypes)
    medians = np.median(measure_others(lambda vectors: prototype_distances(vectors, directions).min(axis=0)), axis=0)
    outside_distances = np.maximum(medians, EPSILON).astype(np.float32)
    signature = Signature(prototypes, outside_distances, MAX_LIMIT, max(1, int(MIN_PATCH_SHARE * len(mark_vectors))))

    def reached(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " 1"]:
        return np.array([least_limit(signature, vectors, signature.min_patch_count)])

    return replace(signature, limit=_limit(measure_others(reached).ravel()))


def _limit(reached: Float[np.ndarray, " o"]) -> float:
    """Limit of a mark, in the last gap between the distances of other photos, as shares of the outside distance."""
    distances = np.maximum(np.concatenate([[MIN_LIMIT], np.sort(reached)]), MIN_LIMIT)
    gaps = np.flatnonzero((distances[1:] >= MIN_GAP_RATIO * distances[:-1]) & (distances[:-1] <= MAX_LIMIT))
    if not len(gaps):
        return MIN_LIMIT
    return float(min(MAX_LIMIT, np.sqrt(distances[gaps[-1]] * distances[gaps[-1] + 1])))
