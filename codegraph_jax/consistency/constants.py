"""Constants of the search for recurring defects, with their sources (docs/method.md section 4).

They are not settings; studies and tests that vary them pass their own `MethodConstants`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodConstants:
    """Constants of links, graph and communities.

    Attributes:
        link_finder: function that finds links instead of the burnout test [ours: exact, needs no tail index], such as
            by the paper's ratio d(k) / d(omega) (studies/link_ratios.py).
        max_link_p_value: largest p-value of a burnout that gives links [ours: it only limits the links; communities are
            tested].
        significance: probability of a community in a set without recurring patterns [ours: the usual 1%]; greater if
            images are similar to each other.
        windows: window sizes of the burnout test, as shares of the references [ours: a group of g images needs a window
            of 2 g references, so the largest window finds groups of up to half its size].
        anomaly_quantile: quantile of d(omega) over the set that a patch must exceed [ours: a patch that is similar to
            all images outside its group is not anomalous].
        smallest_window: least number of references in a window [ours: half of fewer has too few spacings].
        coverage: share of the images that the selected links must touch [paper, by name; value ours].
        resolution: least resolution of the constant Potts model: mean number of links between two members [paper, by
            name; value ours].
        permutations: number of shuffled graphs in the test of communities [ours: p-values in steps of 1 in 200].
    """

    link_finder: Callable[..., Any] | None = None
    max_link_p_value: float = 1e-4
    significance: float = 0.01
    windows: tuple[float, ...] = (0.25, 0.5, 0.95)
    anomaly_quantile: float = 0.95
    smallest_window: int = 8
    coverage: float = 0.95
    resolution: float = 0.5
    permutations: int = 199


CONSTANTS = MethodConstants()
"""The default constants."""
