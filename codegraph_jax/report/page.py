"""Writes report.html: a single file with embedded pictures, which opens from disk and loads nothing from the network.

Pictures are embedded as JPEG with the side of `pictures.picture_side`: 1024 px for up to 100 images, 512 px for 400,
about 230 px for 2,000 (about 30 MB). Anomaly maps are embedded as small PNG layers over the pictures, so that they can
be switched off. If the embedded pictures are small, the large view loads the heat-map file beside the report, and falls
back to the embedded picture if the report was moved without its folder.
"""

import base64
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from codegraph_jax.consistency.pattern import LONGEST_NAME, PatternVerdict
from codegraph_jax.consistency.review import LONGEST_NOTE, Review
from codegraph_jax.core.files import finite_or_none, whole_file
from codegraph_jax.core.names import printable, relative_url
from codegraph_jax.report import drawing
from codegraph_jax.report.heatmaps import layer_png
from codegraph_jax.report.outcome import Diagnostic, Outcome
from codegraph_jax.report.pictures import Picture, picture_side
from codegraph_jax.report.policy import PARTS, content_policy, digest, package_text
from codegraph_jax.report.records import Record
from codegraph_jax.report.recurrence import RecurringPattern, review_draft
from codegraph_jax.report.tables import metrics_headings, metrics_rows
from codegraph_jax.report.wording import (
    CHOICES,
    GROUPS,
    TILES,
    VERDICTS,
    chance,
    counted,
    describe_evidence,
    describe_threshold,
    rarity,
    several_products,
)
from codegraph_jax.scoring import photo_verdicts
from codegraph_jax.scoring.scores import ANSWER_SCORES

MOST_MEMBERS = 60
"""Number of thumbnails in a group; the table shows all members."""
LARGE_ENOUGH = 400
"""Side in pixels from which the large view uses the embedded picture."""
FEWEST_DRAWN = 10
"""Least number of group members in a category for which the graph is drawn."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a record, its picture, its number in the report, and the group it is in."""

    number: int
    record: Record
    picture: Picture
    shares: str | None


@dataclass(frozen=True)
class Group:
    """A recurring pattern in the report; members by their number in the report.

    Attributes:
        place: index among all recurring patterns of the run.
        reasons: observations behind the verdict: (whether it indicates a defect, sentence).
        frequency: number of photos in this and the previous batch, and significance, in sentences.
        reviewable: whether a verdict on it can be saved.
    """

    place: int
    number: int
    hue: int
    label: str
    name: str
    verdict: PatternVerdict
    reviewed: bool
    members: list[int]
    reasons: list[tuple[bool, str]]
    frequency: str
    reviewable: bool
    sheet: str


@dataclass(frozen=True)
class SimilarPhotos:
    """Similar images of a category without a common defect; members by their number in the report."""

    category: str
    heading: str
    text: str
    members: list[int]


@dataclass(frozen=True)
class CategorySection:
    """One category of the report, with its index; nodes of the drawing are counted from its `first` image."""

    place: int
    category: str
    drawing: drawing.Drawing | None
    groups: list[Group]
    first: int
    diagnostics: Sequence[Diagnostic]


