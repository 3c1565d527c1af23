"""The inspector of a line: one picture in, one verdict out and in the ledger, and the monitors told."""

import contextlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.peak_patches import PeakPatches
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import DataConfig, ThresholdConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file
from codegraph_jax.data.images import UnreadableImage, full_size, load_image
from codegraph_jax.line import sheets
from codegraph_jax.line.drift import MOST, Chart, Drift
from codegraph_jax.line.ledger import Ledger, LedgerUnavailable
from codegraph_jax.line.part import Alarm, Part, judged_part, now
from codegraph_jax.line.recurrence import LIMITS, WINDOW, Recurrence
from codegraph_jax.line.statistics import PICTURE, picture_statistics
from codegraph_jax.report.heatmaps import Scale, layer_png
from codegraph_jax.report.pictures import find_regions
from codegraph_jax.report.region_data import Region

ALARMS, PICTURES = OWN = ("alarms", "pictures")
"""Directories below the workdir for contact sheets and for pictures that were sent."""
FIGURES = ("score", *PICTURE)
"""What is watched for drift."""
OTHER_PRODUCT = 12
"""Parts in a row that are flagged and unlike the bank's product, before an alarm says so. A good part is unlike it in
one case of four (`consistency.pattern.ALIKE`), a defective one in 23 to 98 of 100, by product (nine products, ViT-S,
224 px): a short run can be a row of defective parts."""
ATTEMPTS = 2
"""How many times the process may end while it judges a picture before that picture is given up."""
TOO_MANY_ATTEMPTS = f"the program ended {ATTEMPTS} times while it judged this photo (out of memory?); not tried again"
REGION_PIXELS, REGION_SIDE = 4_000_000, 8192
"""Size of a picture, in all and along its longer side, at which its flagged regions are looked for at most."""
LEAST_FREE = 50_000_000
"""Bytes below which the disk counts as full."""

logger = logging.getLogger(__name__)


class Unanswerable(UserError):
    """A part of which a person can say nothing."""


@dataclass(frozen=True)
class _Look:
    """One picture as the bank sees it."""

    part: Part
    standouts: PeakPatches
    defects: tuple[str, ...]
    foreign: bool = False


