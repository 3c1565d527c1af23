"""What a detection gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.consistency.copies import with_copies
from codegraph_jax.consistency.pattern import Verdict
from codegraph_jax.consistency.review import Review
from codegraph_jax.data.images import DEEP
from codegraph_jax.data.placement import Placement
from codegraph_jax.scoring.looks import ActiveCalibrator
from codegraph_jax.scoring.maps import content_maps
from codegraph_jax.scoring.threshold import Calibration


@dataclass(frozen=True)
class DetectionResult:
    """Scores of n images; larger means more anomalous.

    Attributes:
        kept: which of the given images these are (those that could be read) [n].
        skipped: (index, reason) of the images that could not be read.
        patch_scores: mean over layers and degrees of the mutual scores, a distance in [0, 2]; 0 where a patch is not
            judged; [n, h, w].
        scores_raw: greatest value of each image's anomaly map [n].
        scores: image scores after re-scoring, in [0, 1] over the set; equal to `scores_raw` where it is off [n].
        calibration: p-values and thresholds, learnt from the set's own scores; which images are flagged.
        placement: where each photograph lies in its grid of patches, and what of it is judged.
        weights: which backbone weights were used.
        features: what the features depend on (`backbones.features_identity`).
        seconds: wall time of each stage.
        consistency: what recurs, near-duplicates and the image graph.
        added: the last so many of the n images were judged by the others, and not the others by them; `scores` of
            those may exceed 1.
        from_cache: images whose features came from the cache.
        depth: bits of 16-bit samples that the images were read with, see `codegraph_jax.data.depth`.
        products: which product each image shows, 0 for the most frequent one (`consistency.products`) [n]; None: not
            looked at.
        bank: the references and thresholds for the days to come, where `detect` was asked for them.
        keys: hash of the content of each image [n]; empty where it is not known.
    """

    kept: Int[np.ndarray, " n"]
    skipped: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"]
    scores_raw: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    calibration: Calibration
    placement: Placement
    weights: str
    features: Mapping[str, Any]
    seconds: dict[str, float]
    consistency: Consistency = field(default_factory=Consistency)
    added: int = 0
    from_cache: int = 0
    depth: int = DEEP
    products: Int[np.ndarray, " n"] | None = None
    bank: ReferenceBank | None = None
    keys: tuple[str, ...] = ()

    def calibrator(self) -> ActiveCalibrator:
        """What a person's answers decide on from here: scores of the run, and its threshold until somebody answers."""
        names = {key: number for number, key in enumerate(self.keys)}
        return ActiveCalibrator(
            {"standard": self.scores_raw},
            set_size=len(self.scores_raw) - self.added,
            copies=[names[key] for key in self.keys] or None,
            known=self.consistency.proven(len(self.scores_raw)),
            threshold=self.calibration.threshold,
        )

    def maps(
        self, images: slice | Sequence[int] = slice(None), size: int | tuple[int, int] | None = None
    ) -> Float[np.ndarray, "k a b"]:
        """Anomaly maps of the chosen images (default: all), each of the whole photograph and nothing besides.

        Args:
            images: which.
            size: pixels a side, or (height, width); default: that of the grid as the backbone sees it.
        """
        return content_maps(self.patch_scores[images], size or self.map_size, self.placement.contents(images))

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the grid in pixels, as the backbone sees it."""
        return self.placement.frame.size

    def review(self, verdicts: Mapping[int, Verdict | tuple[Verdict, str]]) -> Review:
        """A person's verdicts on what recurs, to judge this set again with or the next lot of the product.

            review = result.review({1: ("variant", "imprint"), 2: "defect"})
            result = detector.judge(comparison, review=review)

        Verdicts that were known before are kept where they are not replaced.

        Args:
            verdicts: by the numbers of communities (from 1) and sightings: `defect`, `variant` or `undecided`, perhaps
                with a name.

        Raises:
            KeyError: there is no such number.
            ValueError: what the number stands for shows too little to be known again, or there is no such verdict.
        """
        found, images = self.consistency, len(self.scores)
        patterns = list(found.others)
        numbers = {sighting.number for sighting in found.sightings} | set(verdicts)
        for number in sorted(numbers):
            if not 1 <= number <= found.highest:
                raise KeyError(f"no group {number}: there are {found.highest}")
            pattern = found.pattern(number, images)
            if pattern is None:
                raise ValueError(f"group {number} shows too little to be known again")
            given = verdicts.get(number, pattern.verdict)
            verdict, name = given if isinstance(given, tuple) else (given, pattern.name)
            patterns.append(replace(pattern, verdict=verdict, name=name))
        return Review(self.features, tuple(patterns))

    def with_copies(self, copies: Sequence[tuple[int, int]], listed: int) -> "DetectionResult":
        """The result with images that were left out because they show the same as others.

        A copy gets what its original has, and is a member wherever that is.

        Args:
            copies: (source index, place of the original among the n images).
            listed: source indices from it on are of added images.
        """
        if not copies:
            return self
        places = {int(source): place for place, source in enumerate(self.kept)} | dict(copies)
        # where a set shows an image twice and it is added too, the set comes first
        kept = np.array(sorted(places))
        place = np.array([places[source] for source in kept.tolist()])
        calibration = self.calibration
        return replace(
            self,
            kept=kept,
            patch_scores=self.patch_scores[place],
            scores_raw=self.scores_raw[place],
            scores=self.scores[place],
            placement=self.placement.of(place),
            calibration=replace(calibration, p_values=calibration.p_values[place], flagged=calibration.flagged[place]),
            consistency=with_copies(self.consistency, place),
            products=None if self.products is None else self.products[place],
            added=int((kept >= listed).sum()),
        )

    @property
    def ranks(self) -> Int[np.ndarray, " n"]:
        """Place of each image, 1 for the most anomalous [n]; ties keep the order of the images."""
        ranks = np.empty(len(self.scores), int)
        ranks[np.argsort(-self.scores, kind="stable")] = np.arange(1, len(self.scores) + 1)
        return ranks
