"""Writes recurring patterns: groups.json, the image graph, and a contact sheet for each pattern."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codegraph_jax.consistency.groups import FoundPattern
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.files import whole_file, write_json
from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.report.boxes import box_on_photo
from codegraph_jax.report.contact_sheet import contact_sheet
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.photo_images import ReportPhoto
from codegraph_jax.report.records import boxes_of_pattern
from codegraph_jax.report.result_files import GROUPS
from codegraph_jax.report.serialise import write_graph
from codegraph_jax.report.texts import Text, text


@dataclass(frozen=True)
class ReportPattern(FoundPattern):
    """A recurring pattern of a category (`outcome`)."""

    outcome: Outcome

    @property
    def stored(self) -> Pattern | None:
        """The pattern as review.json stores it, to be recognised in other sets; None if too few patches show it."""
        return self.for_other_sets(self.outcome.result.recurring.product, len(self.outcome.samples))

    @property
    def previous(self) -> Pattern | None:
        """`stored` with the counts of the previous batch; None if there was none."""
        return self.match.pattern if self.match and self.match.pattern.image_count else None

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet below the workdir."""
        return Path("groups") / f"{file_stem(self.outcome.category)}-{self.number}.png"

    @property
    def label(self) -> str | Text:
        """The name, or a text with the verdict and the number."""
        return printable(self.name) or text(f"named_{self.verdict}", number=self.number)


def recurring_patterns(outcomes: Sequence[Outcome]) -> list[ReportPattern]:
    """Recurring patterns of all categories, the strongest of each first, known ones without members last."""
    return [pattern for outcome in outcomes for pattern in _of_category(outcome)]


def _of_category(outcome: Outcome) -> list[ReportPattern]:
    found = outcome.result.recurring.patterns
    patterns = [ReportPattern(pattern.number, pattern.group, pattern.match, outcome) for pattern in found]
    return sorted(patterns, key=lambda pattern: not pattern.images)


def review_draft(
    outcomes: Sequence[Outcome], patterns: Sequence[ReportPattern], applied: Review | None, photos_digest: str
) -> dict[str, Any]:
    """The data from which the page makes a review: patterns of this run, other known patterns, and earlier answers.

    Args:
        outcomes: all categories.
        patterns: recurring patterns with members.
        applied: the review that the run has applied, if any.
        photos_digest: see `Review`.
    """
    identity = dict(outcomes[0].result.feature_identity)
    photos = dict(applied.photos) if applied else {}
    # the run has added marks to photos with answers
    for digest, photo in (item for outcome in outcomes for item in outcome.result.answers.photos.items()):
        if photo.mark or digest not in photos:
            photos[digest] = photo
    review = replace(applied or Review(identity), feature_identity=identity, photos=photos, photos_digest=photos_digest)
    stored = [pattern.stored for pattern in patterns]
    known = {pattern.signature.prototypes.tobytes() for pattern in stored if pattern}
    others: dict[bytes, dict[str, Any]] = {}
    for outcome in outcomes:
        recurring = outcome.result.recurring
        absent = [match.pattern for match in recurring.matches if not match.images]
        for pattern in (*absent, *recurring.others):
            key = pattern.signature.prototypes.tobytes()
            if key not in known:
                others.setdefault(key, pattern.as_json())
    return review.as_json() | {
        "patterns": [pattern.as_json() if pattern else None for pattern in stored],
        "other_patterns": list(others.values()),
    }


def write_recurring_patterns(
    workdir: Path, outcomes: Sequence[Outcome], patterns: Sequence[ReportPattern], photos: Sequence[ReportPhoto]
) -> None:
    """Writes groups.json, similar.json, graphs/<category>.graphml and groups/<category>-<number>.png.

    Args:
        workdir: directory of the results.
        outcomes: all categories.
        patterns: see `recurring_patterns`.
        photos: all photos of the run.
    """
    by_image = {(photo.record.outcome, photo.record.index): photo for photo in photos}
    listing: dict[str, list[dict[str, Any]]] = {outcome.category: [] for outcome in outcomes}
    for pattern in patterns:
        members = {image: by_image[pattern.outcome, image] for image in pattern.images}
        listing[pattern.outcome.category].append(_entry(pattern, members))
        if members:
            heading = f"{pattern.outcome.category}: {len(members)} photos share {pattern.label}"
            crops = [photo.crop for photo in members.values() if photo.crop]
            names = [photo.record.name for photo in members.values()]
            with whole_file(workdir / pattern.sheet) as name:
                contact_sheet(printable(heading), crops, names).save(name, "PNG")
    for outcome in outcomes:
        paths = [sample.path for sample in outcome.samples]
        recurring = outcome.result.recurring
        write_graph(workdir / graph_file(outcome), recurring.graph, paths, recurring.numbers_by_image())
    write_json(workdir / GROUPS, listing)
    write_json(workdir / "similar.json", {outcome.category: _similar(outcome) for outcome in outcomes})


def graph_file(outcome: Outcome) -> Path:
    """Path of the image graph of a category below the workdir."""
    return Path("graphs") / f"{file_stem(outcome.category)}.graphml"


def _entry(pattern: ReportPattern, photos: Mapping[int, ReportPhoto]) -> dict[str, Any]:
    """One pattern in groups.json; boxes are [left, top, right, bottom] in pixels of the image file."""
    samples, group = pattern.outcome.samples, pattern.group
    last = pattern.previous
    return {
        "id": pattern.number,
        "name": pattern.name,
        "verdict": pattern.verdict,
        "reviewed": pattern.reviewed,
        "members": [samples[image].path for image in pattern.images],
        "mean_links": float(group.mean_links) if group else None,
        "chance_p_value": float(group.chance_p_value) if group else None,
        "evidence": asdict(group.evidence) if group and group.evidence else None,
        "previous_batch": {"member_count": last.member_count, "image_count": last.image_count} if last else None,
        "boxes": [
            {
                "path": samples[box.image].path,
                "box": box_on_photo(box, pattern.outcome.result.placement).pixels(*photos[box.image].size),
            }
            for box in boxes_of_pattern(pattern.outcome.result.recurring, pattern)
        ],
    }


def _similar(outcome: Outcome) -> dict[str, list[list[str]]]:
    """Groups of similar images of one category: photos of the same part, and photos of the same view."""
    recurring = outcome.result.recurring

    def paths(groups: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[outcome.samples[image].path for image in group] for group in groups]

    return {"duplicates": paths(recurring.duplicates), "views": paths(recurring.views)}
