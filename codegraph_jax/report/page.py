"""Writes report.html: a single file with embedded images, which opens from disk and loads nothing from the network.

Images are embedded as JPEG with the side of `photo_images.image_side`: 1024 px for up to 100 images, 512 px for 400,
about 230 px for 2,000 (about 30 MB). Anomaly maps are embedded as small PNG layers over the images, so that they can
be switched off. If the embedded images are small, the large view loads the heat-map file beside the report, and falls
back to the embedded image if the report was moved without its folder.
"""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from codegraph_jax.consistency.pattern import MAX_NAME_LENGTH
from codegraph_jax.consistency.review import MAX_NOTE_LENGTH, Review
from codegraph_jax.core.files import finite_or_none, write_text
from codegraph_jax.core.json_fields import plain
from codegraph_jax.core.names import printable
from codegraph_jax.core.started_command import without_flags
from codegraph_jax.report.heatmaps import anomaly_png
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.page_security import digest, style_and_script
from codegraph_jax.report.photo_images import ReportPhoto, image_side
from codegraph_jax.report.recurring_patterns import ReportPattern, review_draft
from codegraph_jax.report.result_files import relative_url
from codegraph_jax.report.spacing_figure import spacing_caption, spacing_figure, spacing_finding
from codegraph_jax.report.tables import metrics_headings, metrics_rows
from codegraph_jax.report.templates import render_page
from codegraph_jax.report.texts import Text, script_json, text
from codegraph_jax.report.wording import (
    chance,
    describe_evidence,
    describe_threshold,
    describe_warning,
    mixed_products_note,
    rarity,
    tolerated_note,
)
from codegraph_jax.scoring import photo_verdicts

MAX_MEMBERS = 60
"""Number of thumbnails in a group; the table shows all members."""
LARGE_ENOUGH = 400
"""Side in pixels from which the large view uses the embedded image."""
STORE_FORMAT = 2
"""Version of the answers in the browser's storage; those of other versions are not read."""
HUES = 8
"""Number of colours for groups."""


@dataclass(frozen=True)
class CategorySection:
    """One category of the report.

    Attributes:
        index: its index.
        outcome: the category.
        first_number: number of its first image in the report.
        patterns: its recurring patterns, each with its index among those of all categories.
    """

    index: int
    outcome: Outcome
    first_number: int
    patterns: list[tuple[int, ReportPattern]]

    def numbers(self, images: Sequence[int]) -> list[int]:
        """Numbers of images of the category in the report."""
        return [self.first_number + image for image in images]


@dataclass(frozen=True)
class Row:
    """One line of the table: a photo, its category, and the pattern on it."""

    section: CategorySection
    photo: ReportPhoto
    pattern: ReportPattern | None

    @property
    def number(self) -> int:
        """Number of the photo in the report."""
        return self.section.first_number + self.photo.record.index

    @property
    def rescored(self) -> bool:
        """Whether re-scoring has changed the score."""
        return round(self.photo.record.score_rescored, 6) != round(self.photo.record.score, 6)


def write_page(
    path: Path,
    outcomes: Sequence[Outcome],
    photos: Sequence[ReportPhoto],
    patterns: Sequence[ReportPattern],
    mean: dict[str, float | None],
    manifest: dict[str, Any],
    review: Review | None = None,
) -> None:
    """Writes the report.

    Args:
        path: the file; files that records and patterns name are relative to its directory.
        outcomes: all categories.
        photos: the photos of all categories, in their order.
        patterns: recurring patterns of all categories; only those with members are in the report.
        mean: mean metrics of all categories.
        manifest: the manifest, with `date`, `command` and `photos_digest`.
        review: answers that the run has applied.
    """
    patterns = [pattern for pattern in patterns if pattern.images]
    sections = _sections(outcomes, patterns)
    rows = _rows(sections, photos)
    # an inspection has no keys, and answers cannot be applied to it in another run
    reviewable = all(outcome.result.keys for outcome in outcomes)
    draft = review_draft(outcomes, patterns, review, manifest["photos_digest"]) if reviewable else None
    metrics = {outcome.category: outcome.metrics for outcome in outcomes}
    measured = any(value is not None for values in metrics.values() for value in values.values())
    html = render_page(
        "page.html.j2",
        *style_and_script(),
        sections=sections,
        rows=sorted(rows, key=lambda row: (row.photo.record.p_value, -row.photo.record.score)),
        data=Markup(script_json(_script_data(rows, sections, draft, manifest))),
        manifest=manifest,
        # date and command are at the top of the page
        manifest_text=json.dumps({key: manifest[key] for key in manifest if key not in ("date", "command")}, indent=2),
        reviewable=reviewable,
        command=_command(manifest),
        applied=_applied(outcomes, patterns) if review else None,
        counts=Counter(photo.record.verdict for photo in photos),
        pattern_counts=Counter(pattern.verdict for pattern in patterns),
        notes=_notes(outcomes),
        unreadable=[reason for outcome in outcomes for _, reason in outcome.result.unreadable],
        findings=_findings(outcomes, mean),
        headings=list(metrics_headings(metrics).values()),
        metrics=metrics_rows(metrics, mean) if measured else [],
        colours_png=anomaly_png(np.linspace(0, 1, 128)[None]),
        **HELPERS,
    )
    write_text(path, html)


