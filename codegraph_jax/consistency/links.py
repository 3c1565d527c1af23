"""Suspicious links: patches that are close to a few images and far from all others (docs/method.md section 4.2).

Sort the distances of a patch to the references, d(1) <= d(2) <= ... For a normal patch they grow slowly and steadily.
For a patch of a recurring defect they are small for the images with the same defect and then jump: a burnout.

[paper] arXiv:2510.10456 names the neighbour-burnout, the endurance ratio d(k) / d(omega) and the extreme-value law:
i ln(d(i+1) / d(i)) of a normal patch are exponential with one rate, its tail index.
[ours] All quantitative rules. The law gives an exact F test without a tail index. Several windows let the burnout be at
any rank; a patch links to the images before its burnout only; and its distances after the burnout must be large, since
photos of the same part are close to each other in normal patches too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float, Int

from codegraph_jax.scoring.distances import Distances
from codegraph_jax.scoring.host_block import MAX_DISTANCE, MIN_DISTANCE
from codegraph_jax.similarity.valid import finite_values

MAX_LINK_P_VALUE = 1e-4
"""Largest p-value of a burnout that gives links [ours: it only limits the links; communities are tested]."""

WINDOWS = (0.25, 0.5, 0.95)
"""Window sizes of the burnout test, as shares of the references [ours: a group of g images needs a window of 2 g
references, so the largest window finds groups of up to half its size]."""

ANOMALY_QUANTILE = 0.95
"""Quantile of d(omega) over the set that a patch must exceed [ours: a patch that is similar to all non-members of its
group is not anomalous]."""

SMALLEST_WINDOW = 8
"""Least number of references in a window [ours: half of fewer has too few spacings]."""

COVERAGE = 0.95
"""Share of the images that the selected links must touch [paper, by name; value ours]."""

SLACK = 0.99
"""Factor on the limits of a device, which sums in float32, so that it rules out no patch that the host would accept."""


@dataclass(frozen=True)
class Links:
    """Links, the most suspicious first: patch `patch` of image `image` is close to image `target`.

    The smaller the `statistic`, the more suspicious; for the F test it is a p-value.
    """

    image: Int[np.ndarray, " l"]
    patch: Int[np.ndarray, " l"]
    target: Int[np.ndarray, " l"]
    statistic: Float[np.ndarray, " l"]

    def __len__(self) -> int:
        return len(self.statistic)

    def select(self, rows: np.ndarray | slice) -> "Links":
        """The links at some indices."""
        return Links(self.image[rows], self.patch[rows], self.target[rows], self.statistic[rows])

    @staticmethod
    def joined(parts: Iterable["Links"]) -> "Links":
        """All links of `parts`, sorted by statistic; ties by image, patch and target."""
        columns = zip(*((p.image, p.patch, p.target, p.statistic) for p in parts))
        image, patch, target, statistic = (np.concatenate(column) for column in columns)
        return Links(image, patch, target, statistic).select(np.lexsort((target, patch, image, statistic)))


LinkFinder = Callable[[Distances, list[int]], Links]
"""Finds links by the distances [n, m, p] of a set and the sizes of windows.