def write_page(
    path: Path,
    outcomes: Sequence[Outcome],
    records: Sequence[Record],
    pictures: Sequence[Picture],
    recurrences: Sequence[RecurringPattern],
    mean: dict[str, float | None],
    manifest: dict[str, Any],
    measured_at: str,
    reviewable: bool,
    review: Review | None = None,
) -> None:
    """Writes the report.

    Args:
        path: the file; files that records and recurrences name are relative to its directory.
        outcomes: all categories.
        records: all images.
        pictures: pictures of all images, in the same order.
        recurrences: recurring patterns of all categories.
        mean: mean metrics of all categories.
        manifest: the manifest, with `date` and `command` if they are known.
        measured_at: resolution of the pixel metrics, in words.
        reviewable: whether answers can be applied in another run.
        review: answers that the run has applied.
    """
    reviewable = reviewable and all(outcome.result.keys for outcome in outcomes)
    rows = _rows(records, pictures, recurrences)
    draft = review_draft(outcomes, recurrences, review) if reviewable else None
    data = {
        "images": [_image_data(row, outcomes) for row in rows],
        "mm_per_pixel": manifest["config"]["report"]["mm_per_pixel"],
        "sets": _sets_data(outcomes),
        "large": picture_side(len(rows)) >= LARGE_ENOUGH,
        "review": draft and draft | {"store": _store(outcomes, draft)},
        "words": {"verdicts": VERDICTS, "scores": {way.name: way.words for way in ANSWER_SCORES}},
        "limits": {
            "p_value": photo_verdicts.LOOK_P_VALUE,
            "probability": photo_verdicts.LOOK_PROBABILITY,
            "fewest": photo_verdicts.PHOTOS_TO_LOOK_AT,
        },
    }
    rows.sort(key=lambda row: (row.record.p_value, -row.record.score))
    style, *scripts = map(package_text, PARTS)
    counts = Counter(row.record.verdict for row in rows)
    template = page_environment().from_string(package_text("page.html.j2"))
    html = template.render(
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        policy=content_policy(style, *scripts),
        sections=_sections(outcomes, recurrences),
        reviewable=reviewable,
        folder=printable(manifest["config"]["data"]["root"]),
        date=manifest.get("date", "")[:16].replace("T", " "),
        command=manifest.get("command"),
        again=_command(manifest),
        applied=_applied(outcomes, recurrences) if review else "",
        similar=_similar_photos(outcomes),
        rows=rows,
        names={row.number: row.record.name for row in rows},
        findings=_findings(outcomes, mean),
        diagnosed=any(outcome.diagnostics for outcome in outcomes),
        data=embedded_json(data),
        labelled=any(record.label is not None for record in records),
        rescored=any(_rescored(row) for row in rows),
        several=len(outcomes) > 1,
        counts=counts,
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
        label_counts=[(outcome.category, outcome.label_counts()) for outcome in outcomes],
        # date and command are at the top of the page
        manifest=json.dumps({key: manifest[key] for key in manifest if key not in ("date", "command")}, indent=2),
    )
    with whole_file(path) as name:
        Path(name).write_bytes(html.encode("utf-8"))


def _rows(records: Sequence[Record], pictures: Sequence[Picture], recurrences: Sequence[RecurringPattern]) -> list[Row]:
    """Rows in the order of the records."""
    labels = {(id(found.outcome), found.number): found.label for found in recurrences}
    return [
        Row(number, record, picture, labels[id(record.outcome), record.group] if record.group else None)
        for number, (record, picture) in enumerate(zip(records, pictures))
    ]


def _rescored(row: Row) -> bool:
    return round(row.record.score_rescored, 6) != round(row.record.score, 6)


def _command(manifest: dict[str, Any]) -> str:
    """The command of the run without its review."""
    command = (
        manifest.get("command") or f"codegraph detect {shlex.quote(printable(manifest['config']['data']['root']))}"
    )
    if "review" not in command:
        return command
    words = shlex.split(command)
    review = [
        place for place, word in enumerate(words) if word.lstrip("-").split("=")[0] in ("review", "config.review")
    ]
    # without "=", the value of the flag is the next word
    dropped = {*review, *(place + 1 for place in review if "=" not in words[place])}
    return shlex.join(word for place, word in enumerate(words) if place not in dropped)


