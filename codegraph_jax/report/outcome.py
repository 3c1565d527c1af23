"""What one category of a run came to: everything that the writers of results need."""

from collections.abc import Sequence
from dataclasses import dataclass

from codegraph_jax.data.roi import Inspected
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult


@dataclass(frozen=True)
class Diagnostic:
    """A figure that shows whether the theory holds on this set.

    Attributes:
        title: heading.
        figure: a PNG file (bytes) or an SVG document (str).
        caption: what it shows, in a sentence or two.
        finding: the same in one line, for people who do not open it.
    """

    title: str
    figure: bytes | str
    caption: str
    finding: str


@dataclass(frozen=True)
class Flagging:
    """How the threshold did against the labels: images that have one, and how many of them are flagged."""

    normal: int
    normal_flagged: int
    anomalous: int
    anomalous_flagged: int


@dataclass(frozen=True)
class Outcome:
    """One category: its n readable samples, their scores, and what the labels say of them.

    Attributes:
        category: its name.
        samples: the n images of the result, in its order.
        result: scores, calibration and recurring defects.
        metrics: as `evaluation.evaluate` gives them; None where undefined.
        diagnostics: figures for the report.
        inspected: what of each image is inspected; empty: everything.
    """

    category: str
    samples: list[Sample]
    result: DetectionResult
    metrics: dict[str, float | None]
    diagnostics: tuple[Diagnostic, ...] = ()
    inspected: Sequence[Inspected] = ()

    def flagging(self) -> Flagging:
        """The flags held against the labels, where there are any."""
        pairs = [(sample.label, bool(flag)) for sample, flag in zip(self.samples, self.result.calibration.flagged)]
        return Flagging(
            normal=sum(label == 0 for label, _ in pairs),
            normal_flagged=sum(label == 0 and flag for label, flag in pairs),
            anomalous=sum(label == 1 for label, _ in pairs),
            anomalous_flagged=sum(label == 1 and flag for label, flag in pairs),
        )