def _command(manifest: dict[str, Any]) -> str:
    """The command of the run without its review."""
    command = manifest["command"] or f"codegraph detect {shlex.quote(printable(manifest['config']['data']['root']))}"
    return shlex.join(without_flags(shlex.split(command), "review"))


def _applied(outcomes: Sequence[Outcome], patterns: Sequence[ReportPattern]) -> Text | None:
    """The numbers of applied answers; photos of earlier batches count if they have a mark."""
    keys = {key for outcome in outcomes for key in outcome.result.keys}
    photos = {key: photo for outcome in outcomes for key, photo in outcome.result.answers.photos.items()}
    counts = {
        "photos": sum(key in keys and photo.answer is not None for key, photo in photos.items()),
        "applied_earlier": sum(key not in keys and photo.mark is not None for key, photo in photos.items()),
        "applied_groups": sum(pattern.reviewed for pattern in patterns),
        "applied_thresholds": sum(outcome.result.answers.threshold is not None for outcome in outcomes),
    }
    parts = [text(key, count=count) for key, count in counts.items() if count]
    return text("answers_applied", parts=parts) if parts else None


def _notes(outcomes: Sequence[Outcome]) -> list[Text]:
    """Lines on categories with several products, and on tolerated photos."""
    notes = [
        note(outcome.category, outcome.result) for outcome in outcomes for note in (mixed_products_note, tolerated_note)
    ]
    return [note for note in notes if note]


def _findings(outcomes: Sequence[Outcome], mean: dict[str, float | None]) -> list[Text]:
    """Lines on the metrics and the spacing law for specialists."""
    lines = []
    if (auroc := mean.get("image_auroc")) is not None:
        counts = sum((outcome.label_counts() for outcome in outcomes), Counter[str]())
        names = ("false_alarms", "good", "defective_flagged", "defective")
        values = {name: counts[name] for name in names}
        lines.append(text("against_labels", auroc=round(100 * auroc, 1), **values))
    laws = [outcome.result.recurring.spacing_law for outcome in outcomes]
    return lines + [spacing_finding(law) for law in laws if law]


def _sections(outcomes: Sequence[Outcome], patterns: Sequence[ReportPattern]) -> list[CategorySection]:
    sections, first_number = [], 0
    for index, outcome in enumerate(outcomes):
        own = [(number, pattern) for number, pattern in enumerate(patterns) if pattern.outcome is outcome]
        sections.append(CategorySection(index, outcome, first_number, own))
        first_number += len(outcome.samples)
    return sections


def _rows(sections: Sequence[CategorySection], photos: Sequence[ReportPhoto]) -> list[Row]:
    section_of = {section.outcome: section for section in sections}
    pattern_of: dict[tuple[Outcome, int | None], ReportPattern] = {
        (section.outcome, pattern.number): pattern for section in sections for _, pattern in section.patterns
    }
    rows = []
    for photo in photos:
        outcome, group = photo.record.outcome, photo.record.group
        rows.append(Row(section_of[outcome], photo, pattern_of.get((outcome, group))))
    return rows


def _script_data(
    rows: Sequence[Row], sections: Sequence[CategorySection], draft: dict[str, Any] | None, manifest: dict[str, Any]
) -> dict[str, Any]:
    """Data of the report for the script."""
    return {
        "images": [_image_data(row) for row in rows],
        "mm_per_pixel": manifest["config"]["report"]["mm_per_pixel"],
        "sets": [_set_data(section) for section in sections],
        "large": image_side(len(rows)) >= LARGE_ENOUGH,
        "review": draft and draft | {"store": _store([section.outcome for section in sections], draft)},
        "limits": {
            "p_value": photo_verdicts.CHECK_P_VALUE,
            "probability": photo_verdicts.CHECK_PROBABILITY,
            "fewest": photo_verdicts.PHOTOS_TO_CHECK,
        },
    }


