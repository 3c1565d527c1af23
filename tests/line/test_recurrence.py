"""Recurrence on a line: groups that chance does not explain raise one early alarm with their parts."""

import numpy as np
import pytest

from codegraph_jax.bank.peak_patches import PeakPatches, peaks
from codegraph_jax.line.recurrence import LIMITS, WINDOW_PARTS, RecurrenceMonitor, expected_groups

WIDTH = 96


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class SimulatedLine:
    """Parts whose peak patches are 0.4 away from normal ones: random ones anywhere in a space of `dimensions`, planted
    ones about 0.7 of that apart from each other, as measured on real sets (benchmarks/log/line.md)."""

    def __init__(self, seed: int, dimensions: int = 8):
        self.rng = np.random.default_rng(seed)
        self.basis = unit(self.rng.normal(size=(dimensions, WIDTH)))
        self.centre = unit(self.rng.normal(size=dimensions) @ self.basis)

    def draw(self, count: int = 1, planted: bool = False) -> PeakPatches:
        own = unit(self.rng.normal(size=(count, len(self.basis))) @ self.basis)
        centres = np.repeat(self.centre[None], count, axis=0) if planted else own
        vectors = unit(centres + 0.21 * unit(self.rng.normal(size=(count, WIDTH))))
        return PeakPatches(vectors.astype(np.float32), (0.4 * self.rng.uniform(0.85, 1.2, count)).astype(np.float32))

    def run(self, share: float, parts: int, unlike: float = 0.12) -> tuple[int | None, int]:
        """(occurrence by which the planted defect is announced, alarms that are false)."""
        monitor, seen, found, false = RecurrenceMonitor(), 0, None, 0
        for part in range(1, parts + 1):
            draw = self.rng.uniform()
            planted = draw < share
            seen += planted
            if planted:
                peaks = self.draw(planted=True)
            elif draw < share + unlike:
                peaks = self.draw(int(self.rng.integers(1, 4)))
            else:
                peaks = PeakPatches.empty(WIDTH)
            for _ in monitor.update(part, peaks):
                if planted and found is None:
                    found = seen
                else:
                    false += not planted
        return found, false


def test_a_defect_on_three_percent_of_two_thousand_parts_is_found_by_its_fifth_occurrence():
    found = [SimulatedLine(seed).run(0.03, 2000) for seed in range(10)]
    assert sum(occurrence is not None and occurrence <= 5 for occurrence, _ in found) >= 9, found
    assert sum(false for _, false in found) <= 1


def test_no_recurrence_alarm_without_a_defect():
    assert sum(SimulatedLine(100 + seed).run(0.0, 2000)[1] > 0 for seed in range(20)) <= 1


def test_more_links_by_chance_need_larger_groups():
    assert expected_groups(100, 4, 1e-4) < 0.05 < expected_groups(100, 4, 1e-2)
    assert expected_groups(100, 6, 1e-3) < expected_groups(100, 4, 1e-3)
    assert expected_groups(3, 4, 1.0) == 0
    # three trees connect three parts, each with two links
    assert expected_groups(3, 3, 0.5) == pytest.approx(3 * 0.25)


def test_unevenly_spread_links_of_a_texture_need_larger_groups():
    assert expected_groups(50, 4, 1e-3, 1e-1) > 100 * expected_groups(50, 4, 1e-3)
    assert expected_groups(50, 4, 1e-3, 1e-6) == expected_groups(50, 4, 1e-3), (
        "a second link is not rarer than the first"
    )


def test_three_parts_are_not_a_group_at_the_start_of_a_line():
    line = SimulatedLine(9)
    assert not announced(RecurrenceMonitor(), [line.draw(planted=True) for _ in range(3)])
    assert announced(RecurrenceMonitor(), [line.draw(planted=True) for _ in range(5)])


def test_an_accepted_group_raises_no_further_alarm():
    parts = stream()
    monitor = RecurrenceMonitor()
    part, others = announced(monitor, parts)[0]
    monitor.accept(f"group of part {others[0]}", (*others, part))
    assert monitor.accepted == {*others, part}
    line = SimulatedLine(3)  # the same planted mark
    later = [line.draw(planted=part % 2 == 0) for part in range(61, 100)]
    again = RecurrenceMonitor(monitor.state(), list(enumerate(parts, 1)))
    for own in (monitor, again):
        assert not [a for a in announced(own, later, 61) if any(p % 2 == 0 for p in a[1])]
    unacknowledged = RecurrenceMonitor()
    announced(unacknowledged, parts[: part - 1])
    assert announced(unacknowledged, later, 61)


