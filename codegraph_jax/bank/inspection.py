"""Scores of new images by a reference bank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.bank.peak_patches import PeakPatches
from codegraph_jax.consistency.groups import PatternMatch
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import InspectedArea
from codegraph_jax.scoring.maps import photo_maps


@dataclass(frozen=True)
class Inspection:
    """Scores of n new images; larger means more anomalous.

    Attributes:
        kept: indices of the images that could be read [n].
        unreadable: (index, reason) of the images that could not be read.
        patch_scores: mutual scores, distances in [0, 2]; [n, h, w].
        scores: greatest value of each image's anomaly map [n].
        p_values: share of normal images with such a score [n].
        flagged: images that reach the threshold, show a marked defect, or have the answer "defective"; without those
            that have the answer "good" or show only tolerated defects (`threshold.min_defect_length`) [n].
        placement: position of each photo in its grid of patches, and the inspected patches.
        pattern_numbers: number of the pattern on each patch, from 1 as in `matches`; 0: none [n, h, w].
        areas: inspected area of each image.
        matches: the patterns of the bank, each with the images on which it was found.
        peak_patches: peak patches of each image away from known patterns; empty unless `min_peak_score` was given.
        other_product: whether the images look like another product than the bank's.
    """

    kept: Int[np.ndarray, " n"]
    unreadable: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    placement: Placement
    pattern_numbers: Int[np.ndarray, "n h w"]
    matches: tuple[PatternMatch, ...]
    areas: Sequence[InspectedArea]
    peak_patches: Sequence[PeakPatches] = ()
    other_product: bool = False

    def __repr__(self) -> str:
        return f"Inspection({len(self.scores)} images, {int(self.flagged.sum())} flagged)"

    def patterns_of(self, image: int) -> list[Pattern]:
        """The patterns of the bank that were found on an image."""
        return [match.pattern for match in self.matches if image in match.images]

    def maps(
        self, images: slice | Sequence[int] = slice(None), size: int | tuple[int, int] | None = None
    ) -> Float[np.ndarray, "k a b"]:
        """Anomaly maps of some images, each covering exactly the photo; arguments as for `DetectionResult.maps`."""
        rects = self.placement.rects(images)
        return photo_maps(self.patch_scores[images], size or self.placement.frame.size, rects)
