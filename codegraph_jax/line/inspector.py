"""Inspects the photos of a line one at a time, records the verdicts, and updates the monitors."""

import contextlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BankThresholdConfig, PhotosConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import full_size, load_image
from codegraph_jax.line import sheets
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.ledger import ALARMS, Ledger
from codegraph_jax.line.monitors import MonitoredPart, Monitors
from codegraph_jax.line.part import Alarm, Part, ReceivedPhoto, operator_sentence, scored_part, utc_now
from codegraph_jax.line.recurrence import LIMITS
from codegraph_jax.line.statistics import picture_statistics
from codegraph_jax.report.heatmaps import Scale, anomaly_png
from codegraph_jax.report.region_data import Region, find_regions

MAX_ATTEMPTS = 2
"""A photo fails if the process has ended this many times during its inspection."""
TOO_MANY_ATTEMPTS = (
    f"the program ended {MAX_ATTEMPTS} times while inspecting this photo (out of memory?); not tried again"
)
REGION_PIXELS, REGION_SIDE = 4_000_000, 8192
"""Maximum resolution at which flagged regions are computed: total pixels, and pixels along the longer side."""
MIN_FREE_BYTES = 50_000_000
"""The disk counts as full if less is free."""

logger = logging.getLogger(__name__)


class AnswerError(UserError):
    """The operator's answer to a part cannot be applied."""


