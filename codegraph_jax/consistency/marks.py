"""What stands out in one photo that a person has judged, to be recognised in other photos [ours].

A good part that was flagged has something harmless that stands out; a defective one shows a defect. Either is known by
the patches of this one photo. A community has members by whose differences the limit of its signature is found
(`consistency.signature`); one photo has none, so that about half of the usual distance is the limit: measured on
bottle_recurring (ViT-S/14, 224 px), photos with the same defect come to 0.1 to 0.5 of it, good parts to 0.6 and more.
Photos that come nearer show the mark only where a gap lies between them and the others.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.consistency.pattern import LONGEST_NAME, Pattern, Product, Verdict
from codegraph_jax.consistency.signature import (
    MOST_OUTSIDE,
    SMALLEST,
    SOME,
    Signature,
    at_place,
    evenly,
    measure_images,
    patches_of,
    prototype_distances,
    prototypes_of,
    unit_directions,
)
from codegraph_jax.features.features import Features

MOST_PATCHES = 64
"""Patches of the photo that are remembered, those with the highest scores."""
PROTOTYPES = 16
"""More than of a community: a mark may be large, and no more than this photo shows it."""
HALF = 0.55
"""A patch shows the mark up to this share of its usual distance, at most."""
GAP, NEAREST = 1.25, 0.1
"""Photos are parted where the next one is so many times as far, in shares of the usual distance from `NEAREST` on."""


def strongest(stands_out: Bool[np.ndarray, " p"], scores: Float[np.ndarray, " p"]) -> Int[np.ndarray, " k"]:
    """The patches that a mark is made of: those that stand out, at most `MOST_PATCHES`."""
    patches = np.flatnonzero(stands_out)
    return np.sort(patches[np.argsort(-scores[patches], kind="stable")][:MOST_PATCHES])


def photo_mark(
    photo: int,
    stands_out: Bool[np.ndarray, " p"],
    scores: Float[np.ndarray, " p"],
    features: Features,
    grid: tuple[int, int],
    verdict: Verdict,
    name: str,
) -> Pattern | None:
    """What stands out in a photo of a set, as a pattern; None where nothing does or there is no other photo.

    Args:
        photo: its place among the images of `features`.
        stands_out: its patches that do.
        scores: of its patches.
        features: of all images.
        grid: of the patches.
        verdict: what the mark is.
        name: what people call it.
    """
    patches = strongest(stands_out, scores)
    # in the order of their content: nothing must depend on how the photos were listed
    others = [i for i in sorted(range(len(features.kept)), key=lambda i: features.keys[i]) if i != photo]
    if not len(patches) or not others:
        return None
    chosen = np.zeros((len(features.kept), len(scores)), bool)
    chosen[photo, patches] = True
    (own,) = patches_of(features, grid, [photo], chosen)
    directions = unit_directions(prototypes_of([own], PROTOTYPES))
    compared = evenly(others, MOST_OUTSIDE)

    def nearest(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " q"]:
        return prototype_distances(vectors, directions).min(axis=0)

    usual = np.median(measure_images(features, grid, compared, nearest), axis=0)
    signature = _signature(own, usual, HALF)

    def reached(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " 1"]:
        return np.array([at_place(signature.nearness(vectors), signature.patches)])

    signature = _signature(own, usual, _limit(measure_images(features, grid, compared, reached).ravel()))
    product = Product.of(features.image_features)
    return Pattern(name[:LONGEST_NAME], verdict, signature, product, 1, len(features.kept), single=True)


def mark_signature(
    patches: Float[np.ndarray, "k d"], layers: int, others: Sequence[Float[np.ndarray, "p d"]]
) -> Signature:
    """What some patches of a photo look like, compared with what is at hand of a set.

    Args:
        patches: unit vectors (`signature.patch_vectors`).
        layers: how many parts a vector has.
        others: vectors of photos of the set, or all that is known of it as one.
    """
    own = patches.reshape(len(patches), layers, -1)
    directions = unit_directions(prototypes_of([own], PROTOTYPES))
    nearest = [prototype_distances(vectors, directions).min(axis=0) for vectors in others]
    signature = _signature(own, np.median(nearest, axis=0), HALF)
    if len(others) == 1:
        return signature
    reached = [at_place(signature.nearness(vectors), signature.patches) for vectors in others]
    return replace(signature, limit=_limit(np.array(reached)))


def _limit(reached: Float[np.ndarray, " o"]) -> float:
    """Up to which share of the usual distance a photo shows the mark: in the last gap between other photos.

    Args:
        reached: shares that other photos come to.
    """
    places = np.maximum(np.concatenate([[NEAREST], np.sort(reached)]), NEAREST)
    gaps = np.flatnonzero((places[1:] >= GAP * places[:-1]) & (places[:-1] <= HALF))
    if not len(gaps):
        return NEAREST
    return float(min(HALF, np.sqrt(places[gaps[-1]] * places[gaps[-1] + 1])))


def _signature(own: Float[np.ndarray, "k l c"], usual: Float[np.ndarray, " q"], limit: float) -> Signature:
    prototypes = prototypes_of([own], PROTOTYPES)
    return Signature(prototypes, np.maximum(usual, SMALLEST).astype(np.float32), limit, max(1, int(SOME * len(own))))