def _set_data(section: CategorySection) -> dict[str, Any]:
    """Data of a category for the script: scores, answers, and the verdicts of the run."""
    result = section.outcome.result
    calibration, answers, calibrator = result.calibration, result.answers, result.calibrator().as_json()
    photos = len(section.outcome.samples) if result.keys else None
    warning = calibration.warning
    explanation = describe_warning(warning) if warning else describe_threshold(calibration, photos)
    return {
        "category": printable(section.outcome.category),
        "first_number": section.first_number,
        "calibrator": calibrator,
        "flagged": result.flagged.tolist(),
        "tolerated": result.tolerated.tolist(),
        # a bank has a single score
        "score": result.score_name if result.score_name in calibrator["scores"] else next(iter(calibrator["scores"])),
        "threshold": finite_or_none(calibration.threshold),
        "by_hand": None if answers.threshold is None else {"score": answers.score, "threshold": answers.threshold},
        "p_values": result.p_values.tolist(),
        "enough_photos": not calibration.too_few_photos,
        "explanation": explanation.as_json(),
    }


def _store(outcomes: Sequence[Outcome], draft: dict[str, Any]) -> dict[str, str]:
    """Keys of the browser's storage: for answers to photos, which depend on the photos, and for other answers."""
    keys = [[printable(outcome.category), *outcome.result.keys] for outcome in outcomes]
    photos = digest(json.dumps([draft["feature_identity"], draft["photos"], keys], sort_keys=True))
    rest = digest(photos + json.dumps(draft, sort_keys=True))
    return {"photos": f"codegraph {STORE_FORMAT} {photos}", "rest": f"codegraph {STORE_FORMAT} {rest}"}


def _hue(number: int) -> int:
    """Colour of a group, from 1 to HUES."""
    return (number - 1) % HUES + 1


def _frequency(pattern: ReportPattern) -> Text:
    """Number of photos in this and the previous batch, and significance."""
    counts = {"members": len(pattern.images), "photos": len(pattern.outcome.samples)}
    frequency = text("of_n_photos", **counts)
    if last := pattern.previous:
        frequency = text(
            "of_n_photos_before", **counts, members_before=last.member_count, photos_before=last.image_count
        )
    if pattern.group is None:
        return text("group_recognised", frequency=frequency)
    return text("group_found", frequency=frequency, chance=chance(pattern.group.chance_p_value))


def _image_data(row: Row) -> dict[str, Any]:
    """Data of an image for the script."""
    photo, record = row.photo, row.photo.record
    keys = record.outcome.result.keys
    return {
        "set": row.section.index,
        "key": keys[record.index] if keys else None,
        "name": printable(record.name),
        "path": printable(record.path),
        "label": record.label,
        "rescored": round(record.score_rescored, 6) if row.rescored else None,
        "group": record.group,
        "pattern": plain(row.pattern.label) if row.pattern else None,
        "width": photo.size[0],
        "height": photo.size[1],
        "region_boxes": [_shares(region.box, photo.size) for region in photo.regions],
        "largest_region": max(([round(r.length), round(r.width)] for r in photo.regions), default=None),
        "pattern_boxes": [[round(edge, 4) for edge in asdict(box).values()] for box in record.pattern_boxes],
        "heatmap": relative_url(record.heatmap) if record.heatmap else None,
        "mask": relative_url(record.mask) if record.mask else None,
    }


def _shares(box: tuple[int, int, int, int], size: tuple[int, int]) -> list[float]:
    """Left, top, right and bottom as shares of the photo's width and height."""
    return [round(edge / side, 4) for edge, side in zip(box, size * 2)]


HELPERS: dict[str, Any] = {
    "MAX_NAME_LENGTH": MAX_NAME_LENGTH,
    "MAX_NOTE_LENGTH": MAX_NOTE_LENGTH,
    "MAX_MEMBERS": MAX_MEMBERS,
    "hue": _hue,
    "frequency": _frequency,
    "evidence": describe_evidence,
    "rarity": rarity,
    "spacing_figure": spacing_figure,
    "spacing_caption": spacing_caption,
}
"""Constants and functions of the template."""
