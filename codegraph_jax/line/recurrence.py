"""Whether parts of a line stand out in the same way, one after the other: a tool mark, a worn mould. [ours]

A patch that stands out has a distance s to all that is normal. Patches y and z of two parts that show the same thing
are much nearer to each other than either is to normality: |y - z| / sqrt(s(y) s(z)) is about 0.7, and between unlike
things above 1 (benchmarks/log/line.md, "Recurrence on a line"). Two parts are linked where their most alike patches
lie below a limit, and linked parts form groups.

Unlike parts are linked by chance now and then, and the more parts there are, the more groups chance makes. Among M
parts of which two are linked with probability q, chance makes

    C(M, m) m^(m - 2) q^(m - 1)

groups of m on average (trees over m of M parts; Cayley's formula). Links of a texture are not spread so evenly: a part
that is linked once is linked to others more easily. So each link of a tree but the first counts with the probability r
that a linked part has a further link, instead of q. Both are counted in the line itself, among all pairs but those of
the group in question and of groups that were announced. A group is announced when chance would make fewer than `CHANCE`
of its size: half of `CHANCE` is for the smallest groups, a quarter for the next size, and so on, so that all looks
together stay below it. Until the line has counted as many pairs as the prior stands for, groups begin with one part
more. So many links by chance ask for larger groups, and nothing about the product has to be known.

What parts of the set show that were not flagged is no news: patches that are like one of those do not come here.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from codegraph_jax.bank.peak_patches import PeakPatches
from codegraph_jax.line.part import Alarm

LIMITS = (0.6, 0.7, 0.8)
"""Below these two patches may be linked; each is tried."""
CHANCE = 0.05
"""Groups that chance may make among the parts of a window, on average, at all looks together."""
PRIOR_PAIRS = 1000
"""Pairs of unlike parts, one of them linked, that count besides those of the line, on which nothing else may stand out:
as few as on most sets at hand (on MVTec's bottle, whose kinds of defects are alike, ten times as many are linked)."""
PRIOR_FURTHER = 100
"""Pairs of a linked part and another one that count besides those of the line; a further link is as likely among them
as among all."""
WINDOW = 2000
"""Parts that are looked back at."""
FEWEST = 3
"""Parts that make a group."""


def expected_groups(parts: int, size: int, chance: float, further: float = 0.0) -> float:
    """Groups that chance makes among some parts, on average.

    Args:
        parts: how many there are.
        size: of the groups.
        chance: probability that two are linked.
        further: probability that one that is linked has a link to another given one; at least `chance`.
    """
    if parts < size:
        return 0.0
    ways = special.gammaln(parts + 1) - special.gammaln(size + 1) - special.gammaln(parts - size + 1)
    links = np.log(min(chance, 1.0)) + (size - 2) * np.log(min(max(chance, further), 1.0))
    return float(np.exp(ways + (size - 2) * np.log(size) + links))


class Recurrence:
    """Groups among the parts of a line that stand out.

    Args:
        state: what an earlier start has left, of `state`.
        parts: (part, standouts) of the window, in their order.
    """

    def __init__(
        self,
        state: Mapping[str, Any] | None = None,
        parts: Iterable[tuple[int, PeakPatches]] = (),
    ):
        self._parts: deque[tuple[int, PeakPatches]] = deque()
        self._links: dict[int, dict[int, float]] = {}
        self._announced: set[int] = set((state or {}).get("announced", ()))
        self._named: dict[str, list[int]] = {k: list(v) for k, v in (state or {}).get("named", {}).items()}
        self._usual: set[int] = set((state or {}).get("usual", ()))
        self._quiet: set[str] = set((state or {}).get("quiet", ()))
        kept = list(parts)
        self._known = [standouts for part, standouts in kept if part in self._usual]
        self._add_all((part, standouts) for part, standouts in kept if part not in self._usual)

    def update(self, part: int, standouts: PeakPatches, defects: Sequence[str] = ()) -> list[Alarm]:
        """Takes a part; returns the alarms that it raises.

        Args:
            part: its number.
            standouts: of its patches that show no pattern that the bank knows; may be empty.
            defects: names of the defects that it shows and the bank knows.
        """
        self._forget(part - WINDOW)
        alarms = []
        for name in defects:
            seen = [*(p for p in self._named.get(name, ()) if p > part - WINDOW), part]
            self._named[name] = seen
            if len(seen) == FEWEST and name not in self._quiet:
                alarms.append(
                    Alarm("recurrence", name, f"{name} is back: {len(seen)} of the last {WINDOW:,} parts show it.",
                          tuple(seen[:-1]))
                )  # fmt: skip
        standouts = self._news(standouts)
        if not len(standouts.scores):
            return alarms
        self._add(part, standouts)
        group = self._group(part)
        if group and not self._announced & group:
            members = tuple(sorted(group - {part}))
            alarms.append(
                Alarm("recurrence", f"group of part {min(group)}",
                      f"{len(group)} parts stand out in the same way, the first of them part {min(group)}.", members)
            )  # fmt: skip
        if group:
            self._announced |= group
        return alarms

    def accept(self, subject: str, parts: Iterable[int]) -> None:
        """A person has called what an alarm tells of usual: other parts that show it raise none.

        Args:
            subject: of the alarm; a defect of this name is announced no more.
            parts: that show it; what stands out in them must stay in the ledger.
        """
        if subject in self._named:
            self._quiet.add(subject)
            return
        own = set(parts)
        former, self._usual = list(self._parts), self._usual | own
        self._announced -= own
        self._parts.clear()
        self._links.clear()
        self._known += [standouts for part, standouts in former if part in own]
        self._add_all((part, standouts) for part, standouts in former if part not in own)

    @property
    def usual(self) -> set[int]:
        """Parts whose standouts are needed for good."""
        return set(self._usual)

    def state(self) -> dict[str, Any]:
        """For the ledger; what stands out in the parts is kept there by itself."""
        return {
            "announced": sorted(self._announced),
            "named": self._named,
            "usual": sorted(self._usual),
            "quiet": sorted(self._quiet),
        }

    def _add_all(self, parts: Iterable[tuple[int, PeakPatches]]) -> None:
        for part, standouts in parts:
            if len(news := self._news(standouts)):
                self._add(part, news)

    def _news(self, standouts: PeakPatches) -> PeakPatches:
        """What is not as usual."""
        for known in self._known:
            standouts = standouts.unlike(known, LIMITS[-1])
        return standouts

    def _group(self, part: int) -> set[int]:
        """The parts that this one forms a group with that chance does not explain; empty without."""
        best: set[int] = set()
        for limit in LIMITS:
            group = self._connected(part, limit)
            if len(group) < FEWEST or len(group) <= len(best):
                continue
            if group & self._announced:
                best = group
                continue
            if len(LIMITS) * self._by_chance(limit, group) <= CHANCE / 2 ** (len(group) - FEWEST + 1):
                best = group
        return best

    def _connected(self, part: int, limit: float) -> set[int]:
        """Parts that links below a limit lead to."""
        group, pending = {part}, [part]
        while pending:
            for other, alike in self._links.get(pending.pop(), {}).items():
                if alike <= limit and other not in group:
                    group.add(other)
                    pending.append(other)
        return group

    def _by_chance(self, limit: float, group: set[int]) -> float:
        """Groups of this size that chance makes, on average; the group and announced ones do not count as chance."""
        within = (group, self._announced & {part for part, _ in self._parts})
        degrees = [
            sum(alike <= limit and not any(part in one and other in one for one in within)
                for other, alike in others.items())
            for part, others in self._links.items()
        ]  # fmt: skip
        count, links = len(self._parts), sum(degrees) / 2
        pairs = math.comb(count, 2) - sum(math.comb(len(one), 2) for one in within)
        if pairs < PRIOR_PAIRS and len(group) <= FEWEST:
            return math.inf
        chance = (links + 1) / (pairs + PRIOR_PAIRS)
        # two links with a part in common, of all pairs of a link and a part that is not in it
        chains = sum(math.comb(degree, 2) for degree in degrees)
        further = (chains + PRIOR_FURTHER * chance) / (links * max(count - 2, 0) + PRIOR_FURTHER)
        return expected_groups(count, len(group), chance, further)

    def _add(self, part: int, standouts: PeakPatches) -> None:
        if self._parts:
            vectors = np.concatenate([other.vectors for _, other in self._parts])
            scores = np.concatenate([other.scores for _, other in self._parts])
            alike = standouts.alikeness(PeakPatches(vectors, scores)).min(axis=0)
            starts = np.cumsum([0, *(len(other.scores) for _, other in self._parts)])[:-1]
            nearest = np.minimum.reduceat(alike, starts)
            own = self._links.setdefault(part, {})
            for place in np.flatnonzero(nearest <= LIMITS[-1]):
                other = self._parts[int(place)][0]
                own[other] = float(nearest[place])
                self._links.setdefault(other, {})[part] = float(nearest[place])
        self._parts.append((part, standouts))

    def _forget(self, before: int) -> None:
        """Parts up to this number no longer count."""
        while self._parts and self._parts[0][0] <= before:
            part, _ = self._parts.popleft()
            for other in self._links.pop(part, {}):
                self._links[other].pop(part, None)
            self._announced.discard(part)
