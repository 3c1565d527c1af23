"""Writes the results of a detection run into the workdir; every file is written atomically.

A finished run has exit status 0 whether or not images were flagged, unless `--exit-code` is given. The number of
flagged images is in the last line that is printed and in `manifest.json` (`thresholds`); `scores.csv` and `scores.json`
have the flag of each image. `manifest.json` is written last: if it exists, all files belong to one run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.config import Config, InspectConfig
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.environment import decoding_threads, device_summary, package_versions, peak_memory
from codegraph_jax.core.file_ownership import replace_written
from codegraph_jax.core.files import write_csv, write_json
from codegraph_jax.core.progress import Clock, bar
from codegraph_jax.core.started_command import started_command
from codegraph_jax.core.workdir import remove_partial_files
from codegraph_jax.data.search import SkippedFiles
from codegraph_jax.evaluation.metrics import mean_metrics
from codegraph_jax.report.heatmaps import Scale
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.page import write_page
from codegraph_jax.report.photo_images import ReportPhoto, make_images
from codegraph_jax.report.records import COLUMNS, Record, make_records
from codegraph_jax.report.recurring_patterns import (
    ReportPattern,
    graph_file,
    recurring_patterns,
    write_recurring_patterns,
)
from codegraph_jax.report.region_data import coco, region_rows, write_regions
from codegraph_jax.report.result_files import COCO, MANIFEST, MAPS, REPORT, RESULTS, SCORES
from codegraph_jax.report.serialise import write_arrays
from codegraph_jax.report.wording import describe_warning
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.maps import MAPS_AT_ONCE

DIRECTORIES = ("heatmaps", "masks", "groups", "graphs")
"""Directories below the workdir that hold only results."""


def write_results(
    workdir: Path,
    config: Config | InspectConfig,
    outcomes: Sequence[Outcome],
    clock: Clock,
    scale: Scale | None = None,
    skipped: SkippedFiles | None = None,
    drawn: Sequence[str] = (),
    photos_digest: str = "",
    review: Review | None = None,
) -> list[ReportPhoto]:
    """Writes scores, metrics, maps, images, recurring defects, the report, and finally the manifest.

    Args:
        workdir: created if it is missing; files of earlier runs are replaced or removed.
        config: settings of the run.
        outcomes: one or more categories.
        clock: wall times for the manifest; the stage `results` is added.
        scale: scale of the heat maps; None: computed from the run.
        skipped: files that were skipped, for the manifest.
        drawn: POSIX paths below the workdir of images that the run has drawn.
        photos_digest: digest of the photos (`report.archive.digest_of_photos`).
        review: answers that the run has applied.

    Returns:
        the photos, in the order of the data set.
    """
    # no manifest while files of two runs are mixed
    (workdir / MANIFEST).unlink(missing_ok=True)
    remove_partial_files(workdir, DIRECTORIES)
    with clock("results"):
        records, patterns = make_records(outcomes, config.report), recurring_patterns(outcomes)
        replace_written(workdir, {*_planned(config, outcomes, records, patterns), *drawn})
        write_csv(workdir / "scores.csv", (record.csv_cells() for record in records), COLUMNS, config.csv)
        write_json(workdir / SCORES, [record.as_json() for record in records])
        mean = mean_metrics([outcome.metrics for outcome in outcomes])
        _write_metrics(workdir, config, outcomes, mean)
        if "maps" in config.report.files:
            # half precision resolves 0.001 up to the greatest distance, 2
            write_arrays(workdir / MAPS, (_maps(outcome) for outcome in outcomes))
        scale = scale or _scale_of(outcomes)
        with bar(len(records), "report", "photo") as advance:
            photos = make_images(records, workdir, scale, decoding_threads(), advance)
        _write_regions(workdir, config, photos)
        write_recurring_patterns(workdir, outcomes, patterns, photos)
        manifest = _manifest(config, outcomes, scale, skipped or SkippedFiles())
        date = datetime.now().astimezone().isoformat(timespec="seconds")
        about = {"date": date, "command": started_command(), "photos_digest": photos_digest}
        if "page" in config.report.files:
            write_page(workdir / REPORT, outcomes, photos, patterns, mean, manifest | about, review)
    run = about | {
        "seconds": {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()},
        "peak_memory_bytes": peak_memory(),
    }
    write_json(workdir / MANIFEST, manifest | run)
    return photos


def _write_metrics(
    workdir: Path, config: Config | InspectConfig, outcomes: Sequence[Outcome], mean: dict[str, float | None]
) -> None:
    laws = {outcome.category: outcome.result.recurring.spacing_law for outcome in outcomes}
    metrics = {
        "categories": {outcome.category: outcome.metrics for outcome in outcomes},
        "mean": mean,
        "settings": asdict(config.metrics),
        "counts": {outcome.category: outcome.label_counts() for outcome in outcomes},
        "spacing_fit": {category: asdict(law) for category, law in laws.items() if law},
    }
    write_json(workdir / "metrics.json", metrics)


def _scale_of(outcomes: Sequence[Outcome]) -> Scale:
    """The scale of the heat maps of a run."""
    results = [outcome.result for outcome in outcomes]
    scores = [result.placement.inspected_scores(result.patch_scores) for result in results]
    return Scale.of(scores, [result.calibration.threshold for result in results])


def _write_regions(workdir: Path, config: Config | InspectConfig, photos: Sequence[ReportPhoto]) -> None:
    """Writes regions.json and regions.csv, and coco.json where it is asked for."""
    rows = [
        row
        for photo in photos
        for row in region_rows(
            photo.record.path, photo.record.category, photo.size, photo.regions, config.report.mm_per_pixel
        )
    ]
    write_regions(workdir, rows, config.csv)
    if "coco" in config.report.files:
        write_json(workdir / COCO, coco((photo.record.path, photo.size, photo.regions) for photo in photos))


def _maps(outcome: Outcome) -> tuple[str, tuple[int, ...], Iterator[np.ndarray]]:
    """Name, shape and pieces of a category's anomaly maps."""
    result = outcome.result
    n, size = len(result.patch_scores), result.map_size
    parts = (result.maps(slice(start, start + MAPS_AT_ONCE)) for start in range(0, n, MAPS_AT_ONCE))
    return outcome.category, (n, *size), parts


