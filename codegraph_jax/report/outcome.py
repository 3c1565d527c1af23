"""The outcome of one category of a run, from which the results are written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codegraph_jax.data.roi import InspectedArea, everything
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult


@dataclass(frozen=True, eq=False)
class Outcome:
    """One category: its n readable samples, their scores, and the metrics; equal only to itself.

    Attributes:
        category: name of the category.
        result: samples, scores, calibration and recurring defects.
        metrics: metrics from `evaluation.evaluate`; None where undefined.
        areas: inspected area of each image.
    """

    category: str
    result: DetectionResult
    metrics: dict[str, float | None]
    areas: Sequence[InspectedArea]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The n images of the result, in its order."""
        return self.result.samples

    @property
    def inspected_in_part(self) -> bool:
        """Whether some photos are inspected only in part."""
        return any(area is not everything for area in self.areas)

    def label_counts(self) -> Counter[str]:
        """Numbers of images: `good`, `false_alarms` among them, `defective`, and `defective_flagged` among them."""
        counts = Counter(good=0, false_alarms=0, defective=0, defective_flagged=0)
        for sample, flagged in zip(self.samples, self.result.flagged):
            if sample.label is not None:
                counts["defective" if sample.label else "good"] += 1
                counts["defective_flagged" if sample.label else "false_alarms"] += int(flagged)
        return counts
