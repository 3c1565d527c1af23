"""Drift detection by sequential tests on statistics of the parts that pass [ours].

Each statistic of a part is ranked among the values of all earlier parts. Without a change the ranks are uniform from
the first part on, for any distribution (sequential ranks: McDonald, A CUSUM procedure based on sequential ranks, 1990);
they are transformed to standard normal scores z. Parts of a real line are not independent: consecutive parts resemble
each other, and light and temperature have daily cycles. A CUSUM that assumes independence raises a false alarm every
few hundred parts. Instead, the means of z over windows of 4, 8, 16, ... parts are tested, each against the variance of
earlier means over windows of that length on this line:

    t = mean / sqrt(v),    v = (k s + m u) / (k + m).

s is the mean square over the k earlier windows. u is a prior variance with the weight of m windows: the variance of
the next shorter windows, extrapolated to this length by the correlation of consecutive parts (a first-order
autoregression). v begins as the variance for independent parts and adapts to the line. The difference from the mean
of the two windows before is tested in the same way; in a cycle it varies less than the mean. An alarm is raised if |t|
exceeds the quantile of Student's t distribution with k + m degrees of freedom that gives the requested mean run between
false alarms, which is divided equally among all tests. (Variances of batch means: Law, Simulation Modeling and
Analysis, 5th edition, section 9.5.)

During the first cycle of a line no window lies far from the windows just before it, since a cycle begins smoothly;
afterwards the cycle is part of s. A change no larger than the usual variation is therefore detected late or not at all
(docs/line.md). After an alarm the statistic starts again with the parts since the change, so that one change raises one
alarm; s is kept.
"""

import bisect
import copy
import random
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from codegraph_jax.line.part import Alarm

LENGTHS = tuple(4 << i for i in range(9))
"""Window lengths in parts, 4 to 1,024: for jumps from several standard deviations down to a fifth of one. A window is
tested each time that a quarter of it is new."""
PRIOR_PARTS, PRIOR_WINDOWS = 1024, (4.0, 30.0)
"""Weight of the prior variance: the number of windows in this many parts, within these bounds. Short windows can be
tested from the start; long windows, which a cycle affects, soon follow the line."""
LAG = 16
"""Limits are computed every `LAG` parts and used two or three steps later, so that a change cannot raise its own
limit."""
CORRELATION_PRIOR_PARTS = 20.0
"""Weight in parts of a zero prior on the correlation, which the first parts alone cannot estimate."""
SAFETY = 1.5
"""The limits are set for this multiple of the requested mean run, since the t distribution is an approximation."""
CERTAIN_MEAN, CERTAIN_PARTS, ACCEPTED_MARGIN = 2.25, 16, 0.25
"""A window of at least `CERTAIN_PARTS` parts with a mean z of `CERTAIN_MEAN` is a change on any line: most of its parts
exceed all but one in eighty earlier parts. If a larger mean was accepted, the limit is ACCEPTED_MARGIN above it."""
MAX_STORED = 50_000
"""Values that are stored for the ranks; later values are ranked but not stored."""
WORDS = {
    "score": (
        "Anomaly scores of passed parts have risen since part {part}.",
        "Anomaly scores of passed parts have fallen since part {part}.",
    ),
    "brightness": ("Photos have been brighter since part {part}.", "Photos have been darker since part {part}."),
    "sharpness": (
        "Photos have been sharper since part {part}.",
        "Photos have been less sharp since part {part}: the lens may be out of focus or dirty.",
    ),
    "left": (
        "The position has moved to the right since part {part}.",
        "The position has moved to the left since part {part}.",
    ),
    "top": ("The position has moved down since part {part}.", "The position has moved up since part {part}."),
}
"""The text of an alarm about each statistic, if it has risen and if it has fallen."""

Passed = Iterable[tuple[int, Mapping[str, float]]]
"""(number, statistics) of parts that passed, in order."""


@dataclass
class Windows:
    """The windows of one length.

    A level is the mean of a window; a step is its difference from the mean of the two windows before it.

    Attributes:
        counts, squares: number and sum of squares of the levels and of the steps so far.
        sums: sums over the last quarters of windows, at most twelve.
        starts: the last part before each of the last four quarters.
        open: sum over the current quarter.
    """

    counts: list[int] = field(default_factory=lambda: [0, 0])
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    sums: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    open: float = 0.0

    def level_and_step(self, length: int) -> list[float]:
        """Level and step of the last window; the step or both are missing while there are too few parts."""
        if len(self.sums) < 4:
            return []
        level = sum(self.sums[-4:]) / length
        return [level] if len(self.sums) < 12 else [level, level - sum(self.sums[:8]) / (2 * length)]


