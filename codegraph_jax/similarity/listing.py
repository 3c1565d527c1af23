"""Lists of image pairs in little memory: the pairs at any positions are computed when they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class PairListing:
    """Pairs (row, partner), ordered by row; memory grows with the rows and the sequences, not with the pairs.

    Attributes:
        offsets: number of pairs before each row, then the number of all pairs [rows+1].
        begin: index in `partners` of the first partner of each row [rows].
        partners: concatenated sequences of partners.
    """

    offsets: Int[np.ndarray, " rows+1"]
    begin: Int[np.ndarray, " rows"]
    partners: Int[np.ndarray, " f"]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def at(self, positions: Int[np.ndarray, " b"]) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
        """The pairs (row, partner) at some positions of the list."""
        row = np.searchsorted(self.offsets, positions, side="right") - 1
        return row, self.partners[self.begin[row] + positions - self.offsets[row]]


def _list_pairs(
    sequences: Sequence[Int[np.ndarray, " s"]], chosen: Int[np.ndarray, " rows"], start: Int[np.ndarray, " rows"]
) -> PairListing:
    """The pairs of every row with the partners in the sequence chosen for it, from position `start`."""
    lengths = np.array([len(sequence) for sequence in sequences])
    first = np.cumsum(lengths) - lengths
    offsets = np.concatenate([[0], np.cumsum(lengths[chosen] - start)])
    return PairListing(offsets, first[chosen] + start, np.concatenate(sequences))


def pairs_within(n: int, references: Int[np.ndarray, " m"]) -> PairListing:
    """Pairs i < j of n images, at least one of them a reference; `references` are in ascending order."""
    rows = np.arange(n)
    is_reference = np.isin(rows, references)
    start = np.where(is_reference, rows + 1, np.searchsorted(references, rows, side="right"))
    return _list_pairs([rows, references], np.where(is_reference, 0, 1), start)


def pairs_between(
    n: int, m: int, own: Int[np.ndarray, " a"], others: Int[np.ndarray, " b"], parity: int | None = None
) -> PairListing:
    """Pairs of n images with m other images, at least one of them a reference.

    `own` and `others` are the references among both, in ascending order; with a parity, only pairs (i, j) with that i +
    j mod 2 are listed.
    """
    rows, all_others = np.arange(n), np.arange(m)
    kind = np.where(np.isin(rows, own), 0, 1)
    sequences = [all_others, others]
    if parity is not None:
        sequences = [s[s % 2 == odd] for s in sequences for odd in (0, 1)]
        kind = 2 * kind + (rows + parity) % 2
    return _list_pairs(sequences, kind, np.zeros(n, int))


def split(n: int, parts: int) -> Int[np.ndarray, " parts+1"]:
    """Bounds of `parts` contiguous shards of n images; their sizes differ by at most one."""
    return np.arange(parts + 1) * n // parts


def pairs_of_shards(
    own: tuple[int, int], other: tuple[int, int], references: Int[np.ndarray, " m"], parity: int | None = None
) -> PairListing:
    """Pairs of images of two shards, or of one shard with itself, at least one of them a reference.

    Shards are ranges (start, stop); the pairs contain indices in their shards. For the parity see `pairs_between`.
    """
    (n, own_references), (m, other_references) = (
        (stop - start, references[(start <= references) & (references < stop)] - start) for start, stop in (own, other)
    )
    if own == other:
        return pairs_within(n, own_references)
    return pairs_between(n, m, own_references, other_references, parity)
