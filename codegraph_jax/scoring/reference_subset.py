"""Mutual scores by all or some of the references."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.scoring.mutual import neighbour_count
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import PatchScore
from codegraph_jax.similarity.pairwise import choose_references


class ReferenceSubset(NamedTuple):
    """References that a score uses.

    Attributes:
        columns: their columns in the tables of a comparison, ascending [c].
        k: number of nearest references that a score averages.
    """

    columns: Int[np.ndarray, " c"]
    k: int

    @classmethod
    def of(cls, comparison: Comparison, fraction: float, wanted: int = 0) -> "ReferenceSubset":
        """All references of a comparison, or `wanted` of them, chosen by content; k is a fraction of their number."""
        columns = choose_references([comparison.features.keys[i] for i in comparison.references], wanted)
        return cls(columns, neighbour_count(len(columns), fraction))


def subset_scores(
    comparison: Comparison, subset: ReferenceSubset, score: PatchScore | None = None
) -> list[Float[np.ndarray, "r n p"]]:
    """Mutual scores, or other scores, of each layer by the references of a subset."""
    if score is None:
        return comparison.tables.scores(subset.k, subset.columns, comparison.excluded)
    return comparison.tables.host().scores(subset.k, subset.columns, comparison.excluded, score)
