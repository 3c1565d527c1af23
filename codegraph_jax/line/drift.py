"""Whether a line still is what it was: sequential tests on figures of the parts that pass. [ours]

Each figure of a part is ranked among those of all parts before it. Without change the ranks are independent and
uniform, whatever the law of the figure and from the first part on (sequential ranks: Parent, 1965; McDonald, A CUSUM
procedure based on sequential ranks, 1990). Turned into standard normal numbers they go into two cumulative sums,

    up = max(0, up + z - SLACK),    down = max(0, down - z - SLACK),

and an alarm is raised where one exceeds a limit (Page, Continuous inspection schemes, 1954). The limit follows from the
mean number of parts between false alarms (Siegmund, Sequential Analysis, 1985, chapter 2): it holds for every product,
since nothing about the figures is assumed but that parts come independently. After an alarm a figure begins anew with
the parts since the change, so that one change is one alarm.
"""

import bisect
import random
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize, special

from codegraph_jax.line.part import Alarm

SLACK = 0.5
"""Half of the smallest shift that is looked for, in standard deviations: one standard deviation."""
OVERSHOOT = 1.166
"""By which Siegmund corrects the limit for sums that jump."""
SAFETY = 2.0
"""The limit is set for so many times the run that is asked for: parts of a real line are not quite independent."""
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


def limit_of(mean_run: float) -> float:
    """The limit of one cumulative sum that gives a false alarm in `mean_run` parts on average."""

    def excess(limit: float) -> float:
        b = 2 * SLACK * (limit + OVERSHOOT)
        return float(np.expm1(b) - b - 2 * SLACK**2 * mean_run)

    return float(optimize.brentq(excess, 0.0, 100.0))


@dataclass
class Chart:
    """One figure.

    Attributes:
        values: sorted figures of the parts that it is held against.
        up, down: the two sums.
        since_up, since_down: last part at which each of them was 0: the change is after it.
        start: parts up to this one no longer count.
        taught: whether the figures of the set count.
        seen: parts since then, those of the set included.
    """

    values: "array[float]" = field(default_factory=lambda: array("d"))
    up: float = 0.0
    down: float = 0.0
    since_up: int = 0
    since_down: int = 0
    start: int = 0
    taught: bool = True
    seen: int = 0

    def learn(self, value: float) -> float:
        """Takes a figure; returns it as a standard normal number by its rank among those before."""
        less, equal = bisect.bisect_left(self.values, value), bisect.bisect_right(self.values, value)
        # ties are broken at random, and the same way if the part comes again after a crash
        share = random.Random(self.seen).random()
        rank = (less + share * (1 + equal - less)) / (1 + len(self.values))
        if len(self.values) < MOST:
            self.values.insert(equal, value)
        self.seen += 1
        return float(special.ndtri(min(max(rank, 1e-12), 1 - 1e-12)))

    def state(self) -> dict[str, Any]:
        """For the ledger, in whose rows the figures themselves stand."""
        names = ("up", "down", "since_up", "since_down", "start", "taught", "seen")
        return {name: getattr(self, name) for name in names}

    @property
    def changed_after(self) -> int:
        """The last part before the change that the greater sum tells of."""
        return self.since_up if self.up > self.down else self.since_down

    def test(self, z: float, part: int) -> None:
        """Adds a number to the sums."""
        self.up, self.down = max(0.0, self.up + z - SLACK), max(0.0, self.down - z - SLACK)
        if not self.up:
            self.since_up = part
        if not self.down:
            self.since_down = part


class Drift:
    """The charts of a line.

    Args:
        figures: names of what is watched; each figure has two sums.
        mean_run: parts between two false alarms on average, or more, of all charts together.
        taught: figures of the set that made the bank, by name; figures without are learnt from the line alone.
        state: what an earlier start has left, of `state`.
        passed: figures of the parts that have passed since, in their order: (part, figures).
    """

    def __init__(
        self,
        figures: Iterable[str],
        mean_run: float,
        taught: Mapping[str, Iterable[float]],
        state: Mapping[str, Any] | None = None,
        passed: Iterable[tuple[int, Mapping[str, float]]] = (),
    ):
        self.charts = {name: Chart() for name in figures}
        self.limit = limit_of(SAFETY * mean_run * 2 * len(self.charts))
        for name, chart in self.charts.items():
            kept = (state or {}).get(name, {})
            for key, value in kept.items():
                setattr(chart, key, value)
            if chart.taught:
                before = chart.seen
                chart.seen = 0
                for value in taught.get(name, ()):
                    chart.learn(float(value))
                chart.seen = max(before, chart.seen)
        for part, values in passed:
            for name, chart in self.charts.items():
                if part > chart.start and name in values and len(chart.values) < MOST:
                    bisect.insort(chart.values, values[name])

    def update(self, part: int, values: Mapping[str, float]) -> list[Alarm]:
        """Takes the figures of a part that passes; returns the alarms that it raises."""
        alarms = []
        for name, chart in self.charts.items():
            if name not in values:
                continue
            chart.test(chart.learn(values[name]), part)
            if max(chart.up, chart.down) > self.limit:
                alarms.append(_alarm(name, chart))
        return alarms

    def restart(self, subjects: Iterable[str], passed: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Charts that have raised an alarm begin anew with the parts since the change."""
        parts = list(passed)
        for name in subjects:
            start = self.charts[name].changed_after
            own = sorted(values[name] for part, values in parts if part > start and name in values)
            self.charts[name] = Chart(array("d", own), 0.0, 0.0, start, start, start, False, len(own))

    def changed_after(self, subject: str) -> int:
        """The last part before the change that a chart has found."""
        return self.charts[subject].changed_after

    def state(self) -> dict[str, Any]:
        """For the ledger."""
        return {name: chart.state() for name, chart in self.charts.items()}


def _alarm(name: str, chart: Chart) -> Alarm:
    what, risen, fallen = WORDS.get(name, (name, "risen", "fallen"))
    moved = risen if chart.up > chart.down else fallen
    return Alarm("drift", name, f"The {what} has {moved}; it began after part {chart.changed_after}.")