class Inspector:
    """Scores parts one at a time and records them; `inspect` is thread-safe.

    Args:
        bank: the reference bank.
        ledger: records the verdicts.
        workdir: directory of the contact sheets.
        parts_per_false_alarm: average number of parts between two false alarms of drift.
        threshold: replaces the threshold of the bank.
        path: file to which `answer` saves the bank; empty: the bank is not saved.
    """

    def __init__(
        self,
        bank: ReferenceBank,
        ledger: Ledger,
        workdir: Path,
        parts_per_false_alarm: float = 10_000,
        threshold: BankThresholdConfig | None = None,
        path: str = "",
    ):
        self.ledger, self.workdir, self.parts_per_false_alarm = ledger, workdir, parts_per_false_alarm
        # the bank as in its file; `bank` may have another threshold
        self._stored, self._threshold, self._path = bank, threshold or BankThresholdConfig(), path
        self.bank = bank.with_threshold(self._threshold)
        self._lock = threading.Lock()
        # photos whose attempt could not be cleared in the ledger: it is not counted again
        self._begun: set[str] = set()
        self._monitors: Monitors | None = None
        # found by a root search, which takes too long for every part
        self._min_peak_score = bank.calibration.score_of_1_in_10
        self._known_peaks = bank.calibration_set.peak_patches

    def warm_up(self) -> None:
        """Compiles and loads everything, so that the first part is not delayed."""
        width, height = 640, 480
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))
        self._score(ReceivedPhoto("", "", ""), image, warming_up=True)
        self._monitors = self._restored_monitors()

    def inspect(
        self, photo: ReceivedPhoto, is_unfinished: Callable[[bool], bool] = lambda failed: False, replaces: int = 0
    ) -> Part | None:
        """Inspects a photo and records its part; if its key is recorded already, returns that part.

        A part that was not inspected is replaced if another photo has its key.

        Args:
            photo: the photo.
            is_unfinished: called after the photo was read, with whether decoding failed. If it returns True, the file
                may still be incomplete: nothing is recorded and the result is None.
            replaces: number of the part that is replaced; 0: none.

        Raises:
            LedgerUnavailableError: the verdict cannot be recorded now and nothing was recorded; try again.
        """
        with self._lock:
            if known := self.ledger.by_key(photo.key):
                if known.status == "inspected" or known.fingerprint == photo.fingerprint:
                    return known
                replaces = known.id
            if photo.photo_id not in self._begun and self.ledger.begin_attempt(photo.photo_id) > MAX_ATTEMPTS:
                # the attempts stay in the ledger, so that the photo fails under another name too
                return self.ledger.record(photo.not_inspected(TOO_MANY_ATTEMPTS), replaces=replaces, keep_attempts=True)
            self._begun.add(photo.photo_id)
            recorded = None
            try:
                scored = self._read_and_score(photo)
                if not is_unfinished(scored.part.status == "not_inspected"):
                    recorded = self._record(scored, replaces)
            finally:
                # only an attempt that ends the process counts
                with contextlib.suppress(LedgerUnavailableError):
                    if recorded is None:
                        self.ledger.clear_attempts(photo.photo_id)
                    self._begun.discard(photo.photo_id)
            return recorded

    def check(self) -> None:
        """Checks that a part can be recorded now.

        Raises:
            LedgerUnavailableError: the ledger cannot be written, or the disk is full.
        """
        self.ledger.check()
        free = shutil.disk_usage(self.workdir).free
        if free < MIN_FREE_BYTES:
            raise LedgerUnavailableError(f"{self.workdir}: the disk is full ({free / 1e6:.0f} MB are left)")

    def record_failure(self, photo: ReceivedPhoto, reason: str) -> Part:
        """Records a photo that cannot be inspected; errors as for `inspect`."""
        with self._lock:
            return self.ledger.record(photo.not_inspected(reason))

    def _read_and_score(self, photo: ReceivedPhoto) -> MonitoredPart:
        began = time.perf_counter()
        try:
            image = load_image(photo.path, self.bank.value_range)
            if (count := image.info.get("pages", 1)) > 1:
                logger.warning("%s: has %d pages or frames; only the first is inspected", photo.name, count)
            scored = self._score(photo, image)
        except UnreadableImageError as error:
            return MonitoredPart(photo.not_inspected(error.reason))
        except Exception as error:  # the line continues after any error, and records it as the reason
            logger.exception("%s: cannot be inspected", photo.name)
            return MonitoredPart(photo.not_inspected(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"))
        return replace(scored, part=replace(scored.part, seconds=round(time.perf_counter() - began, 4)))

    def _score(self, photo: ReceivedPhoto, image: Image.Image, warming_up: bool = False) -> MonitoredPart:
        bank = self.bank
        min_peak_score = 0.0 if warming_up else self._min_peak_score
        inspection = bank.inspect([image], PhotosConfig(unreadable="error"), min_peak_score=max(min_peak_score, 1e-9))
        width, height = full_size(image)
        calibration, placement = bank.calibration, inspection.placement
        rect = placement.rect(0)
        scores, pattern_numbers = rect.cut(inspection.patch_scores[0]), rect.cut(inspection.pattern_numbers[0])
        flagged = bool(inspection.flagged[0])
        regions: list[Region] = []
        if flagged or warming_up:
            background = float(np.median(placement.inspected_scores(inspection.patch_scores)))
            size = _bounded(width, height)
            inspected = inspection.areas[0](*size)
            _, regions = find_regions(scores, background, calibration, pattern_numbers, inspected)
            regions = [_enlarged(region, size, (width, height)) for region in regions]
        part = replace(
            scored_part(photo, bank, inspection, 0, (width, height), regions),
            statistics={"score": float(inspection.scores[0]), **picture_statistics(image)},
            heatmap=anomaly_png(Scale(*bank.heatmap_range).strength(scores)),
        )
        defects = [pattern for pattern in inspection.patterns_of(0) if pattern.verdict == "defect"]
        # the mark of a single photo is named after it; the name of a group says more
        grouped = tuple(
            pattern.name or operator_sentence("known_defect") for pattern in defects if pattern.origin == "group"
        )
        names = grouped or tuple(operator_sentence("defect_like", name=pattern.name) for pattern in defects)
        # peak patches similar to those of unflagged parts of the set are normal
        peak_patches = inspection.peak_patches[0].without_similar(self._known_peaks, LIMITS[-1])
        return MonitoredPart(part, peak_patches, names, other_product=flagged and inspection.other_product)

    def _record(self, scored: MonitoredPart, replaces: int) -> Part:
        """Updates the monitors and records the part, in one transaction."""
        part = scored.part
        if part.status == "not_inspected":
            return self.ledger.record(part, replaces=replaces)
        with self._changed_monitors() as monitors:
            alarms, update = monitors.update(self.ledger.next_number(), scored)
            recorded = self.ledger.record(replace(part, alarms=tuple(alarms)), update, replaces)
        if replaces:
            self._monitors = None  # they include the row that was replaced
        for alarm in recorded.alarms:
            with contextlib.suppress(OSError):  # a full disk; a later request for the sheet tries again
                self.sheet(alarm)
        return recorded

    @contextlib.contextmanager
    def _changed_monitors(self) -> Iterator[Monitors]:
        """The monitors, which are changed together with the ledger; after an error they are read from it again."""
        monitors = self._monitors or self._restored_monitors()
        self._monitors = None
        yield monitors
        self._monitors = monitors

    def _restored_monitors(self) -> Monitors:
        return Monitors(self.bank, self.ledger, self.parts_per_false_alarm)

    def answer(self, number: int, defective: bool) -> Part | None:
        """Records the operator's answer to a part and extends the bank by it, which then applies it to similar parts.

        Returns:
            The part with the answer; None if there is no part of this number.

        Raises:
            AnswerError: the part was not inspected, or its photo no longer exists.
            LedgerUnavailableError: the bank or the ledger cannot be written now, and nothing has changed.
        """
        with self._lock:
            part, answer = self.ledger.by_number(number), "defective" if defective else "good"
            if part is None or part.answer == answer:
                return part
            if part.status == "not_inspected":
                raise AnswerError(operator_sentence("not_inspected", part=number))
            try:
                names = [_name_in_history(part)]
                extended = self._stored.extend([part.path], names=names, when=utc_now(), defective=defective)
            except (UnreadableImageError, BankError) as error:
                raise AnswerError(f"part {number}: {getattr(error, 'reason', error)}") from None
            return self._record_answer(part, answer, extended)

    def take_back_answer(self, number: int) -> Part | None:
        """Takes back the answer to a part, which must be the last answer; otherwise as `answer`."""
        with self._lock:
            part, history = self.ledger.by_number(number), self._stored.history
            if part is None or not part.answer:
                return part
            if _name_in_history(part) not in history[-1].names:
                raise AnswerError(operator_sentence("only_last", part=number))
            try:
                stored = self._stored.back_to(len(history) - 2)
            except BankError as error:
                raise AnswerError(f"part {number}: {error}") from None
            return self._record_answer(part, "", stored)

    def _record_answer(self, part: Part, answer: str, stored: ReferenceBank) -> Part:
        bank = stored.with_threshold(self._threshold)
        try:
            if self._path:
                stored.save(self._path)
        except OSError as error:
            raise LedgerUnavailableError(f"{self._path}: cannot be written ({error.strerror or error})") from None
        self._stored, self.bank = stored, bank
        self.ledger.answer(part.id, answer, bank.digest)
        return replace(part, answer=answer)

    def acknowledge(self, number: int, reason: str) -> Alarm | None:
        """Acknowledges an alarm with a reason ("our daily cycle", "a new batch"); its cause raises no further alarm.

        Returns:
            The alarm with its acknowledgement; None if there is no alarm of this number.

        Raises:
            LedgerUnavailableError: the ledger cannot be written now, and nothing has changed.
        """
        with self._lock:
            alarm = self.ledger.alarm(number)
            if alarm is None or alarm.acknowledgement:
                return alarm
            with self._changed_monitors() as monitors:
                self.ledger.acknowledge(number, reason, monitors.accept(alarm))
            return replace(alarm, acknowledgement=reason)

    def sheet(self, alarm: Alarm) -> Path | None:
        """The contact sheet of a recurrence alarm, drawn if it is missing; None for other alarms."""
        if alarm.kind != "recurrence":
            return None
        path = self.workdir / ALARMS / f"{alarm.id}.png"
        if not path.exists():
            parts = [part for part in map(self.ledger.by_number, alarm.parts) if part]
            with whole_file(path) as name:
                sheets.contact_sheet_of(alarm, parts, self.bank.value_range).save(name, "PNG")
        return path


def _name_in_history(part: Part) -> str:
    """The name of an answered part in the history of the bank."""
    return f"{part.id}: {part.name}"


def _bounded(width: int, height: int) -> tuple[int, int]:
    """The resolution at which regions are computed; more pixels would add no detail to the patch scores."""
    scale = min(1.0, (REGION_PIXELS / (width * height)) ** 0.5, REGION_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _enlarged(region: Region, size: tuple[int, int], full: tuple[int, int]) -> Region:
    """A region computed at `size`, scaled to the `full` size of the photo; both (width, height)."""
    if size == full:
        return region
    x, y = (whole / part for whole, part in zip(full, size))
    left, top, right, bottom = region.box
    return replace(
        region,
        box=(int(left * x), int(top * y), min(math.ceil(right * x), full[0]), min(math.ceil(bottom * y), full[1])),
        polygon=[[[round(a * x, 1), round(b * y, 1)] for a, b in ring] for ring in region.polygon],
        area=round(region.area * x * y),
        length=region.length * (x * y) ** 0.5,
        width=region.width * (x * y) ** 0.5,
        run_lengths=None,
    )
