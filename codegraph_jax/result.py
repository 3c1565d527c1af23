"""What a detection gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.scoring.maps import interpolated
from codegraph_jax.scoring.threshold import Calibration


@dataclass(frozen=True)
class DetectionResult:
    """Scores of n images; larger means more anomalous.

    Attributes:
        kept: which of the given images these are (those that could be read) [n].
        skipped: (index, reason) of the images that could not be read.
        patch_scores: mean over layers and degrees of the mutual scores, a distance in [0, 2] [n, h, w].
        scores_raw: greatest value of each image's anomaly map [n].
        scores: image scores after re-scoring, in [0, 1] over the set; equal to `scores_raw` where it is off [n].
        calibration: p-values and thresholds, learnt from the set's own scores; which images are flagged.
        image_size: side of the anomaly maps in pixels.
        weights: which backbone weights were used.
        seconds: wall time of each stage.
        consistency: recurring defects, near-duplicates and the image graph.
        added: the last so many of the n images were judged by the others, and not the others by them; `scores` of
            those may exceed 1.
        from_cache: images whose features came from the cache.
        bank: the references and thresholds for the days to come, where `detect` was asked for them.
    """

    kept: Int[np.ndarray, " n"]
    skipped: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"]
    scores_raw: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    calibration: Calibration
    image_size: int
    weights: str
    seconds: dict[str, float]
    consistency: Consistency = field(default_factory=Consistency)
    added: int = 0
    from_cache: int = 0
    bank: ReferenceBank | None = None

    def maps(
        self, images: slice | Sequence[int] = slice(None), size: int | tuple[int, int] | None = None
    ) -> Float[np.ndarray, "k a b"]:
        """Anomaly maps of the chosen images (default: all).

        Args:
            images: which.
            size: pixels a side, or (height, width); default: `image_size`.
        """
        return interpolated(self.patch_scores[images], size or self.image_size)

    @property
    def ranks(self) -> Int[np.ndarray, " n"]:
        """Place of each image, 1 for the most anomalous [n]; ties keep the order of the images."""
        ranks = np.empty(len(self.scores), int)
        ranks[np.argsort(-self.scores, kind="stable")] = np.arange(1, len(self.scores) + 1)
        return ranks