def _planned(
    config: Config | InspectConfig,
    outcomes: Sequence[Outcome],
    records: Sequence[Record],
    patterns: Sequence[ReportPattern],
) -> Iterator[str]:
    """POSIX paths below the workdir of all files that `write_results` writes."""
    files = config.report.files
    left_out = {file for file, name in ((REPORT, "page"), (MAPS, "maps"), (COCO, "coco")) if name not in files}
    yield from (name for name in RESULTS if name not in left_out)
    for record in records:
        yield from (path.as_posix() for path in (record.heatmap, record.mask) if path)
    yield from (pattern.sheet.as_posix() for pattern in patterns if pattern.images)
    yield from (graph_file(outcome).as_posix() for outcome in outcomes)


def _manifest(
    config: Config | InspectConfig, outcomes: Sequence[Outcome], scale: Scale, skipped: SkippedFiles
) -> dict[str, Any]:
    """Settings, versions and results of the run; the same for equal runs."""
    return {
        "config": asdict(config),
        "versions": package_versions(),
        "weights_name": outcomes[0].result.weights_name,
        "device": device_summary(),
        "image_counts": {outcome.category: len(outcome.samples) for outcome in outcomes},
        "skipped_files": skipped.as_json(),
        "skipped_pages": {
            outcome.category: pages
            for outcome in outcomes
            if (pages := {one.name: one.skipped_page_count for one in outcome.samples if one.skipped_page_count})
        },
        "value_range": {
            outcome.category: found.as_json() if (found := outcome.result.value_range) else None for outcome in outcomes
        },
        "unreadable": {outcome.category: [reason for _, reason in outcome.result.unreadable] for outcome in outcomes},
        "thresholds": {outcome.category: _threshold(outcome) for outcome in outcomes},
        "compared": {outcome.category: _compared(outcome.result) for outcome in outcomes},
        "frames": {outcome.category: outcome.result.placement.frame.as_json() for outcome in outcomes},
        "heatmap_scale": asdict(scale),
    }


def _compared(result: DetectionResult) -> dict[str, Any]:
    """The scope of the comparison, in the words of `config.similarity`; empty for a comparison with a bank."""
    return {"references": result.reference_count, "radius": result.radius or "all"} if result.reference_count else {}


def _threshold(outcome: Outcome) -> dict[str, Any]:
    calibration = outcome.result.calibration
    warning = str(describe_warning(calibration.warning)) if calibration.warning else ""
    return calibration.as_json() | {"warning": warning, "flagged_count": int(outcome.result.flagged.sum())}
