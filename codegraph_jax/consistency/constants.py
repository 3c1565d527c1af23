"""Constants of the search for recurring defects, each with its source (docs/method.md section 4).

They are not settings: the studies and tests that vary them pass a `MethodConstants` of their own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodConstants:
    """Constants of links, graph and communities.

    Attributes:
        statistic: what makes a link suspicious: `f_test`, the test of a burnout [ours: exact, needs no tail index];
            `endurance`, the ratio d(k) / d(omega) [paper, arXiv:2510.10456]; or `weighted`, its weighted form [ours].
        level: p-value of a patch's burnout below which it gives links [ours: links are only ranked by it, and
            communities are tested].
        significance: chance that a set in which nothing recurs gives a community [ours: the usual 1 %]; more where
            images are similar to each other.
        windows: shares of the references in which a burnout is searched for [ours: a group of g images needs a window
            of 2 g references, so groups of up to half the largest are found].
        standout: quantile of d(omega) over the set that a patch must exceed [ours: a patch that is similar to all
            images beyond its group is not anomalous].
        smallest_window: references in the smallest window [ours: with fewer, neither half holds enough spacings].
        coverage: links are taken in order until they touch this share of the images [paper, by name; value ours].
        links_kept: links of an image that the ratio statistics keep, which have no level [ours: memory].
        resolution: least resolution of the constant Potts model: links that two members have in common on average
            [paper, by name; value ours].
        permutations: shuffled graphs that a community is compared with [ours: p-values in steps of 1 in 200].
    """

    statistic: str = "f_test"
    level: float = 1e-4
    significance: float = 0.01
    windows: tuple[float, ...] = (0.25, 0.5, 0.95)
    standout: float = 0.95
    smallest_window: int = 8
    coverage: float = 0.95
    links_kept: int = 4000
    resolution: float = 0.5
    permutations: int = 199


CONSTANTS = MethodConstants()
"""The constants of every run."""
