"""Whether a line is still what it was: sequential tests on figures of the parts that pass. [ours]

Each figure of a part is ranked among those of all parts before it. Without change the ranks are uniform, whatever the
law of the figure and from the first part on (sequential ranks: McDonald, A CUSUM procedure based on sequential ranks,
1990), and are turned into standard normal numbers. Parts of a real line are not independent: neighbours resemble each
other, light and temperature have daily cycles. A sum that takes them for independent raises an alarm every few hundred
parts. So the means of windows of 4, 8, 16, ... parts are tested, each against how much means of windows of that length
have varied on this line:

    t = mean / sqrt(v),    v = (k s + m u) / (k + m),

with the mean square s of the k windows that came before, and a prior variance u that counts for m windows: that of the
next shorter windows, and how it would fall to this length by the correlation of neighbours (a first-order
autoregression). So v is that of independent parts at first, and soon holds what the line has shown. The difference from
the mean of the two windows before is tested in the same way: in a cycle it varies less than the mean does. An alarm is
raised where t lies beyond the quantile of Student's law with k + m degrees of freedom that gives the mean run between
false alarms; all tests share it equally. (Variances of means of batches: Law, Simulation Modeling and Analysis, 5th
edition, section 9.5.)

A cycle begins smoothly: while the first one goes on, no window lies far beyond those just before it; afterwards the
cycle is part of s. A change that is no larger than the usual swings is therefore noticed late or not (docs/line.md).
After an alarm a figure begins anew with the parts since the change, so that one change is one alarm; s is kept.
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
"""Parts of a window: 4 to 1,024, from a jump by several standard deviations to one by a fifth. A window is tested each
time a quarter of it is new."""
PRIOR_PARTS, PRIOR_WINDOWS = 1024, (4.0, 30.0)
"""Parts whose windows the prior variance of each length counts for, and the least and the most windows. Short windows
can be tested from the first on; long ones, which a cycle moves, soon follow what the line has shown."""
LAG = 16
"""Limits are found every so many parts, and those of two or three times ago hold: a change must not raise, by what it
adds to the variance, the limit that it is held against."""
DAMPING = 20.0
"""Parts without correlation that count besides those of the line, so that the first few show none by chance."""
SAFETY = 1.5
"""The limits are set for so many times the run that is asked for: Student's law is only nearly that of the means."""
CERTAIN, CERTAIN_PARTS, MARGIN = 2.25, 16, 0.25
"""A mean of so many parts that is so high is a change whatever the line has shown: nearly all of them lie beyond what
one part in eighty has reached. Where a person has accepted more, it must be exceeded by MARGIN."""
MOST = 50_000
"""Parts that a figure is ranked among; later ones are ranked and not kept."""
WORDS = {
    "score": ("anomaly score of parts that pass", "risen", "fallen"),
    "brightness": ("brightness", "risen: pictures are brighter", "fallen: pictures are darker"),
    "sharpness": ("sharpness", "risen", "fallen: the lens may be out of focus or dirty"),
    "left": ("position", "moved to the right", "moved to the left"),
    "top": ("position", "moved down", "moved up"),
}
"""Of each figure its name, and what a person reads where it rises or falls."""

Passed = Iterable[tuple[int, Mapping[str, float]]]
"""Figures of parts that have passed, in their order: (part, figures)."""


@dataclass
class Windows:
    """The windows of one length.

    Attributes:
        counts, squares: how many levels and steps have been seen, and the sums of their squares; a level is the mean of
            a window, a step the difference from the mean of the two windows before it.
        sums: sums over the last quarters of windows, at most twelve.
        starts: the last part before each of the last four.
        open: sum over the quarter that is being filled.
    """

    counts: list[int] = field(default_factory=lambda: [0, 0])
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    sums: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    open: float = 0.0

    def found(self, length: int) -> list[float]:
        """The level, and the step, of the last window; empty, or without a step, while there are too few parts."""
        if len(self.sums) < 4:
            return []
        level = sum(self.sums[-4:]) / length
        return [level] if len(self.sums) < 12 else [level, level - sum(self.sums[:8]) / (2 * length)]


