"""The monitors of a line raise alarms for drift, for recurring defects, and for another product."""

from dataclasses import dataclass
from typing import Any

from codegraph_jax.bank.peak_patches import PeakPatches
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.line.drift import MAX_STORED, Chart, Drift
from codegraph_jax.line.ledger import Ledger, StateUpdate
from codegraph_jax.line.part import Alarm, Part, operator_sentence
from codegraph_jax.line.recurrence import RecurrenceMonitor
from codegraph_jax.line.statistics import PICTURE_STATISTICS

STATISTICS = ("score", *PICTURE_STATISTICS)
"""Statistics that are tested for drift."""
OTHER_PRODUCT_RUN = 12
"""Number of consecutive flagged parts, all unlike the bank's product, that raises an alarm. One good part in four is
unlike the product (`consistency.pattern.LIMIT_QUANTILE`), and 23 to 98 of 100 defective parts, depending on the product
(nine products, ViT-S, 224 px), so a shorter run can be a run of defective parts."""


@dataclass(frozen=True)
class MonitoredPart:
    """A part with the data for the monitors.

    Attributes:
        part: the part; the monitors use `flagged` and `statistics`.
        peak_patches: its peak patches that are unlike those of unflagged parts of the bank's set.
        defect_names: names of the bank's defects that were found on it.
        other_product: whether it is flagged and unlike the bank's product.
    """

    part: Part
    peak_patches: PeakPatches = PeakPatches.empty(0)
    defect_names: tuple[str, ...] = ()
    other_product: bool = False


class Monitors:
    """All monitors, in the state of the ledger.

    Args:
        bank: the bank of the line.
        ledger: ledger of the line.
        parts_per_false_alarm: average number of parts between two false alarms of drift.
    """

    def __init__(self, bank: ReferenceBank, ledger: Ledger, parts_per_false_alarm: float):
        calibration_set = bank.calibration_set
        passed = ~bank.calibration.flags(calibration_set.scores) & ~calibration_set.defect_members
        drift_state = ledger.state("drift") or {}
        if ledger.state("bank") not in (None, bank.digest):
            # scores of another bank are not comparable
            drift_state["score"] = Chart(resets=[ledger.next_number() - 1]).state()
        self.drift = Drift(
            STATISTICS, parts_per_false_alarm, {"score": calibration_set.scores[passed]}, drift_state,
            lambda after: ledger.passed(after, MAX_STORED),
        )  # fmt: skip
        stored = [(number, PeakPatches.from_bytes(data)) for number, data in ledger.peak_patches()]
        # patch vectors of another backbone are not comparable
        width = len(bank.backbone.blocks) * bank.backbone.width
        comparable = [(number, peaks) for number, peaks in stored if peaks.vectors.shape[1] == width]
        self.recurrence = RecurrenceMonitor(ledger.state("recurrence"), comparable)
        self._other_product_run = ledger.state("other_product_run") or 0

    def update(self, number: int, monitored: MonitoredPart) -> tuple[list[Alarm], StateUpdate]:
        """Adds a part that is not recorded yet; returns the alarms, and the state to record with it."""
        part, peaks, recurrence = monitored.part, monitored.peak_patches, self.recurrence
        alarms = [] if part.flagged else self.drift.update(number, part.statistics)
        alarms += recurrence.update(number, peaks, monitored.defect_names)
        self._other_product_run = self._other_product_run + 1 if monitored.other_product else 0
        if self._other_product_run == OTHER_PRODUCT_RUN:
            alarms.append(Alarm("product", "product", operator_sentence("other_product", count=OTHER_PRODUCT_RUN)))
        states = self._states() | {"bank": part.bank, "other_product_run": self._other_product_run}
        data = peaks.to_bytes() if len(peaks) else b""
        return alarms, StateUpdate(states, data, recurrence.first_needed, recurrence.accepted)

    def accept(self, alarm: Alarm) -> dict[str, Any]:
        """Accepts the cause of an acknowledged alarm, which raises no further one; returns the states to record."""
        if alarm.kind == "drift":
            self.drift.accept(alarm.subject, alarm.raised_by)
        elif alarm.kind == "recurrence":
            self.recurrence.accept(alarm.subject, alarm.parts)
        return self._states()

    def _states(self) -> dict[str, Any]:
        return {"drift": self.drift.state(), "recurrence": self.recurrence.state()}