class Inspector:
    """Judges parts one at a time; `judge` may be called by several threads, which then take turns.

    Args:
        bank: that judges.
        ledger: where the verdicts go.
        workdir: where contact sheets go.
        mean_run: parts between two false alarms of drift, on average.
        threshold: takes the place of the bank's own.
        path: file of the bank, which learns from `answer`; empty: it is not written.
    """

    def __init__(
        self,
        bank: ReferenceBank,
        ledger: Ledger,
        workdir: Path,
        mean_run: float = 10_000,
        threshold: ThresholdConfig | None = None,
        path: str = "",
    ):
        self.ledger, self.workdir, self.mean_run = ledger, workdir, mean_run
        self._stored, self._threshold, self._path = bank, threshold, path
        self.bank = bank.with_threshold(threshold)
        self._turn = threading.Lock()
        self._begun: set[str] = set()
        self._monitors: tuple[Drift, Recurrence] | None = None
        self._unusual = bank.calibration.unusual
        self._known = bank.calibration_set.standouts

    def warm_up(self) -> None:
        """Compiles and loads everything that the first part would wait for."""
        width, height = 640, 480
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))
        self._look(_blank("", "", ""), picture, always=True)
        self._restored()

    def judge(
        self,
        key: str,
        name: str,
        path: str,
        give_up: Callable[[bool], bool] = lambda failed: False,
        *,
        content: str = "",
        look: str = "",
        replaces: int = 0,
    ) -> Part | None:
        """Judges a part and records it; a part of the same key that is recorded already is returned as it is.

        A part that failed binds nothing: another picture under its key is judged, and takes its place.

        Args:
            key: what makes it one part, see `ledger.Part`.
            name: what people call it.
            path: of its picture.
            give_up: asked once the picture was looked at, and told whether it could not be decoded: whether to leave
                the part alone, since it may come yet. Then the result is None, and nothing is recorded.
            content: see `Part`.
            look: see `Part`.
            replaces: number of the part whose place it takes; 0: none.

        Raises:
            LedgerUnavailable: the verdict cannot be recorded now. Nothing is known of the part then; try again.
        """
        with self._turn:
            if known := self.ledger.find(key):
                if known.status == "judged" or known.content == content:
                    return known
                replaces = known.id
            part, picture = replace(_blank(key, name, path), content=content, look=look), content or key
            if picture not in self._begun and self.ledger.begin(picture) > ATTEMPTS:
                # its attempts stay in the ledger, so that it is not tried under another name either
                failed = replace(part, judged=now(), status="failed", reason=TOO_MANY_ATTEMPTS)
                return self.ledger.record(failed, replaces=replaces)
            self._begun.add(picture)
            recorded = None
            try:
                seen = self._judged(part, path)
                if not give_up(seen.part.status == "failed"):
                    recorded = self._record(seen, replaces, picture)
            finally:
                # whatever has happened, it has not ended the process
                with contextlib.suppress(LedgerUnavailable):
                    if recorded is None:
                        self.ledger.end(picture)
                    self._begun.discard(picture)
            return recorded

    def check(self) -> None:
        """Tries whether a part could be judged and recorded now.

        Raises:
            LedgerUnavailable: it could not, and why.
        """
        self.ledger.check()
        free = shutil.disk_usage(self.workdir).free
        if free < LEAST_FREE:
            raise LedgerUnavailable(f"{self.workdir}: the disk is full ({free / 1e6:.0f} MB are left)")

    def fail(self, key: str, name: str, path: str, reason: str, look: str = "") -> Part:
        """Records a part that cannot be judged; errors as for `judge`."""
        with self._turn:
            failed = replace(_blank(key, name, path), judged=now(), status="failed", reason=reason, look=look)
            return self.ledger.record(failed)

    def _judged(self, part: Part, source: str) -> _Look:
        began = time.perf_counter()
        nothing = PeakPatches.nothing(0)
        try:
            picture = load_image(source, self.bank.value_range)
            if (count := picture.info.get("pages", 1)) > 1:
                logger.warning("%s: holds %d pages or frames, of which only the first is judged", part.name, count)
            look = self._look(part, picture)
        except UnreadableImage as error:
            return _Look(replace(part, judged=now(), status="failed", reason=error.reason), nothing, ())
        except Exception as error:  # whatever it is, the line goes on, and the part is listed with its reason
            logger.exception("%s: cannot be judged", part.name)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            return _Look(replace(part, judged=now(), status="failed", reason=reason), nothing, ())
        return replace(look, part=replace(look.part, judged=now(), seconds=round(time.perf_counter() - began, 4)))

    def _look(self, part: Part, picture: Image.Image, always: bool = False) -> _Look:
        bank = self.bank
        least = 0.0 if always else self._unusual
        inspection = bank.inspect([picture], DataConfig(unreadable="error"), standouts=max(least, 1e-9))
        width, height = full_size(picture)
        calibration, placement = bank.calibration, inspection.placement
        content = placement.content(0)
        scores, shows = content.cut(inspection.patch_scores[0]), content.cut(inspection.shows[0])
        flagged, score = bool(inspection.flagged[0]), float(inspection.scores[0])
        regions: list[Region] = []
        if flagged or always:
            background = float(np.median(placement.judged_scores(inspection.patch_scores)))
            size = _bounded(width, height)
            inspected = inspection.inspected[0](*size) if inspection.inspected else None
            _, regions = find_regions(scores, background, calibration, shows, size, inspected)
            regions = [_enlarged(region, size, (width, height)) for region in regions]
        seen = [sighting.pattern for sighting in inspection.sightings if sighting.images]
        verdict = (score, float(inspection.p_values[0]), flagged)
        part = replace(
            judged_part(part, bank, verdict, (width, height), scores, seen, regions),
            statistics={"score": score, **picture_statistics(picture)},
            layer=layer_png(Scale(*bank.scale).strength(scores)),
        )
        defects = tuple(pattern.name or "a known defect" for pattern in seen if pattern.verdict == "defect")
        # what parts of the set show that passed is no news
        standouts = inspection.standouts[0].unlike(self._known, LIMITS[-1])
        return _Look(part, standouts, defects, foreign=flagged and inspection.foreign)

    def _record(self, look: _Look, replaces: int, picture: str) -> Part:
        """Tells the monitors and writes everything, or nothing."""
        part, number = look.part, self.ledger.next_number()
        if part.status == "failed":
            return self.ledger.record(part, replaces=replaces, ended=picture)
        try:
            drift, recurrence = self._restored()
            alarms: list[Alarm] = []
            if not part.flagged:
                alarms += drift.update(number, part.statistics)
                if alarms:
                    after = min(drift.changed_after(alarm.subject) for alarm in alarms)
                    recent = [*self.ledger.passed(after, MOST), (number, part.statistics)]
                    drift.restart([alarm.subject for alarm in alarms], recent)
            alarms += recurrence.update(number, look.standouts, look.defects)
            foreign = (self.ledger.monitor("product") or 0) + 1 if look.foreign else 0
            if foreign == OTHER_PRODUCT:
                alarms.append(
                    Alarm("product", "product",
                          f"The last {OTHER_PRODUCT} parts are all flagged and look unlike the parts "
                          "that the bank was made of. Is this another product, or another bank?")
                )  # fmt: skip
            recorded = self.ledger.record(
                replace(part, alarms=tuple(alarms)),
                look.standouts.to_bytes() if len(look.standouts) else None,
                {"drift": drift.state(), "recurrence": recurrence.state(), "bank": self.bank.name, "product": foreign},
                forget=max(0, number - WINDOW),
                replaces=replaces,
                ended=picture,
                keep=recurrence.usual,
            )
        except BaseException:
            # the monitors may know of a part that the ledger does not: they are read anew
            self._monitors = None
            raise
        if replaces:
            # the monitors know the row that is gone: they are read anew
            self._monitors = None
        for alarm in recorded.alarms:
            with contextlib.suppress(OSError):  # a full disk; the sheet is made again when somebody asks for it
                self.sheet(alarm)
        return recorded

    def _restored(self) -> tuple[Drift, Recurrence]:
        """The monitors as the ledger knows them."""
        if self._monitors is None:
            ledger, taught = self.ledger, self.bank.calibration_set
            scores = taught.scores[~self.bank.calibration.of(taught.scores).flagged & ~taught.proven]
            state = ledger.monitor("drift") or {}
            if ledger.monitor("bank") not in (None, self.bank.name):
                # another bank scores otherwise: what the one before it gave says nothing of this one
                last = ledger.next_number() - 1
                state["score"] = Chart(starts=[last]).state()
            starts = [Chart.of(chart).start for chart in state.values()]
            drift = Drift(FIGURES, self.mean_run, {"score": scores}, state, ledger.passed(min(starts, default=0), MOST))
            backbone = self.bank.backbone
            width = len(backbone.blocks) * backbone.preset.width
            known = ledger.monitor("recurrence")
            usual = (known or {}).get("usual", ())
            kept = [(number, PeakPatches.from_bytes(data)) for number, data in ledger.standouts(WINDOW + len(usual))]
            # those of another backbone cannot be compared
            kept = [(number, own) for number, own in kept if own.vectors.shape[1] == width]
            self._monitors = drift, Recurrence(known, kept)
        return self._monitors

    def answer(self, number: int, defective: bool | None) -> Part | None:
        """A person says what a part is, and the bank learns it: it and its like are judged so from now on.

        Args:
            number: of the part.
            defective: False: it is good; None: the last answer is taken back.

        Returns:
            The part with the answer; None where there is none of this number.

        Raises:
            Unanswerable: the part failed or its picture is gone; or another answer came after the one to take back.
            LedgerUnavailable: bank or ledger cannot be written now, and nothing has changed.
        """
        with self._turn:
            part = self.ledger.get(number)
            if part is None:
                return None
            name, word = f"{part.id}: {part.name}", "" if defective is None else "defective" if defective else "good"
            if part.answer == word:
                return part
            try:
                learnt = self._learnt(part, name, defective)
            except (UnreadableImage, BankError) as error:
                raise Unanswerable(f"part {number}: {getattr(error, 'reason', error)}") from None
            bank = learnt.with_threshold(self._threshold)
            try:
                if self._path:
                    learnt.save(self._path, learnt.stored_as)
            except OSError as error:
                raise LedgerUnavailable(f"{self._path}: cannot be written ({error.strerror or error})") from None
            self._stored, self.bank = learnt, bank
            self.ledger.answer(number, word, bank.name)
            return replace(part, answer=word)

    def _learnt(self, part: Part, name: str, defective: bool | None) -> ReferenceBank:
        bank = self._stored
        if defective is not None:
            if part.status == "failed":
                raise Unanswerable(f"part {part.id} could not be judged")
            return bank.extend([part.path], [name], now(), defective)
        if name not in bank.history[-1].names:
            raise Unanswerable(f"part {part.id}: only the last answer can be taken back; give the opposite one instead")
        return bank.back_to(len(bank.history) - 2)

    def acknowledge(self, number: int, reason: str) -> Alarm | None:
        """A person says why an alarm needs nothing done ("our daily cycle", "a new batch"): it is not raised again.

        Returns:
            The alarm with its reason; None where there is none of this number.

        Raises:
            LedgerUnavailable: it cannot be recorded now, and nothing has changed.
        """
        with self._turn:
            alarm = self.ledger.alarm(number)
            if alarm is None or alarm.reason:
                return alarm
            drift, recurrence = self._restored()
            try:
                if alarm.kind == "drift":
                    drift.accept(alarm.subject, alarm.part, lambda after: self.ledger.passed(after, MOST))
                elif alarm.kind == "recurrence":
                    recurrence.accept(alarm.subject, alarm.parts)
                states = {"drift": drift.state(), "recurrence": recurrence.state()}
                self.ledger.acknowledge(number, reason, now(), states)
            except BaseException:
                self._monitors = None  # as in `_record`
                raise
            return replace(alarm, reason=reason)

    def sheet(self, alarm: Alarm) -> Path | None:
        """The contact sheet of an alarm, made where it is missing; None where it has none."""
        if alarm.kind != "recurrence":
            return None
        path = self.workdir / ALARMS / f"{alarm.id}.png"
        if not path.exists():
            parts = [part for part in map(self.ledger.get, alarm.parts) if part]
            with whole_file(path) as name:
                sheets.contact_sheet_of(alarm, parts, self.bank.value_range).save(name, "PNG")
        return path


def _bounded(width: int, height: int) -> tuple[int, int]:
    """The size at which regions are looked for: they follow from few patches, however many pixels a picture has."""
    scale = min(1.0, (REGION_PIXELS / (width * height)) ** 0.5, REGION_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _enlarged(region: Region, size: tuple[int, int], full: tuple[int, int]) -> Region:
    """A region of a picture that was looked at with another size, both (width, height)."""
    if size == full:
        return region
    x, y = (whole / part for whole, part in zip(full, size))
    left, top, right, bottom = region.box
    return replace(
        region,
        box=(int(left * x), int(top * y), min(math.ceil(right * x), full[0]), min(math.ceil(bottom * y), full[1])),
        polygon=[[[round(a * x, 1), round(b * y, 1)] for a, b in ring] for ring in region.polygon],
        area=round(region.area * x * y),
        run_lengths=None,
    )


def _blank(key: str, name: str, path: str) -> Part:
    moment = now()
    return Part(key=key, name=name, path=path, received=moment, judged=moment, status="judged")
