"""One record per image, for scores.csv, scores.json and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegraph_jax.config import ReportConfig
from codegraph_jax.consistency.groups import FoundPattern, PatchBox, RecurringPatterns
from codegraph_jax.consistency.pattern_patches import member_boxes
from codegraph_jax.core.files import Rounded
from codegraph_jax.data.samples import LABELS, Sample
from codegraph_jax.report.boxes import Box, box_on_photo
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.result_files import output_path
from codegraph_jax.scoring.photo_verdicts import PhotoVerdict

COLUMNS = ("path", "category", "label", "score", "score_rescored", "rank", "p_value", "flagged", "verdict", "group")
SCORED = ("score", "score_rescored", "rank", "p_value", "flagged", "verdict", "group")
"""Columns that a record takes from `DetectionResult.rows`; the path and label there are texts."""


@dataclass(frozen=True)
class Record:
    """One image of a run.

    Attributes:
        outcome: its category.
        index: index among the images of the category.
        path, name, category, label: from the sample.
        score, score_rescored, rank: from the result.
        p_value: share of normal images with such a score.
        flagged: whether the image is flagged, see `DetectionResult`.
        verdict: flagged, check, passed or unknown.
        group: number of the recurring pattern on the image, from 1 in each category; None if there is none.
        heatmap, mask: files below the workdir; None if they are not written.
        pattern_boxes: boxes around the recurring pattern.
    """

    outcome: Outcome
    index: int
    path: str
    name: str
    category: str
    label: int | None
    score: float
    score_rescored: float
    rank: int
    p_value: float
    flagged: bool
    verdict: PhotoVerdict
    group: int | None
    heatmap: Path | None
    mask: Path | None
    pattern_boxes: list[Box]

    def as_json(self) -> dict[str, Any]:
        """The record in scores.json."""
        return {name: getattr(self, name) for name in COLUMNS} | {
            "label": LABELS[self.label],
            "score": round(self.score, 6),
            "score_rescored": round(self.score_rescored, 6),
            "p_value": float(f"{self.p_value:.4g}"),
        }

    def csv_cells(self) -> dict[str, Any]:
        """The cells of scores.csv by column."""
        scores = {name: Rounded(f"{getattr(self, name):.6f}") for name in ("score", "score_rescored")}
        return self.as_json() | scores | {"flagged": int(self.flagged)}


def make_records(outcomes: Sequence[Outcome], config: ReportConfig) -> list[Record]:
    """The images of all categories, in the order of the data set."""
    return [record for outcome in outcomes for record in _category_records(outcome, config)]


def boxes_of_pattern(recurring: RecurringPatterns, pattern: FoundPattern) -> list[PatchBox]:
    """Boxes of a recurring pattern on the members of its group, and on other images where it is recognised."""
    boxes, members = (list(pattern.group.boxes), pattern.group.members) if pattern.group else ([], ())
    others = [image for image in pattern.images if image not in members]
    if others and len(recurring.pattern_numbers):
        pattern_patches = recurring.pattern_numbers.reshape(len(recurring.pattern_numbers), -1) == pattern.number
        boxes += member_boxes(pattern_patches, others, recurring.pattern_numbers.shape[1:])
    return boxes


def _category_records(outcome: Outcome, config: ReportConfig) -> list[Record]:
    result = outcome.result
    boxes: dict[int, list[Box]] = {}
    for pattern in result.recurring.patterns:
        for box in boxes_of_pattern(result.recurring, pattern):
            boxes.setdefault(box.image, []).append(box_on_photo(box, result.placement))
    records = []

    def path_in(folder: str, sample: Sample) -> Path | None:
        return output_path(Path(folder), sample.category, sample.name) if folder in config.files else None

    for i, (sample, row) in enumerate(zip(outcome.samples, result.rows())):
        records.append(
            Record(
                outcome=outcome,
                index=i,
                path=sample.path,
                name=sample.name,
                category=sample.category,
                label=sample.label,
                **{name: row[name] for name in SCORED},
                heatmap=path_in("heatmaps", sample),
                mask=path_in("masks", sample) if row["flagged"] else None,
                pattern_boxes=boxes.get(i, []),
            )
        )
    return records
