"""Recurring defects as files: communities.json, the image graph, and a contact sheet for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegraph_jax.consistency.community import Community
from codegraph_jax.core.files import whole_file, write_json
from codegraph_jax.core.names import file_stem, shown
from codegraph_jax.report.contact_sheet import contact_sheet
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.pictures import Picture
from codegraph_jax.report.records import Record, community_numbers
from codegraph_jax.report.regions import shared_box
from codegraph_jax.report.serialise import write_graph


@dataclass(frozen=True)
class Recurrence:
    """One recurring defect of a category, by its number there (from 1), and its contact sheet below the workdir."""

    outcome: Outcome
    number: int
    community: Community
    sheet: Path


def recurrences(outcomes: Sequence[Outcome]) -> list[Recurrence]:
    """The recurring defects of all categories, the strongest of each first."""
    return [
        Recurrence(outcome, number, community, Path("communities") / f"{file_stem(outcome.category)}-{number}.png")
        for outcome in outcomes
        for number, community in enumerate(outcome.result.consistency.communities, 1)
    ]


def write_recurrences(
    workdir: Path,
    outcomes: Sequence[Outcome],
    found: Sequence[Recurrence],
    records: Sequence[Record],
    pictures: Sequence[Picture],
) -> None:
    """Writes communities.json, duplicates.json, graphs/<category>.graphml and communities/<category>-<number>.png.

    Args:
        workdir: where to.
        outcomes: all categories.
        found: see `recurrences`.
        records, pictures: all images of the run, in the same order.
    """
    shows = {(id(record.outcome), record.index): picture for record, picture in zip(records, pictures)}
    listing: dict[str, list[dict[str, Any]]] = {outcome.category: [] for outcome in outcomes}
    for recurrence in found:
        outcome, community = recurrence.outcome, recurrence.community
        of_image = {image: shows[id(outcome), image] for image in community.members}
        listing[outcome.category].append(_entry(recurrence, of_image))
        heading = f"{outcome.category}: {len(community.members)} images share defect {recurrence.number}"
        tiles = [tile for image in community.members if (tile := of_image[image].tile)]
        names = [outcome.samples[image].name for image in community.members]
        with whole_file(workdir / recurrence.sheet) as name:
            contact_sheet(shown(heading), tiles, names).save(name, "PNG")
    write_json(workdir / "communities.json", listing)
    write_json(workdir / "duplicates.json", {outcome.category: _alike(outcome) for outcome in outcomes})
    for outcome in outcomes:
        paths = [sample.path for sample in outcome.samples]
        file = workdir / "graphs" / f"{file_stem(outcome.category)}.graphml"
        write_graph(file, outcome.result.consistency.graph, paths, community_numbers(outcome))


def _entry(recurrence: Recurrence, pictures: dict[int, Picture]) -> dict[str, Any]:
    """One community in communities.json; boxes are [left, top, right, bottom] in pixels of the image file."""
    samples, community = recurrence.outcome.samples, recurrence.community
    return {
        "id": recurrence.number,
        "members": [samples[image].path for image in community.members],
        "strength": float(community.strength),
        "p_value": float(community.p_value),
        "patches": [
            {
                "path": samples[box.image].path,
                "box": shared_box(box).pixels(pictures[box.image].image_width, pictures[box.image].image_height),
            }
            for box in community.boxes
        ],
    }


def _alike(outcome: Outcome) -> dict[str, list[list[str]]]:
    """Groups of one category that share no defect: photographs of one part, and of one view."""
    found = outcome.result.consistency

    def paths(groups: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[outcome.samples[image].path for image in group] for group in groups]

    return {"duplicates": paths(found.duplicates), "views": paths(found.views)}