def test_peak_patches_of_accepted_marks_are_needed_within_the_window_only():
    line, monitor = SimulatedLine(4), RecurrenceMonitor()
    for number in range(1, 6):
        monitor.update(number, line.draw(planted=True))
    monitor.accept("group of part 1", range(1, 6))
    for number in (6, WINDOW_PARTS + 6):
        assert not monitor.update(number, line.draw(planted=True))
    assert monitor.first_needed == 7, "no part of the window has unknown peak patches"


def test_an_accepted_named_defect_raises_no_alarm():
    monitor, nothing = RecurrenceMonitor(), PeakPatches.empty(WIDTH)
    for part in range(1, 4):
        monitor.update(part, nothing, ["scratch"])
    monitor.accept("scratch", (1, 2, 3))
    monitor = RecurrenceMonitor(monitor.state())
    assert not [a for p in range(5000, 5005) for a in monitor.update(p, nothing, ["scratch"])]
    assert [a for p in range(5000, 5005) for a in monitor.update(p, nothing, ["dent"])]


def announced(
    monitor: RecurrenceMonitor, peaks: list[PeakPatches], first: int = 1
) -> list[tuple[int, tuple[int, ...]]]:
    return [(p, a.parts) for p, own in enumerate(peaks, first) for a in monitor.update(p, own)]


def stream(seed: int = 3) -> list[PeakPatches]:
    """Sixty parts, every eighth with the planted defect, the others with a random one."""
    line = SimulatedLine(seed)
    return [line.draw(planted=part % 8 == 0) for part in range(1, 61)]


def test_a_group_is_announced_once_with_its_parts_and_later_ones_join_quietly():
    raised = announced(RecurrenceMonitor(), stream())
    assert len(raised) == 1
    part, others = raised[0]
    assert part % 8 == 0 and part <= 48 and all(other % 8 == 0 for other in others)


def test_restart_continues():
    parts = stream()
    whole = announced(RecurrenceMonitor(), parts)
    for cut in (20, whole[0][0], 55):
        first = RecurrenceMonitor()
        raised = announced(first, parts[:cut])
        again = RecurrenceMonitor(first.state(), list(enumerate(parts[:cut], 1)))
        assert raised + announced(again, parts[cut:], cut + 1) == whole


def test_parts_are_dropped_after_the_window():
    line, monitor = SimulatedLine(4), RecurrenceMonitor()
    raised = [a for k in range(4) for a in monitor.update(1 + k * (WINDOW_PARTS + 1), line.draw(planted=True))]
    assert not raised


def test_known_defects_have_their_names():
    monitor, nothing = RecurrenceMonitor(), PeakPatches.empty(WIDTH)
    raised = [(p, a) for p in range(1, 6) for a in monitor.update(p, nothing, ["scratch"])]
    assert [(p, a.subject, a.parts) for p, a in raised] == [(3, "scratch", (1, 2))]
    assert "scratch is back" in raised[0][1].message


def test_peak_patches_like_those_of_the_set_are_removed():
    line = SimulatedLine(6)
    known, planted = line.draw(3, planted=True), line.draw(5, planted=True)
    assert len(planted.without_similar(known, LIMITS[-1])) < 5
    assert len(line.draw(5).without_similar(known, LIMITS[-1])) == 5
    assert len(planted.without_similar(PeakPatches.empty(0), LIMITS[-1])) == 5


def test_peak_patches_survive_the_ledger_and_are_the_peaks_of_a_map():
    scores = np.zeros((12, 12), np.float32)
    scores[2, 3], scores[2, 4], scores[9, 9] = 0.9, 0.8, 0.5
    assert peaks(scores, 0.4).tolist() == [2 * 12 + 3, 9 * 12 + 9]
    vectors = unit(np.random.default_rng(0).normal(size=(144, WIDTH))).astype(np.float32)
    found = PeakPatches.of(vectors, scores, 0.4)
    again = PeakPatches.from_bytes(found.to_bytes())
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-3)
    np.testing.assert_array_equal(again.scores, np.float32([0.9, 0.5]))
    assert again.distance_ratios(again).diagonal() == pytest.approx([0, 0], abs=0.1)
