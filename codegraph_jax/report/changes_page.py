"""Writes compare.html: the changes between two runs, with the heat maps of both for the photos that changed most.

The page has the style and the languages of the report, and needs no other files.
"""

from pathlib import Path

from codegraph_jax.core.files import write_text
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import preview
from codegraph_jax.evaluation.changes import METRIC_HEADINGS, SUMMARY_HEADINGS, PhotoChange, ResultChanges, shortened
from codegraph_jax.report.result_files import heatmap_of
from codegraph_jax.report.templates import render_page
from codegraph_jax.report.texts import Text, shared_script, style_of, text

PHOTOS_IN_SECTION = 20
"""Maximum number of photos in each section."""
SIDE = 248
"""Longest side of a picture in pixels, twice its size on the page."""


def write_changes(path: Path, changes: ResultChanges, runs: tuple[Path, Path]) -> None:
    """Writes the page.

    Args:
        path: the file.
        changes: result of `compare_results` on the runs.
        runs: workdirs of both, whose heat maps are shown if they exist.
    """
    sections = {
        kind: ([(photo, [_picture(run, photo) for run in runs]) for photo in photos[:PHOTOS_IN_SECTION]], len(photos))
        for kind, photos in changes.by_kind.items()
    }
    html = render_page(
        "changes.html.j2",
        style_of("report"),
        shared_script(),
        changes=changes,
        gain=_gain(changes),
        settings=[[name, *map(shortened, pair)] for name, pair in changes.settings.items()],
        sections=sections,
        SUMMARY_HEADINGS=SUMMARY_HEADINGS,
        METRIC_HEADINGS=METRIC_HEADINGS,
    )
    write_text(path, html)


def _gain(changes: ResultChanges) -> Text:
    if changes.auroc_gain is None:
        return text("gain_absent")
    value, low, high = (round(100 * number, 2) for number in changes.auroc_gain)
    key = "gain_significant" if changes.auroc_gain.significant else "gain_not_significant"
    return text(key, value=value, low=low, high=high)


def _picture(workdir: Path, photo: PhotoChange) -> bytes | None:
    """The heat map of a photo in a run as a small JPEG; None if the run has written none."""
    name = heatmap_of(workdir, photo.category, photo.name)
    try:
        return preview(workdir / name, SIDE) if name else None
    except UnreadableImageError:
        return None