def _applied(outcomes: Sequence[Outcome], recurrences: Sequence[RecurringPattern]) -> str:
    """A sentence with the numbers of applied answers; photos of earlier batches count if they have a mark."""
    own = {key for outcome in outcomes for key in outcome.result.keys}
    photos = {key: photo for outcome in outcomes for key, photo in outcome.result.answers.photos.items()}
    counts = {
        "photo": sum(key in own and photo.answer is not None for key, photo in photos.items()),
        "photo of earlier batches": sum(key not in own and photo.mark is not None for key, photo in photos.items()),
        "group": sum(found.reviewed for found in recurrences),
        "threshold set by hand": sum(outcome.result.answers.threshold is not None for outcome in outcomes),
    }
    parts = [counted(count, what) for what, count in counts.items() if count]
    return f"Your answers are applied: {', '.join(parts)}." if parts else ""


def _findings(outcomes: Sequence[Outcome], mean: dict[str, float | None]) -> list[str]:
    """Lines on the metrics and diagnostics for specialists."""
    lines = []
    if (auroc := mean.get("image_auroc")) is not None:
        counts = [outcome.label_counts() for outcome in outcomes]
        good, bad = sum(c.good for c in counts), sum(c.defective for c in counts)
        false, found = sum(c.false_alarms for c in counts), sum(c.found for c in counts)
        lines.append(
            f"Against the labels: image AUROC {100 * auroc:.1f} %; flagged were {false} of {good} good and {found} of "
            f"{bad} defective photos."
        )
    return lines + [diagnostic.finding for outcome in outcomes for diagnostic in outcome.diagnostics]


