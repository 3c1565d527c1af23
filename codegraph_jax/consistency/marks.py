"""What stands out in one photo that a person has judged, to be recognised in other photos. [ours]

A good part that was flagged has something harmless that stands out; a defective one shows a defect. Either is known by
the patches of this one photo. A community has members by whose differences the limit of its signature is found
(`consistency.signature`); one photo has none, so that about half of the usual distance is the limit: measured on
bottle_recurring (ViT-S/14, 224 px), photos with the same defect come to 0.1 to 0.5 of it, good parts to 0.6 and more.
Where other photos of the set come nearer than that, the limit is lower.
"""

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.consistency.pattern import LONGEST_NAME, Pattern, Product, Verdict
from codegraph_jax.consistency.signature import (
    FAR,
    MOST_OUTSIDE,
    PROTOTYPES,
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
from codegraph_jax.features.extraction import Features

MOST_PATCHES = 64
"""Patches of the photo that are remembered, those with the highest scores."""
HALF, MARGIN = 0.55, 0.8
"""A patch shows the mark up to this share of its usual distance, and up to this share of what the nearest 3 % of the
other photos come to."""


def photo_mark(
    photo: int,
    stands_out: Bool[np.ndarray, " p"],
    scores: Float[np.ndarray, " p"],
    features: Features,
    grid: tuple[int, int],
    verdict: Verdict,
    name: str,
) -> Pattern | None:
    """What stands out in a photo, as a pattern; None where nothing does or there is no other photo.

    Args:
        photo: its place among the images of `features`.
        stands_out: its patches that do.
        scores: of its patches.
        features: of all images.
        grid: of the patches.
        verdict: what the mark is.
        name: what people call it.
    """
    patches = np.flatnonzero(stands_out)
    patches = patches[np.argsort(-scores[patches], kind="stable")][:MOST_PATCHES]
    # in the order of their content: nothing must depend on how the photos were listed
    others = [i for i in sorted(range(len(features.kept)), key=lambda i: features.keys[i]) if i != photo]
    if not len(patches) or not others:
        return None
    chosen = np.zeros((len(features.kept), len(scores)), bool)
    chosen[photo, patches] = True
    prototypes = prototypes_of(patches_of(features, grid, [photo], chosen), PROTOTYPES)
    directions, compared = unit_directions(prototypes), evenly(others, MOST_OUTSIDE)

    def least(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " q"]:
        return prototype_distances(vectors, directions).min(axis=0)

    usual = np.median(measure_images(features, grid, compared, least), axis=0)
    count = max(1, int(SOME * len(patches)))
    mark = Signature(prototypes, np.maximum(usual, SMALLEST).astype(np.float32), HALF, count)

    def reached(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " 1"]:
        return np.array([at_place(mark.nearness(vectors), count)])

    far = float(np.quantile(measure_images(features, grid, compared, reached), FAR))
    limit = float(np.clip(MARGIN * far, SMALLEST, HALF))
    product = Product.of(features.image_features)
    signature = Signature(prototypes, mark.usual, limit, count)
    return Pattern(name[:LONGEST_NAME], verdict, signature, product, 1, len(features.kept), single=True)
