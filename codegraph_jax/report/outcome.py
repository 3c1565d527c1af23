"""The outcome of one category of a run, from which the results are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from codegraph_jax.data.roi import Inspected
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult


@dataclass(frozen=True)
class Diagnostic:
    """A figure that shows how well the model assumptions fit the set.

    Attributes:
        title: heading.
        figure: a PNG file (bytes) or an SVG document (str).
        caption: one or two sentences on the figure.
        finding: the result in one line.
    """

    title: str
    figure: bytes | str
    caption: str
    finding: str


@dataclass(frozen=True)
class Flagging:
    """Numbers of labelled images, and of the flagged ones among them."""

    normal: int
    normal_flagged: int
    anomalous: int
    anomalous_flagged: int


@dataclass(frozen=True)
class Outcome:
    """One category: its n readable samples, their scores, and the metrics.

    Attributes:
        category: name of the category.
        samples: the n images of the result, in its order.
        result: scores, calibration and recurring defects.
        metrics: metrics from `evaluation.evaluate`; None where undefined.
        diagnostics: figures for the report.
        inspected: inspected region of each image; empty: everything.
    """

    category: str
    samples: list[Sample]
    result: DetectionResult
    metrics: dict[str, float | None]
    diagnostics: tuple[Diagnostic, ...] = ()
    inspected: Sequence[Inspected] = ()

    def flagging(self) -> Flagging:
        """Counts of flags by label."""
        pairs = [(sample.label, bool(flag)) for sample, flag in zip(self.samples, self.result.calibration.flagged)]
        return Flagging(
            normal=sum(label == 0 for label, _ in pairs),
            normal_flagged=sum(label == 0 and flag for label, flag in pairs),
            anomalous=sum(label == 1 for label, _ in pairs),
            anomalous_flagged=sum(label == 1 and flag for label, flag in pairs),
        )
