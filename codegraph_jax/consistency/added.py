"""Images that are judged by a set to which they do not belong: they change nothing of it.

What the set has learnt applies to them: photographs of one and the same part do not vouch for each other, and a patch
that shows a recurring defect is judged by the images outside of its community.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from codegraph_jax.config import ConsistencyConfig
from codegraph_jax.consistency.duplicates import shown_by
from codegraph_jax.consistency.filtering import Dependence, dependences, depends
from codegraph_jax.consistency.stages import mean_distances
from codegraph_jax.core.arrays import at_once


class Newcomers:
    """Images behind the set's own in the tables of distances.

    Attributes:
        flagged: patches that show a recurring defect of the set [b, p].
    """

    def __init__(
        self,
        tables: Sequence[Float[np.ndarray, "r n m p"]],
        own: int,
        references: Int[np.ndarray, " m"],
        communities: Sequence[Sequence[int]],
        k: int,
        config: ConsistencyConfig,
    ):
        """
        Args:
            tables: distances of each layer, all patches in the banks; duplicates are taken out for the newcomers.
            own: the first so many images are the set.
            references: image of each column.
            communities: image indices of each recurring defect of the set.
            k: neighbours that a score averages.
            config: see `ConsistencyConfig`.
        """
        self._own = own
        newcomers = [table[:, own:] for table in tables]
        mean = mean_distances(newcomers)
        leave_out_duplicates(mean, newcomers)
        self._tests: list[Dependence] = []
        if communities:
            of_the_set = mean_distances([table[:, :own] for table in tables])
            self._tests = dependences(of_the_set, references, communities, k, config)
        self._found = recognise(mean, self._tests, k)
        self.flagged = np.any([np.zeros((len(mean), mean.shape[2]), bool), *self._found], axis=0)

    def judge(self, table: Float[np.ndarray, "r n m p"]) -> None:
        """`judge_newcomers` in their rows of a layer's table, whose banks hold no flagged patches any more."""
        judge_newcomers(table[:, self._own :], self._tests, self._found)


def leave_out_duplicates(mean: Float[np.ndarray, "b m p"], tables: Sequence[Float[np.ndarray, "r b m p"]]) -> None:
    """Makes the distances to references that show the same part as a newcomer infinite, in place.

    Args:
        mean: distances of b newcomers, over layers and degrees; all patches in the banks.
        tables: distances of each layer.
    """
    for i, distances in enumerate(mean):
        same = shown_by(distances)
        for table in (mean[None], *tables):
            table[:, i, same] = np.inf


def recognise(mean: Float[np.ndarray, "b m p"], tests: Sequence[Dependence], k: int) -> list[Bool[np.ndarray, "b p"]]:
    """Patches of b newcomers that show the recurring defect of each community."""
    size = at_once(mean[0].nbytes)
    blocks = [mean[start : start + size] for start in range(0, len(mean), size)]
    return [np.concatenate([depends(block, test, k) for block in blocks]) for test in tests]


def judge_newcomers(
    table: Float[np.ndarray, "r b m p"], tests: Sequence[Dependence], found: Sequence[Bool[np.ndarray, "b p"]]
) -> None:
    """Takes the members of a community out of the references of the patches that show its defect, in place."""
    for test, flags in zip(tests, found):
        columns = np.setdiff1d(np.arange(table.shape[2]), test.outside)
        for i, patches in enumerate(flags):
            table[:, i, columns[:, None], np.flatnonzero(patches)[None, :]] = np.inf