@dataclass
class Chart:
    """One figure.

    Attributes:
        values: sorted figures of the parts that it is held against.
        starts: parts up to the last of these no longer count; the former ones are those of earlier charts.
        seen: parts since then, those of the set included.
        tested: parts since then that were tested.
        windows: for each of LENGTHS.
        limits: of levels and steps of windows, for each of LENGTHS, as they were the last times.
        last, squares, products: the last number, and the sums of all squares and of products of neighbours.
        accepted: how far from 0 the mean of a window may lie because a person has called such a change usual.
        after, rising: the last part before the change that was found last, and its direction.
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
        """Parts up to this one no longer count."""
        return self.starts[-1]

    @property
    def taught(self) -> bool:
        """Whether the figures of the set count: until the first change."""
        return len(self.starts) == 1

    def learn(self, value: float) -> float:
        """Takes a figure; returns it as a standard normal number by its rank among those before."""
        z = self.rank(value)
        if len(self.values) < MOST:
            bisect.insort(self.values, value)
        self.seen += 1
        return z

    def rank(self, value: float) -> float:
        """A figure as a standard normal number by its rank among those that are known."""
        less, equal = bisect.bisect_left(self.values, value), bisect.bisect_right(self.values, value)
        # ties are broken at random, and the same way if the part comes again after a crash
        share = random.Random(self.seen).random()
        rank = (less + share * (1 + equal - less)) / (1 + len(self.values))
        return float(special.ndtri(min(max(rank, 1e-12), 1 - 1e-12)))

    def test(self, z: float, part: int, chance: float) -> bool:
        """Adds a number to the windows; returns whether one of them shows a change.

        Args:
            z: of `learn`.
            part: its part.
            chance: of a false alarm at this part, at most.
        """
        self.squares += z * z
        self.products += z * self.last
        self.last = z
        self.tested += 1
        if (self.tested - 1) % LAG == 0:
            self.limits = [*self.limits[-2:], self.limits_now(chance)]
        greatest = 1.0
        for place, (length, windows) in enumerate(zip(LENGTHS, self.windows)):
            quarter = length // 4
            if (self.tested - 1) % quarter == 0:
                windows.starts = [*windows.starts[-3:], part - 1]
            windows.open += z
            if self.tested % quarter:
                continue
            windows.sums = [*windows.sums[-11:], windows.open]
            windows.open = 0.0
            for kind, value in enumerate(windows.found(length)):
                beyond = (abs(value) - self.accepted) / self.limits[0][place][kind]
                if kind == 0 and length >= CERTAIN_PARTS:
                    beyond = max(beyond, abs(value) / max(CERTAIN, self.accepted + MARGIN))
                if beyond > greatest:
                    greatest, self.after, self.rising = beyond, windows.starts[0], value > 0
                if not self.tested % length:
                    windows.counts[kind] += 1
                    windows.squares[kind] += value * value
        return greatest > 1.0

    def limits_now(self, chance: float) -> list[list[float]]:
        """What level and step of a window of each length exceed with this chance a part, all together."""
        correlation = min(max(self.products / (self.squares + DAMPING), 0.0), 0.95)
        limits: list[list[float]] = []
        variances: list[float] = []
        formerly = [1.0, 1.0]
        for length, windows in zip(LENGTHS, self.windows):
            level = _of_means(length, correlation)
            usual = [level, level + _of_means(2 * length, correlation)]
            prior = prior_windows(length)
            # what shorter windows vary more than they should, longer ones do too
            factors = [known / expected for known, expected in zip(variances, formerly)] or [1.0, 1.0]
            variances = [
                (squares + prior * factor * expected) / (count + prior)
                for squares, factor, expected, count in zip(windows.squares, factors, usual, windows.counts)
            ]
            formerly = usual
            share = min(chance * (length // 4) / (2 * len(LENGTHS)), 1.0)
            limits.append([
                float(-special.stdtrit(count + prior, share / 2)) * variance**0.5
                for count, variance in zip(windows.counts, variances)
            ])  # fmt: skip
        return limits

    def anew(self, values: Iterable[float], starts: list[int]) -> "Chart":
        """A chart of other parts, which knows how much this one's figure usually varies."""
        own = sorted(values)
        windows = [Windows(list(known.counts), list(known.squares)) for known in self.windows]
        return Chart(
            array("d", own),
            starts,
            len(own),
            0,
            windows,
            list(self.limits),
            0.0,
            self.squares,
            self.products,
            self.accepted,
            starts[-1],
        )

    def state(self) -> dict[str, Any]:
        """For the ledger, in whose rows the figures themselves stand."""
        names = ("starts", "seen", "tested", "limits", "last", "squares", "products", "accepted", "after", "rising")
        windows = [[w.counts, w.squares, w.sums, w.starts, w.open] for w in self.windows]
        return {name: getattr(self, name) for name in names} | {"windows": windows}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Chart":
        """What `state` gave, without figures; a new chart where it is empty."""
        if not state:
            return cls()
        values = copy.deepcopy(dict(state))
        return cls(windows=[Windows(*kept) for kept in values.pop("windows")], **values)