`burnout_links` is ours; studies/link_ratios.py has others, such as by the paper's ratio d(k) / d(omega).
"""


def log_spacings(ordered: Float[np.ndarray, "p m"]) -> Float[np.ndarray, "p m-1"]:
    """E_i = i ln(d(i+1) / d(i)), i = 1 ... m-1, of distances in ascending order; exponential for normal patches."""
    logarithms = np.log(np.maximum(ordered, MIN_DISTANCE), dtype=np.float64)
    return np.diff(logarithms, axis=1) * np.arange(1, ordered.shape[1])


def burnout_test(spacings: Float[np.ndarray, "p m"], window: int) -> Float[np.ndarray, "p k"]:
    """p-value of a burnout between the k-th and the k0-th nearest image, for k = 1 ... k0 = window // 2.

    By the law the spacings (`log_spacings`) are independent and exponential with one rate, so the ratio of the means of
    two disjoint ranges has an F distribution: E_k ... E_k0, which a burnout makes large, over E_k0+1 ... E_window-1.
    """
    middle = window // 2
    total = np.cumsum(spacings[:, : window - 1], axis=1)
    before = np.pad(total[:, : middle - 1], ((0, 0), (1, 0)))
    count = middle - np.arange(middle)
    lower = (total[:, middle - 1 : middle] - before) / count
    upper = (total[:, -1] - total[:, middle - 1]) / (window - 1 - middle)
    ratio = lower / np.maximum(upper, 1e-12)[:, None]
    return scipy.special.fdtrc(2.0 * count[None, :], 2.0 * (window - 1 - middle), ratio)


def window_sizes(reference_count: int, fractions: tuple[float, ...] = WINDOWS) -> list[int]:
    """Distinct sizes omega of windows among `reference_count` other images, ascending; small windows are left out."""
    # the test needs d(omega), so a window ends before the last reference
    sizes = {min(int(fraction * reference_count), reference_count - 1) for fraction in fractions}
    return sorted(size for size in sizes if size >= SMALLEST_WINDOW)


def select_by_coverage(links: Links, image_count: int, coverage: float = COVERAGE) -> Links:
    """The most suspicious links that together touch a share of the images [paper, by name; the rule is ours]."""
    touched = np.full(image_count, len(links))
    for ends in (links.image, links.target):
        np.minimum.at(touched, ends, np.arange(len(links)))
    needed = int(np.ceil(coverage * image_count))
    last = np.sort(touched)[needed - 1] if needed else 0
    return links.select(slice(0, int(last) + 1))


def burnout_links(distances: Distances, windows: list[int]) -> Links:
    """Links of patches whose p-value is below `MAX_LINK_P_VALUE`."""
    beyond = distances.smallest(windows)
    # one limit per window: the quantile of d(omega) over all patches of the set
    limits = [np.quantile(finite_values(beyond[:, k]), ANOMALY_QUANTILE) for k in range(len(windows))]
    outstanding = (beyond >= np.array(limits)[:, None]) & np.isfinite(beyond)

    # many patches stand out and few burn out; a device rules out most of them, which saves transfers to the host
    min_ratios = [_min_ratios(window, MAX_LINK_P_VALUE / len(windows)) for window in windows]
    candidates = outstanding & distances.candidates(windows, min_ratios)

    def links_of(i: int, patches: Int[np.ndarray, " e"], columns: Float[np.ndarray, "e m"]) -> Links:
        order = np.argsort(columns, axis=1, kind="stable")[:, : windows[-1]]
        # with a radius some distances are infinite; windows that include them are excluded by `outstanding`
        spacings = log_spacings(np.minimum(np.take_along_axis(columns, order, axis=1), MAX_DISTANCE))
        best, link_counts = np.ones(len(patches)), np.zeros(len(patches), int)
        for k, window in enumerate(windows):
            p_values = burnout_test(spacings, window)
            at = p_values.argmin(axis=1)
            # Bonferroni correction for the windows
            p_value = np.minimum(p_values[np.arange(len(at)), at] * len(windows), 1.0)
            better = outstanding[i][k, patches] & (p_value < best)
            best, link_counts = np.where(better, p_value, best), np.where(better, at + 1, link_counts)
        linked = np.flatnonzero(best < MAX_LINK_P_VALUE)
        row = np.repeat(linked, link_counts[linked])
        rank = np.concatenate([np.arange(k) for k in link_counts[linked]]) if len(linked) else row
        return Links(np.full(len(row), i), patches[row], distances.references[order[row, rank]], best[row])

    return Links.joined(distances.each(candidates.any(axis=1), links_of))


def find_links(distances: Distances, link_finder: LinkFinder) -> Links:
    """Links of the patches of a set, the most suspicious first."""
    windows = window_sizes(int(distances.usable().sum(axis=1).min()))
    if not windows:
        return Links(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    return link_finder(distances, windows)


def _min_ratios(window: int, p_value: float) -> Float[np.ndarray, " k"]:
    """Ratios of spacings with this p-value, for k = 1 ... window // 2, reduced by `SLACK`."""
    middle = window // 2
    return SLACK * scipy.special.fdtri(2.0 * (middle - np.arange(middle)), 2.0 * (window - 1 - middle), 1 - p_value)
