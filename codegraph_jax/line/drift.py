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
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from codegraph_jax.line.part import Alarm, operator_sentence

LENGTHS = tuple(4 << i for i in range(9))
"""Window lengths in parts, 4 to 1,024: for jumps from several standard deviations down to a fifth of one. A window is
tested each time that a quarter of it is new."""
PRIOR_PARTS, PRIOR_WINDOWS = 1024, (4.0, 30.0)
"""Weight of the prior variance: the number of windows in this many parts, within these bounds. Short windows can be
tested from the start; long windows, which a cycle affects, soon follow the line."""
LAG_PARTS = 16
"""Limits are computed every `LAG_PARTS` parts and used two or three steps later, so that a change cannot raise its own
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
Passed = Iterable[tuple[int, Mapping[str, float]]]
"""(number, statistics) of parts that passed, in order."""


class Limits(NamedTuple):
    """Limits of the levels and of the steps of windows, for each of LENGTHS."""

    levels: list[float]
    steps: list[float]


@dataclass
class Tally:
    """The number and the sum of squares of the values so far."""

    count: int = 0
    sum_of_squares: float = 0.0


@dataclass
class Windows:
    """The windows of one length.

    A level is the mean of a window; a step is its difference from the mean of the two windows before it.

    Attributes:
        levels, steps: tallies of the windows so far, each part in one window only.
        quarter_sums: sums over the last quarters of windows, at most twelve.
        parts_before_quarters: the last part before each of the last four quarters.
        open_sum: sum over the current quarter.
    """

    levels: Tally = field(default_factory=Tally)
    steps: Tally = field(default_factory=Tally)
    quarter_sums: list[float] = field(default_factory=list)
    parts_before_quarters: list[int] = field(default_factory=list)
    open_sum: float = 0.0

    def level_and_step(self, length: int) -> list[float]:
        """Level and step of the last window; the step or both are missing while there are too few parts."""
        sums = self.quarter_sums
        if len(sums) < 4:
            return []
        level = sum(sums[-4:]) / length
        return [level] if len(sums) < 12 else [level, level - sum(sums[:8]) / (2 * length)]


@dataclass
class Chart:
    """The chart of one statistic.

    Attributes:
        values: sorted values among which a new value is ranked.
        resets: the last part before each start of the chart, from the first (0) on.
        seen: number of values since the last start, including the bank's set.
        tested: number of parts tested since the last start.
        windows: one for each of LENGTHS.
        limits: the last three limits, from the oldest on; the oldest are used.
        last_z, sum_of_squares, sum_of_products: the last z, the sum of z^2, and that of products of consecutive z.
        accepted_size: size of a window mean that the operator has acknowledged as usual.
        changed_after, rising: the last part before the last change, and the direction of the change.
    """

    values: "array[float]" = field(default_factory=lambda: array("d"))
    resets: list[int] = field(default_factory=lambda: [0])
    seen: int = 0
    tested: int = 0
    windows: list[Windows] = field(default_factory=lambda: [Windows() for _ in LENGTHS])
    limits: list[Limits] = field(default_factory=list)
    last_z: float = 0.0
    sum_of_squares: float = 0.0
    sum_of_products: float = 0.0
    accepted_size: float = 0.0
    changed_after: int = 0
    rising: bool = True

    @property
    def ignored_up_to(self) -> int:
        """The last part before the last start of the chart."""
        return self.resets[-1]

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
        self.sum_of_squares += z * z
        self.sum_of_products += z * self.last_z
        self.last_z = z
        self.tested += 1
        if (self.tested - 1) % LAG_PARTS == 0:
            self.limits = [*self.limits[-2:], self.current_limits(chance)]
        greatest = 1.0
        for i, (length, windows) in enumerate(zip(LENGTHS, self.windows)):
            quarter = length // 4
            if (self.tested - 1) % quarter == 0:
                windows.parts_before_quarters = [*windows.parts_before_quarters[-3:], number - 1]
            windows.open_sum += z
            if self.tested % quarter:
                continue
            windows.quarter_sums = [*windows.quarter_sums[-11:], windows.open_sum]
            windows.open_sum = 0.0
            limits = self.limits[0].levels[i], self.limits[0].steps[i]
            tallies = windows.levels, windows.steps
            for value, limit, tally in zip(windows.level_and_step(length), limits, tallies):
                beyond = (abs(value) - self.accepted_size) / limit
                if tally is windows.levels and length >= CERTAIN_PARTS:
                    beyond = max(beyond, abs(value) / max(CERTAIN_MEAN, self.accepted_size + ACCEPTED_MARGIN))
                if beyond > greatest:
                    greatest, self.rising = beyond, value > 0
                    self.changed_after = windows.parts_before_quarters[0]
                if not self.tested % length:
                    tally.count += 1
                    tally.sum_of_squares += value * value
        return greatest > 1.0

    def current_limits(self, chance: float) -> Limits:
        """The limits by the windows so far; the chance that a normal part exceeds any of them is `chance`."""
        correlation = min(max(self.sum_of_products / (self.sum_of_squares + CORRELATION_PRIOR_PARTS), 0.0), 0.95)
        levels = [_variance_of_mean(length, correlation) for length in LENGTHS]
        steps = [level + _variance_of_mean(2 * length, correlation) for length, level in zip(LENGTHS, levels)]
        return Limits(
            _limits([windows.levels for windows in self.windows], levels, chance / 2),
            _limits([windows.steps for windows in self.windows], steps, chance / 2),
        )

    def restarted(self, values: Iterable[float], resets: list[int]) -> "Chart":
        """A chart with these values and resets, and the variances of this chart."""
        stored = array("d", sorted(values))
        return Chart(
            stored, resets, seen=len(stored), changed_after=resets[-1], limits=list(self.limits),
            windows=[Windows(replace(known.levels), replace(known.steps)) for known in self.windows],
            sum_of_squares=self.sum_of_squares, sum_of_products=self.sum_of_products, accepted_size=self.accepted_size,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """State for the ledger, without the values, which are in the rows of the parts."""
        windows = [
            vars(windows) | {"levels": vars(windows.levels), "steps": vars(windows.steps)} for windows in self.windows
        ]
        state = {name: value for name, value in vars(self).items() if name != "values"}
        return state | {"windows": windows, "limits": [limits._asdict() for limits in self.limits]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Chart":
        """The chart of a `state`, without values; a new chart if the state is empty."""
        if not state:
            return cls()
        values = copy.deepcopy(dict(state))
        limits = [Limits(**kept) for kept in values.pop("limits")]
        windows = [
            Windows(**kept | {"levels": Tally(**kept["levels"]), "steps": Tally(**kept["steps"])})
            for kept in values.pop("windows")
        ]
        return cls(windows=windows, limits=limits, **values)


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
            if len(chart.resets) == 1:
                before, chart.seen = chart.seen, 0
                for value in self._set_values.get(name, ()):
                    chart.add(value)
                chart.seen = max(before, chart.seen)
        for number, values in passed(min((chart.ignored_up_to for chart in self.charts.values()), default=0)):
            for name, chart in self.charts.items():
                if number > chart.ignored_up_to and name in values and len(chart.values) < MAX_STORED:
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
            since = [recorded[name] for _, recorded in self._passed(chart.changed_after) if name in recorded]
            self.charts[name] = chart.restarted([*since, values[name]], [*chart.resets, chart.changed_after])
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
        changes = [reset for reset in chart.resets[1:] if reset < number]
        if not changes:
            return
        resets = [reset for reset in chart.resets if reset != changes[-1]]
        parts = [(other, values[subject]) for other, values in self._passed(resets[-1]) if subject in values]
        used = [value for _, value in parts]
        if len(resets) == 1:
            used += self._set_values.get(subject, [])
        new = chart.restarted(used[-MAX_STORED:], resets)
        changed = [new.rank(value) for other, value in parts if changes[-1] < other <= number]
        if changed:
            new.accepted_size = max(new.accepted_size, abs(float(np.mean(changed))))
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


def _limits(tallies: Iterable[Tally], expected: Iterable[float], chance: float) -> list[float]:
    """Limits of the levels or of the steps, for each of LENGTHS, by their variances on this line.

    Args:
        tallies: those of the windows, by length.
        expected: variances by the correlation of consecutive parts, by length.
        chance: probability that a normal part exceeds any of the limits.
    """
    limits = []
    factor = 1.0
    for length, tally, variance in zip(LENGTHS, tallies, expected):
        prior = float(np.clip(PRIOR_PARTS / length, *PRIOR_WINDOWS))
        measured = (tally.sum_of_squares + prior * factor * variance) / (tally.count + prior)
        # excess variance of shorter windows carries over to longer ones
        factor = measured / variance
        share = min(chance * (length // 4) / len(LENGTHS), 1.0)
        limits.append(float(-special.stdtrit(tally.count + prior, share / 2)) * measured**0.5)
    return limits


def _alarm(name: str, chart: Chart) -> Alarm:
    sentence = operator_sentence(f"{name}_{'risen' if chart.rising else 'fallen'}", part=chart.changed_after + 1)
    return Alarm("drift", name, sentence)
