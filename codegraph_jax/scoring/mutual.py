"""Mutual scoring (MuSc, arXiv:2401.16753, section 3.3; docs/method.md section 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import PatchScore
from codegraph_jax.similarity.references import choose_references, neighbour_count


def mean_over_layers(scores: Sequence[Float[np.ndarray, "r n p"]]) -> Float[np.ndarray, "n p"]:
    """Mutual scores averaged over layers and degrees."""
    total = np.zeros(scores[0].shape[1:], np.float64)
    for layer in scores:
        total += layer.mean(axis=0)
    return (total / len(scores)).astype(np.float32)


class ReferenceSubset(NamedTuple):
    """References that a score uses, by their columns in the tables of a comparison; k of them are averaged."""

    columns: Int[np.ndarray, " c"]
    k: int

    @classmethod
    def of(cls, comparison: Comparison, fraction: float, wanted: int = 0) -> "ReferenceSubset":
        """All references of a comparison, or `wanted` of them, chosen by content; k is a fraction of their number."""
        columns = choose_references([comparison.features.keys[i] for i in comparison.references], wanted)
        return cls(columns, neighbour_count(len(columns), fraction))


def subset_scores(
    comparison: Comparison, subset: ReferenceSubset, patch_score: PatchScore | None = None
) -> list[Float[np.ndarray, "r n p"]]:
    """Mutual scores, or other scores, of each layer by the references of a subset."""
    return comparison.tables.scores(subset.k, subset.columns, patch_score)