class Drift:
    """The charts of a line.

    Args:
        figures: names of what is watched.
        mean_run: parts between two false alarms on average, or more, of all charts together.
        taught: figures of the set that made the bank, by name; figures without are learnt from the line alone.
        state: what an earlier start has left, of `state`.
        passed: figures of the parts that have passed since.
    """

    def __init__(
        self,
        figures: Iterable[str],
        mean_run: float,
        taught: Mapping[str, Iterable[float]],
        state: Mapping[str, Any] | None = None,
        passed: Passed = (),
    ):
        self._taught = {name: [float(value) for value in values] for name, values in taught.items()}
        self.charts = {name: Chart.of((state or {}).get(name, {})) for name in figures}
        self._chance = 1 / (SAFETY * mean_run * max(len(self.charts), 1))
        for name, chart in self.charts.items():
            if chart.taught:
                before, chart.seen = chart.seen, 0
                for value in self._taught.get(name, ()):
                    chart.learn(value)
                chart.seen = max(before, chart.seen)
        for part, values in passed:
            for name, chart in self.charts.items():
                if part > chart.start and name in values and len(chart.values) < MOST:
                    bisect.insort(chart.values, values[name])

    def update(self, part: int, values: Mapping[str, float]) -> list[Alarm]:
        """Takes the figures of a part that passes; returns the alarms that it raises."""
        return [
            _alarm(name, chart)
            for name, chart in self.charts.items()
            if name in values and chart.test(chart.learn(values[name]), part, self._chance)
        ]

    def restart(self, subjects: Iterable[str], passed: Passed) -> None:
        """Charts that have raised an alarm begin anew with the parts since the change."""
        parts = list(passed)
        for name in subjects:
            chart = self.charts[name]
            own = [values[name] for part, values in parts if part > chart.after and name in values]
            self.charts[name] = chart.anew(own, [*chart.starts, chart.after])

    def accept(self, subject: str, part: int, passed: Callable[[int], Passed]) -> None:
        """A person has called the change that an alarm tells of usual: it raises none again.

        The parts before it count again, and means of windows may lie as far from usual as those parts do.

        Args:
            subject: the figure.
            part: that has raised the alarm.
            passed: gives the parts after one.
        """
        chart = self.charts.get(subject)
        if chart is None:
            return
        changes = [start for start in chart.starts[1:] if start < part]
        if not changes:
            return
        starts = [start for start in chart.starts if start != changes[-1]]
        parts = [(number, values[subject]) for number, values in passed(starts[-1]) if subject in values]
        own = [value for _, value in parts]
        if len(starts) == 1:
            own += self._taught.get(subject, [])
        new = chart.anew(own[-MOST:], starts)
        changed = [new.rank(value) for number, value in parts if changes[-1] < number <= part]
        if changed:
            new.accepted = max(new.accepted, abs(float(np.mean(changed))))
        self.charts[subject] = new

    def changed_after(self, subject: str) -> int:
        """The last part before the change that a chart has found."""
        return self.charts[subject].after

    def state(self) -> dict[str, Any]:
        """For the ledger."""
        return {name: chart.state() for name, chart in self.charts.items()}


def prior_windows(length: int) -> float:
    """Windows that the prior variance of this length counts for."""
    least, most = PRIOR_WINDOWS
    return min(max(PRIOR_PARTS / length, least), most)


def _of_means(length: int, correlation: float) -> float:
    """Variance of the mean of so many neighbours, each of variance 1, whose correlation falls by a factor a part."""
    if not correlation:
        return 1 / length
    falling = (1 - correlation**length) / (length * (1 - correlation))
    return (1 + 2 * correlation / (1 - correlation) * (1 - falling)) / length


def _alarm(name: str, chart: Chart) -> Alarm:
    what, risen, fallen = WORDS.get(name, (name, "risen", "fallen"))
    moved = risen if chart.rising else fallen
    return Alarm("drift", name, f"The {what} has {moved}; it began after part {chart.after}.")
