"""Detects defects that recur on several parts of a line, such as a tool mark or a worn mould [ours].

A peak patch y has a distance s(y) to the normal patches. Peak patches y and z of two parts with the same defect are
much nearer to each other than to the normal patches: |y - z| / sqrt(s(y) s(z)) is about 0.7, and above 1 for different
defects (benchmarks/log/line.md, "Recurrence on a line"). Two parts are linked if this ratio is below a limit for their
most similar patches, and linked parts form groups.

Some parts are linked by chance, and groups by chance become more frequent with the number of parts. If two of M parts
are linked with probability q, the expected number of groups of m parts by chance is

    C(M, m) m^(m - 2) q^(m - 1)

(trees over m of M parts; Cayley's formula). On a texture, links are not independent: a linked part is more likely to
have further links. Every link of a tree but the first is therefore counted with r, the probability of a further link of
a linked part, instead of q. Both are estimated on the line, from all pairs outside the group in question and outside
announced groups. A group is announced if the expected number of groups of its size is below its share of
`MAX_CHANCE_GROUPS`: half for the smallest size, a quarter for the next, and so on, so that all tests together stay
below it. Until the line has as many pairs as the prior, a group needs one more part. A line with many links by chance
thus needs larger groups, without any setting for the product.

The caller removes peak patches that are similar to those of unflagged parts of the bank's set.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from scipy import special

from codegraph_jax.bank.peak_patches import PeakPatches
from codegraph_jax.line.part import Alarm, operator_sentence

LIMITS = (0.6, 0.7, 0.8)
"""Limits of the ratio for a link; all are tried."""
MAX_CHANCE_GROUPS = 0.05
"""Expected number of groups by chance among the parts of a window, over all tests."""
PRIOR_PAIRS = 1000
"""Size of the prior on q: this many pairs of parts, one of them linked. The line itself may have no other peak patches.
Most data sets have about this share of links; MVTec bottle, whose defects are similar, has ten times as many."""
PRIOR_FURTHER = 100
"""Size of the prior on r: this many pairs of a linked part and another part, linked with probability q."""
WINDOW_PARTS = 2000
"""Number of parts that are searched."""
MIN_GROUP = 3
"""Minimum number of parts in a group."""


def expected_groups(
    part_count: int, size: int, link_probability: float, further_link_probability: float = 0.0
) -> float:
    """Expected number of groups by chance.

    Args:
        part_count: number of parts.
        size: number of parts in a group.
        link_probability: probability that two parts are linked.
        further_link_probability: probability that a linked part is linked to another part, if it is greater.
    """
    if part_count < size:
        return 0.0
    ways = special.gammaln(part_count + 1) - special.gammaln(size + 1) - special.gammaln(part_count - size + 1)
    further = max(link_probability, further_link_probability)
    links = np.log(min(link_probability, 1.0)) + (size - 2) * np.log(min(further, 1.0))
    return float(np.exp(ways + (size - 2) * np.log(size) + links))


class RecurrenceMonitor:
    """Finds groups of parts with similar peak patches.

    Args:
        state: result of `state` from an earlier start.
        parts: (number, peak patches) of the parts of the window, and of accepted ones, in order.

    Attributes:
        accepted: parts of acknowledged alarms, whose peak patches must be kept.
        first_needed: number of the first part of the window; of earlier parts, only the `accepted` ones are needed.
    """

    def __init__(self, state: Mapping[str, Any] | None = None, parts: Iterable[tuple[int, PeakPatches]] = ()):
        state = state or {}
        self._parts: deque[tuple[int, PeakPatches]] = deque()
        self._links = nx.Graph()
        self._announced: set[int] = set(state.get("announced", ()))
        self._parts_by_defect: dict[str, list[int]] = dict(state.get("parts_by_defect", {}))
        self.accepted: set[int] = set(state.get("accepted", ()))
        self._accepted_defects: set[str] = set(state.get("accepted_defects", ()))
        self.first_needed = 0
        kept = list(parts)
        self._accepted_peaks = [peaks for number, peaks in kept if number in self.accepted]
        self._add_all((number, peaks) for number, peaks in kept if number not in self.accepted)

    def update(self, number: int, peaks: PeakPatches, defect_names: Sequence[str] = ()) -> list[Alarm]:
        """Adds a part; returns the alarms.

        Args:
            number: number of the part.
            peaks: peak patches that show no pattern of the bank; may be empty.
            defect_names: names of the bank's defects that were found on the part.
        """
        # not the first part with unknown peak patches: there may be none
        self.first_needed = number - WINDOW_PARTS + 1
        self._forget_earlier()
        alarms = []
        for name in defect_names:
            seen = [*(p for p in self._parts_by_defect.get(name, ()) if p > number - WINDOW_PARTS), number]
            self._parts_by_defect[name] = seen
            if len(seen) == MIN_GROUP and name not in self._accepted_defects:
                numbers = ", ".join(map(str, seen))
                message = operator_sentence("back", name=name, count=len(seen), numbers=numbers)
                alarms.append(Alarm("recurrence", name, message, tuple(seen[:-1])))
        peaks = self._unknown(peaks)
        if not len(peaks.scores):
            return alarms
        self._add(number, peaks)
        group = self._group(number)
        if group and not self._announced & group:
            members = tuple(sorted(group - {number}))
            message = operator_sentence("same_way", count=len(group), part=min(group))
            alarms.append(Alarm("recurrence", f"group of part {min(group)}", message, members))
        if group:
            self._announced |= group
        return alarms

    def accept(self, subject: str, parts: Iterable[int]) -> None:
        """Accepts the subject of an acknowledged alarm: further parts raise no alarm for it.

        Args:
            subject: subject of the alarm; a defect of this name is not announced again.
            parts: parts of the alarm; their peak patches must stay in the ledger.
        """
        if subject in self._parts_by_defect:
            self._accepted_defects.add(subject)
            return
        accepted = set(parts)
        former, self.accepted = list(self._parts), self.accepted | accepted
        self._announced -= accepted
        self._parts.clear()
        self._links.clear()
        self._accepted_peaks += [peaks for number, peaks in former if number in accepted]
        self._add_all((number, peaks) for number, peaks in former if number not in accepted)

    def state(self) -> dict[str, Any]:
        """State for the ledger, which stores the peak patches separately."""
        return {
            "announced": sorted(self._announced),
            "parts_by_defect": self._parts_by_defect,
            "accepted": sorted(self.accepted),
            "accepted_defects": sorted(self._accepted_defects),
        }

    def _add_all(self, parts: Iterable[tuple[int, PeakPatches]]) -> None:
        for number, peaks in parts:
            if len(unknown := self._unknown(peaks)):
                self._add(number, unknown)

    def _unknown(self, peaks: PeakPatches) -> PeakPatches:
        """Peak patches that are unlike those of accepted parts."""
        for known in self._accepted_peaks:
            peaks = peaks.without_similar(known, LIMITS[-1])
        return peaks

    def _group(self, number: int) -> set[int]:
        """The group of this part that is unlikely to be chance; empty if there is none."""
        best: set[int] = set()
        for limit in LIMITS:
            group = self._connected(number, limit)
            if len(group) < MIN_GROUP or len(group) <= len(best):
                continue
            share = MAX_CHANCE_GROUPS / 2 ** (len(group) - MIN_GROUP + 1)
            if group & self._announced or len(LIMITS) * self._by_chance(limit, group) <= share:
                best = group
        return best

    def _connected(self, number: int, limit: float) -> set[int]:
        """Parts that are connected to this one by links below a limit."""
        near = nx.subgraph_view(self._links, filter_edge=lambda a, b: self._links[a][b]["ratio"] <= limit)
        connected: set[int] = nx.node_connected_component(near, number)
        return connected

    def _by_chance(self, limit: float, group: set[int]) -> float:
        """Expected number of groups of this size by chance, estimated without this group and announced groups."""
        within = (group, self._announced & {number for number, _ in self._parts})
        degrees = [
            sum(link["ratio"] <= limit and not any(number in one and other in one for one in within)
                for other, link in others.items())
            for number, others in self._links.adjacency()
        ]  # fmt: skip
        count, links = len(self._parts), sum(degrees) / 2
        pairs = math.comb(count, 2) - sum(math.comb(len(one), 2) for one in within)
        if pairs < PRIOR_PAIRS and len(group) <= MIN_GROUP:
            return math.inf
        probability = (links + 1) / (pairs + PRIOR_PAIRS)
        # number of pairs of links with a common part
        chains = sum(math.comb(degree, 2) for degree in degrees)
        further = (chains + PRIOR_FURTHER * probability) / (links * max(count - 2, 0) + PRIOR_FURTHER)
        return expected_groups(count, len(group), probability, further)

    def _add(self, number: int, peaks: PeakPatches) -> None:
        self._links.add_node(number)
        if self._parts:
            vectors = np.concatenate([other.vectors for _, other in self._parts])
            scores = np.concatenate([other.scores for _, other in self._parts])
            ratios = peaks.distance_ratios(PeakPatches(vectors, scores)).min(axis=0)
            starts = np.cumsum([0, *(len(other.scores) for _, other in self._parts)])[:-1]
            nearest = np.minimum.reduceat(ratios, starts)
            for i in np.flatnonzero(nearest <= LIMITS[-1]):
                self._links.add_edge(number, self._parts[int(i)][0], ratio=float(nearest[i]))
        self._parts.append((number, peaks))

    def _forget_earlier(self) -> None:
        """Removes the parts before the window."""
        while self._parts and self._parts[0][0] < self.first_needed:
            number, _ = self._parts.popleft()
            self._links.remove_nodes_from([number])
            self._announced.discard(number)
