"""Link statistics to compare with the burnout test: the endurance ratio d(k) / d(omega), also in a weighted form."""

from functools import partial

import numpy as np
from jaxtyping import Float

from codegraph_jax.consistency.links import LinkFinder, Links, burnout_links
from codegraph_jax.scoring.distances import Distances
from codegraph_jax.scoring.host_block import MIN_DISTANCE
from codegraph_jax.similarity.valid import finite_values

LINKS_KEPT = 4000
"""Links per image that are kept, since ratios have no level that limits them."""


def ratio_links(distances: Distances, windows: list[int], weighted: bool) -> Links:
    """Links by the ratio d(k) / d(omega) in the middle window [paper, arXiv:2510.10456], or its weighted form [ours].

    Arguments as for `consistency.links.LinkFinder`.
    """
    window = windows[len(windows) // 2]
    ends = distances.smallest([window])[:, 0]
    typical = float(np.median(finite_values(ends)))

    def links_of(i: int, columns: Float[np.ndarray, "p m"]) -> Links:
        order = np.argsort(columns, axis=1, kind="stable")[:, : window - 1]
        near = np.maximum(np.take_along_axis(columns, order, axis=1), MIN_DISTANCE)
        end = np.maximum(ends[i], MIN_DISTANCE)[:, None]
        value = near / end
        if weighted:
            value *= np.sqrt(typical / end)
        # neither patches that are not inspected nor patches with fewer references than the window
        value[~((ends[i] >= 0) & np.isfinite(ends[i]))] = np.inf
        best = np.argsort(value, axis=None, kind="stable")[:LINKS_KEPT]
        best = best[np.isfinite(value.ravel()[best])]
        patch, rank = np.divmod(best, window - 1)
        return Links(np.full(len(best), i), patch, distances.references[order[patch, rank]], value[patch, rank])

    everything = np.ones(distances.shape[::2], bool)
    return Links.joined(distances.each(everything, lambda i, patches, columns: links_of(i, columns)))


STATISTICS: dict[str, LinkFinder] = {
    "f_test": burnout_links,
    "weighted": partial(ratio_links, weighted=True),
    "endurance": partial(ratio_links, weighted=False),
}
"""The function that finds links, by the statistic that ranks them; `f_test` is the burnout test."""