@dataclass
class Chart:
    """The chart of one statistic.

    Attributes:
        values: sorted values among which a new value is ranked.
        starts: the last part before each start of the chart; parts up to the last of these are ignored.
        seen: number of values since the last start, including the bank's set.
        tested: number of parts tested since the last start.
        windows: one for each of LENGTHS.
        limits: the last limits of levels and steps, for each of LENGTHS.
        last, squares, products: the last z, the sum of squares, and the sum of products of consecutive z.
        accepted: size of a window mean that the operator has acknowledged as usual.
        after, rising: the last part before the last change, and the direction of the change.
    """

    values: "array[float]" = field(default_factory=lambda: array("d"))
    starts: list[int] = field(default_factory=lambda: [0])
    seen: int = 0
    tested: int = 0
    windows: list[Windows] = field(default_factory=lambda: [Windows() for _ in LENGTHS])
    limits: list[list[list[float]]] = field(default_factory=list)
    last: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    accepted: float = 0.0
    after: int = 0
    rising: bool = True

    @property
    def start(self) -> int:
        """Parts up to this one are ignored."""
        return self.starts[-1]

    def add(self, value: float) -> float:
        """Adds a value; returns the normal score of its rank among the earlier values."""
        z = self.rank(value)
        if len(self.values) < MAX_STORED:
            bisect.insort(self.values, value)
        self.seen += 1
        return z

    def rank(self, value: float) -> float:
        """The normal score of a value's rank among the stored values."""
        less, equal = bisect.bisect_left(self.values, value), bisect.bisect_right(self.values, value)
        # ties are broken at random, with a seed so that a part inspected again after a crash gets the same rank
        share = random.Random(self.seen).random()
        rank = (less + share * (1 + equal - less)) / (1 + len(self.values))
        return float(special.ndtri(min(max(rank, 1e-12), 1 - 1e-12)))

    def test(self, z: float, number: int, chance: float) -> bool:
        """Adds a normal score to the windows; returns whether one of them shows a change.

        Args:
            z: result of `add`.
            number: number of the part.
            chance: greatest probability of a false alarm at this part.
        """
        self.squares += z * z
        self.products += z * self.last
        self.last = z
        self.tested += 1
        if (self.tested - 1) % LAG == 0:
            self.limits = [*self.limits[-2:], self.current_limits(chance)]
        greatest = 1.0
        for i, (length, windows) in enumerate(zip(LENGTHS, self.windows)):
            quarter = length // 4
            if (self.tested - 1) % quarter == 0:
                windows.starts = [*windows.starts[-3:], number - 1]
            windows.open += z
            if self.tested % quarter:
                continue
            windows.sums = [*windows.sums[-11:], windows.open]
            windows.open = 0.0
            for kind, value in enumerate(windows.level_and_step(length)):
                beyond = (abs(value) - self.accepted) / self.limits[0][i][kind]
                if kind == 0 and length >= CERTAIN_PARTS:
                    beyond = max(beyond, abs(value) / max(CERTAIN_MEAN, self.accepted + ACCEPTED_MARGIN))
                if beyond > greatest:
                    greatest, self.after, self.rising = beyond, windows.starts[0], value > 0
                if not self.tested % length:
                    windows.counts[kind] += 1
                    windows.squares[kind] += value * value
        return greatest > 1.0

    def current_limits(self, chance: float) -> list[list[float]]:
        """Limits of level and step for each length; the chance that a normal part exceeds any of them is `chance`."""
        correlation = min(max(self.products / (self.squares + CORRELATION_PRIOR_PARTS), 0.0), 0.95)
        limits: list[list[float]] = []
        variances: list[float] = []
        expected_before = [1.0, 1.0]
        for length, windows in zip(LENGTHS, self.windows):
            level = _variance_of_mean(length, correlation)
            independent = [level, level + _variance_of_mean(2 * length, correlation)]
            prior = float(np.clip(PRIOR_PARTS / length, *PRIOR_WINDOWS))
            # excess variance of shorter windows carries over to longer ones
            factors = [known / expected for known, expected in zip(variances, expected_before)] or [1.0, 1.0]
            variances = [
                (squares + prior * factor * expected) / (count + prior)
                for squares, factor, expected, count in zip(windows.squares, factors, independent, windows.counts)
            ]
            expected_before = independent
            share = min(chance * (length // 4) / (2 * len(LENGTHS)), 1.0)
            limits.append([
                float(-special.stdtrit(count + prior, share / 2)) * variance**0.5
                for count, variance in zip(windows.counts, variances)
            ])  # fmt: skip
        return limits

    def restarted(self, values: Iterable[float], starts: list[int]) -> "Chart":
        """A chart with these values and starts, and the variances of this chart."""
        stored = array("d", sorted(values))
        return Chart(
            stored, starts, seen=len(stored), after=starts[-1], limits=list(self.limits), accepted=self.accepted,
            windows=[Windows(list(known.counts), list(known.squares)) for known in self.windows],
            squares=self.squares, products=self.products,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """State for the ledger, without the values, which are in the rows of the parts."""
        names = ("starts", "seen", "tested", "limits", "last", "squares", "products", "accepted", "after", "rising")
        windows = [[w.counts, w.squares, w.sums, w.starts, w.open] for w in self.windows]
        return {name: getattr(self, name) for name in names} | {"windows": windows}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Chart":
        """The chart of a `state`, without values; a new chart if the state is empty."""
        if not state:
            return cls()
        values = copy.deepcopy(dict(state))
        return cls(windows=[Windows(*kept) for kept in values.pop("windows")], **values)


class Drift:
    """The charts of a line.

    Args:
        statistics: names of the statistics.
        parts_per_false_alarm: average number of parts between two false alarms of all charts together.
        set_values: values of the bank's set, by statistic; other statistics start with the first parts of the line.
        state: result of `state` from an earlier start.
        passed: returns the recorded parts after a number.
    """

    def __init__(
        self,
        statistics: Iterable[str],
        parts_per_false_alarm: float,
        set_values: Mapping[str, Iterable[float]],
        state: Mapping[str, Any] | None = None,
        passed: Callable[[int], Passed] = lambda after: (),
    ):
        self._passed = passed
        self._set_values = {name: [float(value) for value in values] for name, values in set_values.items()}
        self.charts = {name: Chart.from_state((state or {}).get(name, {})) for name in statistics}
        self._chance = 1 / (SAFETY * parts_per_false_alarm * max(len(self.charts), 1))
        for name, chart in self.charts.items():
            # the values of the set count until the first change
            if len(chart.starts) == 1:
                before, chart.seen = chart.seen, 0
                for value in self._set_values.get(name, ()):
                    chart.add(value)
                chart.seen = max(before, chart.seen)
        for number, values in passed(min((chart.start for chart in self.charts.values()), default=0)):
            for name, chart in self.charts.items():
                if number > chart.start and name in values and len(chart.values) < MAX_STORED:
                    bisect.insort(chart.values, values[name])

    def update(self, number: int, values: Mapping[str, float]) -> list[Alarm]:
        """Adds the statistics of a part that passed and is not recorded yet; returns the alarms.

        Charts that raise an alarm are restarted with the parts since the change.
        """
        changed = [
            (name, chart)
            for name, chart in self.charts.items()
            if name in values and chart.test(chart.add(values[name]), number, self._chance)
        ]
        for name, chart in changed:
            since = [recorded[name] for _, recorded in self._passed(chart.after) if name in recorded]
            self.charts[name] = chart.restarted([*since, values[name]], [*chart.starts, chart.after])
        return [_alarm(name, chart) for name, chart in changed]

    def accept(self, subject: str, number: int) -> None:
        """Accepts the change of an acknowledged alarm as usual, so that it raises no alarm again.

        The parts before the change are used again, and window means up to the size of the change are accepted.

        Args:
            subject: the statistic.
            number: number of the part that raised the alarm.
        """
        chart = self.charts.get(subject)
        if chart is None:
            return
        changes = [start for start in chart.starts[1:] if start < number]
        if not changes:
            return
        starts = [start for start in chart.starts if start != changes[-1]]
        parts = [(other, values[subject]) for other, values in self._passed(starts[-1]) if subject in values]
        used = [value for _, value in parts]
        if len(starts) == 1:
            used += self._set_values.get(subject, [])
        new = chart.restarted(used[-MAX_STORED:], starts)
        changed = [new.rank(value) for other, value in parts if changes[-1] < other <= number]
        if changed:
            new.accepted = max(new.accepted, abs(float(np.mean(changed))))
        self.charts[subject] = new

    def state(self) -> dict[str, Any]:
        """State of all charts, for the ledger."""
        return {name: chart.state() for name, chart in self.charts.items()}


def _variance_of_mean(length: int, correlation: float) -> float:
    """Variance of the mean of `length` consecutive values of a first-order autoregression with variance 1."""
    if not correlation:
        return 1 / length
    falling = (1 - correlation**length) / (length * (1 - correlation))
    return (1 + 2 * correlation / (1 - correlation) * (1 - falling)) / length


def _alarm(name: str, chart: Chart) -> Alarm:
    risen, fallen = WORDS[name]
    return Alarm("drift", name, (risen if chart.rising else fallen).format(part=chart.after + 1))
