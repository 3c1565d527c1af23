"""report.html: one file that opens from disk, holds its pictures, and fetches nothing from anywhere.

Pictures are embedded as JPEG, as large as `pictures.picture_side` allows: 1024 px for up to 100 images, 512 px for 400,
about 230 px for 2,000 (some 30 MB). Anomaly maps are embedded as small PNG layers that the browser lays over them, so
the map can be switched off. Where the embedded picture is small, the large view shows the heat-map file beside the
report instead, and falls back to the embedded picture when the report was sent somewhere without its folder.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from codegraph_jax.consistency.pattern import LONGEST_NAME, Verdict
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import relative_url, shown
from codegraph_jax.report import drawing, histogram
from codegraph_jax.report.outcome import Diagnostic, Outcome
from codegraph_jax.report.pictures import Picture, picture_side
from codegraph_jax.report.records import Record
from codegraph_jax.report.recurrence import Recurrence, review_draft
from codegraph_jax.report.tables import metrics_headings, metrics_rows
from codegraph_jax.report.wording import CHOICES, VERDICTS, describe_evidence, describe_threshold, several_products

MOST_MEMBERS = 60
"""Thumbnails in a group; the table shows all of them."""
LARGE_ENOUGH = 400
"""Side in pixels from which the large view is content with the embedded picture."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a record, its picture, its number in the report, and what it shares with others."""

    number: int
    record: Record
    picture: Picture
    shares: str | None


@dataclass(frozen=True)
class Group:
    """Something that recurs as the report tells it; members by their number in the report.

    Attributes:
        place: among everything that recurs in the run, from 0.
        reasons: what the verdict rests on: whether each observation speaks for a defect, and what it is.
        lots: how many images show it, now and in the lot before.
        reviewable: whether a verdict on it can be kept.
    """

    place: int
    number: int
    hue: int
    label: str
    name: str
    verdict: Verdict
    reviewed: bool
    members: list[int]
    facts: str
    reasons: list[tuple[bool, str]]
    lots: str
    reviewable: bool
    sheet: str


@dataclass(frozen=True)
class Alike:
    """Images of a category that look the same but share no defect; members by their number in the report."""

    category: str
    heading: str
    text: str
    members: list[int]


@dataclass(frozen=True)
class Chapter:
    """What the report tells of one category; nodes of the drawing are counted from its `first` image."""

    category: str
    images: int
    flagged: int
    threshold: str
    explanation: str
    histogram: histogram.Histogram
    drawing: drawing.Drawing
    groups: list[Group]
    first: int
    diagnostics: Sequence[Diagnostic]


def write_page(
    path: Path,
    outcomes: Sequence[Outcome],
    records: Sequence[Record],
    pictures: Sequence[Picture],
    recurrences: Sequence[Recurrence],
    mean: dict[str, float | None],
    manifest: dict[str, Any],
    measured_at: str,
    reviewable: bool,
) -> None:
    """Writes the report.

    Args:
        path: the file; the files that records and recurrences name lie in its directory.
        outcomes: all categories.
        records, pictures: all images, in the same order.
        recurrences: what recurs in all categories.
        mean: metrics over all categories.
        manifest: what the run was made with; nothing that differs between equal runs.
        measured_at: where the pixels of the metrics were counted.
        reviewable: whether a run can be judged again with the verdicts of a person.
    """
    rows = _rows(records, pictures, recurrences)
    data = {
        "images": [_image_data(row) for row in rows],
        "large": picture_side(len(rows)) >= LARGE_ENOUGH,
        "review": review_draft(outcomes, recurrences) if reviewable and recurrences else None,
    }
    rows.sort(key=lambda row: (row.record.p_value, -row.record.score_raw))
    style, script = _package_text("page.css"), _package_text("page.js")
    template = _environment().from_string(_package_text("page.html.j2"))
    html = template.render(
        style=Markup(style),
        script=Markup(script),
        policy=content_policy(style, script),
        chapters=_chapters(outcomes, recurrences),
        reviewable=bool(data["review"]),
        alike=_alike(outcomes),
        rows=rows,
        names={row.number: row.record.name for row in rows},
        diagnosed=any(outcome.diagnostics for outcome in outcomes),
        data=embedded_json(data),
        labelled=any(record.label is not None for record in records),
        several=len(outcomes) > 1,
        flagged=sum(record.flagged for record in records),
        recurring=Counter(found.verdict for found in recurrences),
        mixed=[line for outcome in outcomes if (line := several_products(outcome.category, outcome.result))],
        skipped=[reason for outcome in outcomes for _, reason in outcome.result.skipped],
        weights=outcomes[0].result.weights,
        frames=sorted({str(outcome.result.placement.frame) for outcome in outcomes}),
        inspected_in_part=any(outcome.inspected for outcome in outcomes),
        headings=list(metrics_headings({outcome.category: outcome.metrics for outcome in outcomes}).values()),
        metrics=metrics_rows({outcome.category: outcome.metrics for outcome in outcomes}, mean),
        measured_at=measured_at,
        measured=any(value is not None for outcome in outcomes for value in outcome.metrics.values()),
        flagging=[(outcome.category, outcome.flagging()) for outcome in outcomes],
        manifest=json.dumps(manifest, indent=2),
    )
    with whole_file(path) as name:
        Path(name).write_bytes(html.encode("utf-8"))


