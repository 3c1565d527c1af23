"""The reference images of a set: their choice, their columns in tables, and the number that a score averages."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


def choose_references(keys: Sequence[bytes], limit: int | None) -> Int[np.ndarray, " m"]:
    """Indices of the reference images, in ascending order: at most `limit` images, or all (None).

    The sample is pseudo-random but depends only on the images' content (`data.batches.image_key`), not on their order,
    so that everything that alternates in a listing (views, cameras, shifts) is represented.
    """
    n = len(keys)
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.array(by_content(range(n), keys)[:limit], np.int64))


def by_content(images: Iterable[int], keys: Sequence[bytes]) -> list[int]:
    """Indices of images, sorted by their keys, so that results do not depend on the order of a listing."""
    return sorted(images, key=lambda i: keys[i])


def reference_columns(n: int, references: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """For each of n images its index among the references, or -1 if it is not a reference."""
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    return column


def pair_count(n: int, reference_count: int) -> int:
    """Number of pairs of n images that contain at least one reference."""
    return reference_count * (reference_count - 1) // 2 + reference_count * (n - reference_count)


def neighbour_count(reference_count: int, fraction: float) -> int:
    """Number of nearest references that a score averages: max(1, int(fraction * (references - 1))).

    MuSc's rule, without the maximum, gives 0 neighbours and a score of NaN for sets of fewer than five images.
    """
    return max(1, int(fraction * (reference_count - 1)))


class ReferenceSubset(NamedTuple):
    """References that a score uses, by their columns in the tables of a comparison; k of them are averaged."""

    columns: Int[np.ndarray, " c"]
    k: int

    @classmethod
    def of(cls, keys: Sequence[bytes], fraction: float, limit: int | None = None) -> "ReferenceSubset":
        """At most `limit` of the references with these keys, or all; k is a fraction of their number."""
        columns = choose_references(keys, limit)
        return cls(columns, neighbour_count(len(columns), fraction))
