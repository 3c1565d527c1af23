"""The task `inspect`: scores new images against a saved reference bank and writes the results to the workdir."""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from codegraph_jax.backbones import feature_identity
from codegraph_jax.bank.inspection import Inspection
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import InspectConfig
from codegraph_jax.consistency.groups import RecurringPatterns
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import require_own
from codegraph_jax.core.names import printable
from codegraph_jax.core.progress import Clock, bar, progress_in
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.data.decoding import allow_megapixels, page_of
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import skipped_below
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.line.file_identity import file_key, fingerprint_of_file, stamp_of
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import Part, ReceivedPhoto, scored_part
from codegraph_jax.report.archive import digest_of_photos, keep_earlier
from codegraph_jax.report.heatmaps import Scale
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.photo_images import ReportPhoto
from codegraph_jax.report.records import Record
from codegraph_jax.report.result_files import RESULTS
from codegraph_jax.report.results import write_results
from codegraph_jax.report.terminal import photos_table, print_summary
from codegraph_jax.result import DetectionResult
from codegraph_jax.tasks.paths import require_bank
from codegraph_jax.tasks.sets import print_excluded, read_files, warn_unreadable

OTHER_PRODUCT_NOTE = "these photos look like another product than the bank's photos; the verdicts are unreliable"


def run(config: InspectConfig, workdir: str) -> list[Outcome]:
    """Scores every image against the bank and writes the results.

    Raises:
        ConfigError, LayoutError, BankError, UnreadableImageError, WorkdirError: with nothing written.
    """
    require_bank(config.bank.path)
    with locked(Path(workdir)):
        require_own(Path(workdir), RESULTS)
        with progress_in(Path(workdir)):
            return _run_in(Path(workdir), config)


def _run_in(workdir: Path, config: InspectConfig) -> list[Outcome]:
    """Inspects in a workdir that is locked."""
    clock = Clock()
    with clock("data"):
        categories = read_files(config.data)
        skipped = skipped_below([config.data.root])
    allow_megapixels(config.data.max_megapixels)
    with clock("weights"):
        bank = ReferenceBank.load(config.bank.path, config.backbone.weights, config.backbone.name)
        bank = bank.with_threshold(config.threshold)
    for line in skipped.lines(all_suffixes=config.data.layout == "folder"):
        print(line, flush=True)
    print(f"weights: {bank.weights_name}", flush=True)

    outcomes, unread = [], []
    inspections: dict[str, Inspection] = {}
    for category, samples in categories.items():
        print(
            f"{printable(category)}: {len(samples)} photos, compared with a bank of {bank.active_references}",
            flush=True,
        )
        with clock("inspection"), bar(len(samples), "inspection", "photo") as advance:
            inspection = bank.inspect(samples, config.data, advance)
        warn_unreadable(category, len(samples), inspection.unreadable)
        if not len(inspection.kept):
            reason = inspection.unreadable[0][1]
            raise UserError(f"category {category!r} in {config.data.root!r}: no photo can be read; the first: {reason}")
        if inspection.other_product:
            print(f"{printable(category)}: {OTHER_PRODUCT_NOTE}", flush=True)
        if config.data.roi:
            print_excluded(category, config.data.roi, inspection.placement)
        inspections[category] = inspection
        result = _as_result(bank, inspection, tuple(samples[i] for i in inspection.kept))
        unread += [(samples[i], reason) for i, reason in inspection.unreadable]
        with clock("metrics"):
            metrics = evaluate(result, config.metrics)
        outcomes.append(Outcome(category, result, metrics, areas=inspection.areas))

    with written_to(workdir):
        digest = digest_of_photos((s.name, s.path) for samples in categories.values() for s in samples)
        if line := keep_earlier(workdir, digest):
            print(line)
        photos = write_results(
            workdir, config, outcomes, clock, Scale(*bank.heatmap_range), skipped, photos_digest=digest
        )
        _write_parts(workdir, bank, inspections, photos, unread)
    print_summary(workdir, config, outcomes, photos_table(outcomes))
    return outcomes


def _write_parts(
    workdir: Path,
    bank: ReferenceBank,
    inspections: Mapping[str, Inspection],
    photos: Sequence[ReportPhoto],
    unread: Sequence[tuple[Sample, str]],
) -> None:
    """Writes a row for each image into the ledger of the workdir, as a line does for each part."""

    def name(of: Record | Sample) -> str:
        return of.name if len(inspections) == 1 else f"{of.category}/{of.name}"

    def scored(photo: ReportPhoto) -> Part:
        record = photo.record
        received = photo_of_file(record.path, name(record))
        part = scored_part(received, bank, inspections[record.category], record.index, photo.size, photo.regions)
        return replace(part, heatmap=photo.anomaly_png)

    with closing(Ledger(workdir / LEDGER_FILE)) as ledger:
        ledger.record_all(
            [scored(photo) for photo in photos]
            + [photo_of_file(sample.path, name(sample)).not_inspected(reason) for sample, reason in unread]
        )


def photo_of_file(path: str, name: str) -> ReceivedPhoto:
    """The photo in a file, with its absolute path."""
    file = page_of(path)[0]
    absolute = os.path.abspath(path) if os.path.isfile(file) else path  # noqa: PTH100, PTH113
    try:
        status, fingerprint = Path(file).stat(), fingerprint_of_file(file)
    except (OSError, ValueError):  # the image has no file, or the file was removed or cannot be read
        return ReceivedPhoto(name, name, absolute)
    return ReceivedPhoto(file_key(name, status, fingerprint), name, absolute, fingerprint, stamp_of(status))


def _as_result(bank: ReferenceBank, inspection: Inspection, kept: tuple[Sample, ...]) -> DetectionResult:
    """The inspection as the result type that the report functions take."""
    return DetectionResult(
        kept=inspection.kept,
        unreadable=inspection.unreadable,
        patch_scores=inspection.patch_scores,
        scores=inspection.scores,
        scores_rescored=inspection.scores,
        p_values=inspection.p_values,
        flagged=inspection.flagged,
        # the warning counts the photos of the bank, not these
        calibration=replace(bank.calibration, warning=None),
        placement=inspection.placement,
        weights_name=bank.weights_name,
        feature_identity=feature_identity(bank.backbone, bank.backbone_config),
        seconds={},
        value_range=bank.value_range,
        recurring=RecurringPatterns(pattern_numbers=inspection.pattern_numbers, matches=inspection.matches),
        samples=kept,
    )