def _rows(records: Sequence[Record], pictures: Sequence[Picture], recurrences: Sequence[Recurrence]) -> list[Row]:
    """In the order of the records."""
    labels = {(id(found.outcome), found.number): found.label for found in recurrences}
    return [
        Row(number, record, picture, labels[id(record.outcome), record.community] if record.community else None)
        for number, (record, picture) in enumerate(zip(records, pictures))
    ]


def content_policy(style: str, script: str) -> str:
    """Nothing is loaded but pictures from the file itself and from beside it; nothing runs but the report's script."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data: 'self' file:",
            f"style-src 'sha256-{_digest(style)}'",
            f"script-src 'sha256-{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def embedded_json(value: Any) -> Markup:
    """JSON that can stand in a script element: neither `</script>` nor `<!--` can occur in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def data_url(media_type: str, content: bytes) -> str:
    """A file as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _chapters(outcomes: Sequence[Outcome], recurrences: Sequence[Recurrence]) -> list[Chapter]:
    chapters, first = [], 0
    for outcome in outcomes:
        result, count = outcome.result, len(outcome.samples)
        calibration = result.calibration
        chapters.append(
            Chapter(
                category=outcome.category,
                images=count,
                flagged=int(calibration.flagged.sum()),
                threshold=f"{calibration.threshold:.4f}",
                explanation=describe_threshold(calibration, count, shown(outcome.category)),
                histogram=histogram.histogram(result.scores_raw, calibration),
                drawing=drawing.draw_graph(result.consistency),
                groups=[
                    _group(place, recurrence, first)
                    for place, recurrence in enumerate(recurrences)
                    if recurrence.outcome is outcome
                ],
                first=first,
                diagnostics=outcome.diagnostics,
            )
        )
        first += count
    return chapters


def _group(place: int, recurrence: Recurrence, first: int) -> Group:
    community, sighting = recurrence.community, recurrence.sighting
    facts, reasons = "Recognised by what it looks like.", []
    if community:
        by_chance = f"by chance with probability {community.p_value:.2g}"
        facts = f"{community.strength:.1f} links between two members on average; {by_chance}."
        reasons = describe_evidence(community.evidence) if community.evidence else []
    lots = f"{len(recurrence.members)} of {len(recurrence.outcome.samples)} images"
    if sighting:
        lots += f"; in the lot before {sighting.pattern.shown} of {sighting.pattern.images}"
    return Group(
        place=place,
        number=recurrence.number,
        hue=drawing.hue(recurrence.number),
        label=recurrence.label,
        name=recurrence.name,
        verdict=recurrence.verdict,
        reviewed=recurrence.reviewed,
        members=[first + image for image in recurrence.members],
        facts=facts,
        reasons=reasons,
        lots=lots,
        reviewable=recurrence.pattern is not None,
        sheet=relative_url(recurrence.sheet),
    )


def _alike(outcomes: Sequence[Outcome]) -> list[Alike]:
    groups, first = [], 0
    for outcome in outcomes:
        found = outcome.result.consistency
        for members in found.duplicates:
            heading = f"{len(members)} near-duplicates"
            text = "Most likely photographs of one and the same part: they do not serve as references for each other."
            groups.append(Alike(outcome.category, heading, text, [first + image for image in members]))
        for members in found.views:
            heading = f"{len(members)} images share a view"
            text = "The same pose, mould or light."
            groups.append(Alike(outcome.category, heading, text, [first + image for image in members]))
        first += len(outcome.samples)
    return groups


def _image_data(row: Row) -> dict[str, Any]:
    """What the script knows of an image."""
    record, picture = row.record, row.picture
    return {
        "name": shown(record.name),
        "category": shown(record.category),
        "path": shown(record.path),
        "label": record.label,
        "raw": round(record.score_raw, 6),
        "score": round(record.score, 6),
        "rank": record.rank,
        "p": float(f"{record.p_value:.4g}"),
        "flagged": record.flagged,
        "community": record.community,
        "shares": shown(row.shares) if row.shares else None,
        "width": picture.image_width,
        "height": picture.image_height,
        "boxes": [_shares(region.box, picture) for region in picture.regions],
        "shared": [_edges(box) for box in record.shared],
        "heatmap": relative_url(record.heatmap) if record.heatmap else None,
        "mask": relative_url(record.mask) if record.mask else None,
    }


def _shares(box: tuple[int, int, int, int], picture: Picture) -> list[float]:
    """Left, top, right and bottom in shares of the photograph's width and height."""
    sides = (picture.image_width, picture.image_height) * 2
    return [round(edge / side, 4) for edge, side in zip(box, sides)]


def _edges(box: Any) -> list[float]:
    return [round(edge, 4) for edge in asdict(box).values()]


def _figure_url(figure: bytes | str) -> str:
    """A diagnostic figure as a picture: what an SVG may hold beside shapes has no effect there."""
    return data_url("image/png", figure) if isinstance(figure, bytes) else data_url("image/svg+xml", figure.encode())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _package_text(name: str) -> str:
    return files("codegraph_jax.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {
        "plot": histogram,
        "graph": drawing,
        "VERDICTS": VERDICTS,
        "CHOICES": CHOICES,
        "LONGEST_NAME": LONGEST_NAME,
        "MOST_MEMBERS": MOST_MEMBERS,
    }
    environment.filters |= {"shown": shown, "figure_url": _figure_url}
    environment.filters["jpeg_url"] = lambda content: data_url("image/jpeg", content)
    environment.filters["png_url"] = lambda content: data_url("image/png", content)
    return environment
