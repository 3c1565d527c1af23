"""The outcome of one category of a run, from which the results are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from codegraph_jax.data.roi import Inspected
from codegraph_jax.data.samples import Sample
from codegraph_jax.report.texts import Text
from codegraph_jax.result import DetectionResult


@dataclass(frozen=True)
class Diagnostic:
    """A figure that shows how well the model assumptions fit the set.

    Attributes:
        title: heading.
        figure: a PNG file.
        caption: one or two sentences on the figure.
        finding: the result in one line.
    """

    title: Text
    figure: bytes
    caption: Text
    finding: Text


@dataclass(frozen=True)
class LabelCounts:
    """Numbers of images by label: good ones, flagged ones among them, defective ones, flagged ones among them."""

    good: int
    false_alarms: int
    defective: int
    found: int


@dataclass(frozen=True)
class Outcome:
    """One category: its n readable samples, their scores, and the metrics.

    Attributes:
        category: name of the category.
        samples: the n images of the result, in its order.
        result: scores, calibration and recurring defects.
        metrics: metrics from `evaluation.evaluate`; None where undefined.
        diagnostics: figures for the report.
        inspected: inspected area of each image; empty: everything.
    """

    category: str
    samples: list[Sample]
    result: DetectionResult
    metrics: dict[str, float | None]
    diagnostics: tuple[Diagnostic, ...] = ()
    inspected: Sequence[Inspected] = ()

    def label_counts(self) -> LabelCounts:
        """Counts of flags by label."""
        pairs = [(sample.label, bool(flag)) for sample, flag in zip(self.samples, self.result.calibration.flagged)]
        return LabelCounts(
            good=sum(label == 0 for label, _ in pairs),
            false_alarms=sum(label == 0 and flag for label, flag in pairs),
            defective=sum(label == 1 for label, _ in pairs),
            found=sum(label == 1 and flag for label, flag in pairs),
        )
