"""Which references score together, and mutual scores by them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.scoring.mutual import neighbour_count
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.pairwise import choose_references


class ReferenceSubset(NamedTuple):
    """References that score together.

    Attributes:
        columns: their places in the tables of a comparison, in ascending order [c].
        k: neighbours that a score averages.
    """

    columns: Int[np.ndarray, " c"]
    k: int

    @classmethod
    def of(cls, comparison: Comparison, fraction: float, wanted: int = 0) -> "ReferenceSubset":
        """All references of a comparison, or `wanted` of them by their content; k is a share of how many they are."""
        columns = choose_references([comparison.features.keys[i] for i in comparison.references], wanted)
        return cls(columns, neighbour_count(len(columns), fraction))


def subset_scores(comparison: Comparison, subset: ReferenceSubset) -> list[Float[np.ndarray, "r n p"]]:
    """Mutual scores by the references of a subset, layer by layer."""
    return comparison.tables.scores(subset.k, subset.columns, comparison.barred)