def _sets_data(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Data of the categories for the script: scores, answers, and the verdicts of the run."""
    sets, first = [], 0
    for outcome in outcomes:
        calibration, count = outcome.result.calibration, len(outcome.samples)
        hand, model = outcome.result.answers, outcome.result.calibrator().as_json()
        sets.append(
            {
                "category": printable(outcome.category),
                "first": first,
                "state": model,
                "flagged": calibration.flagged.tolist(),
                # a bank has a single score
                "score": outcome.result.score_name
                if outcome.result.score_name in model["scores"]
                else next(iter(model["scores"])),
                "threshold": finite_or_none(calibration.threshold),
                "given": None if hand.threshold is None else {"score": hand.score, "threshold": hand.threshold},
                "p_values": calibration.p_values.tolist(),
                "enough": outcome.result.enough_photos,
                "explanation": calibration.warning or describe_threshold(calibration, count),
            }
        )
        first += count
    return sets


def _store(outcomes: Sequence[Outcome], draft: dict[str, Any]) -> dict[str, str]:
    """Keys of the browser's storage: for answers to photos, which depend on the photos, and for other answers."""
    keys = [[printable(outcome.category), *outcome.result.keys] for outcome in outcomes]
    photos = digest(json.dumps([draft["feature_identity"], draft["photos"], keys], sort_keys=True))
    return {"photos": f"codegraph {photos}", "rest": f"codegraph {digest(photos + json.dumps(draft, sort_keys=True))}"}


def embedded_json(value: Any) -> Markup:
    """JSON for a script element, without `</script>` and `<!--`."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def data_url(media_type: str, content: bytes) -> str:
    """A file as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _sections(outcomes: Sequence[Outcome], recurrences: Sequence[RecurringPattern]) -> list[CategorySection]:
    sections, first = [], 0
    for number, outcome in enumerate(outcomes):
        groups = [
            _group(place, recurrence, first)
            for place, recurrence in enumerate(recurrences)
            if recurrence.outcome is outcome
        ]
        drawn = sum(len(group.members) for group in groups) >= FEWEST_DRAWN
        graph = drawing.draw_graph(outcome.result.consistency) if drawn else None
        sections.append(CategorySection(number, outcome.category, graph, groups, first, outcome.diagnostics))
        first += len(outcome.samples)
    return sections


def _group(place: int, recurrence: RecurringPattern, first: int) -> Group:
    group, match = recurrence.group, recurrence.match
    reasons = describe_evidence(group.evidence) if group and group.evidence else []
    frequency = f"{len(recurrence.members)} of {len(recurrence.outcome.samples)} photos"
    if match:
        frequency += f"; in the previous batch {match.pattern.members} of {match.pattern.images}"
    if group:
        frequency += f". Unlikely to be a coincidence ({chance(group.chance_p_value)})."
    else:
        frequency += ". Recognised from an earlier batch."
    return Group(
        place=place,
        number=recurrence.number,
        hue=drawing.hue(recurrence.number),
        label=recurrence.label,
        name=recurrence.name,
        verdict=recurrence.verdict,
        reviewed=recurrence.reviewed,
        members=[first + image for image in recurrence.members],
        reasons=reasons,
        frequency=frequency,
        reviewable=recurrence.pattern is not None,
        sheet=relative_url(recurrence.sheet),
    )


def _similar_photos(outcomes: Sequence[Outcome]) -> list[SimilarPhotos]:
    groups, first = [], 0
    for outcome in outcomes:
        found = outcome.result.consistency
        for members in found.duplicates:
            heading = f"{len(members)} photos of the same part"
            text = "Nearly identical photos; they are not compared with each other."
            groups.append(SimilarPhotos(outcome.category, heading, text, [first + image for image in members]))
        for members in found.views:
            heading = f"{len(members)} photos of the same view"
            text = "The same pose, mould or light; no defect in common."
            groups.append(SimilarPhotos(outcome.category, heading, text, [first + image for image in members]))
        first += len(outcome.samples)
    return groups


def _image_data(row: Row, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Data of an image for the script."""
    record, picture = row.record, row.picture
    keys = record.outcome.result.keys
    return {
        "set": next(place for place, outcome in enumerate(outcomes) if outcome is record.outcome),
        "key": keys[record.index] if keys else None,
        "name": printable(record.name),
        "path": printable(record.path),
        "label": record.label,
        "rank": record.rank,
        "rescored": round(record.score_rescored, 6) if _rescored(row) else None,
        "rarity": rarity(record.p_value),
        "group": record.group,
        "shares": printable(row.shares) if row.shares else None,
        "width": picture.image_width,
        "height": picture.image_height,
        "boxes": [_shares(region.box, picture) for region in picture.regions],
        "largest": max(([round(r.length), round(r.width)] for r in picture.regions), default=None),
        "shared": [_edges(box) for box in record.shared],
        "heatmap": relative_url(record.heatmap) if record.heatmap else None,
        "mask": relative_url(record.mask) if record.mask else None,
    }


def _shares(box: tuple[int, int, int, int], picture: Picture) -> list[float]:
    """Left, top, right and bottom as shares of the photo's width and height."""
    sides = (picture.image_width, picture.image_height) * 2
    return [round(edge / side, 4) for edge, side in zip(box, sides)]


def _edges(box: Any) -> list[float]:
    return [round(edge, 4) for edge in asdict(box).values()]


def _figure_url(figure: bytes | str) -> str:
    """The URL of a diagnostic figure for an <img>, in which scripts of an SVG do not run."""
    return data_url("image/png", figure) if isinstance(figure, bytes) else data_url("image/svg+xml", figure.encode())


def page_environment() -> jinja2.Environment:
    """The environment of all pages, which escapes every value."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {
        "graph": drawing,
        "COLOURBAR": Markup(data_url("image/png", layer_png(np.linspace(0, 1, 128)[None]))),
        "GROUPS": GROUPS,
        "TILES": TILES,
        "VERDICTS": VERDICTS,
        "CHOICES": CHOICES,
        "LONGEST_NAME": LONGEST_NAME,
        "LONGEST_NOTE": LONGEST_NOTE,
        "MOST_MEMBERS": MOST_MEMBERS,
    }
    environment.filters |= {"printable": printable, "figure_url": _figure_url, "rarity": rarity}
    environment.filters["jpeg_url"] = lambda content: data_url("image/jpeg", content)
    environment.filters["png_url"] = lambda content: data_url("image/png", content)
    return environment
