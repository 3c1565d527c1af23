"""Lists of image pairs that are too long to be written down: a row for each first image, any stretch by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class PairListing:
    """Pairs (row, partner), row by row; memory grows with the rows and the sequences, not with the pairs.

    Attributes:
        offsets: how many pairs come before each row, and in the end how many there are [rows+1].
        begin: where each row's partners begin in `partners` [rows].
        partners: sequences of partners, one behind the other.
    """

    offsets: Int[np.ndarray, " rows+1"]
    begin: Int[np.ndarray, " rows"]
    partners: Int[np.ndarray, " f"]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def at(self, positions: Int[np.ndarray, " b"]) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
        """The pairs (first, second) at some positions of the list."""
        row = np.searchsorted(self.offsets, positions, side="right") - 1
        return row, self.partners[self.begin[row] + positions - self.offsets[row]]


def list_pairs(
    sequences: Sequence[Int[np.ndarray, " s"]], chosen: Int[np.ndarray, " rows"], start: Int[np.ndarray, " rows"]
) -> PairListing:
    """The pairs of every row with the partners in one of a few sequences.

    Args:
        sequences: of partners.
        chosen: the sequence of each row.
        start: how many of its partners each row leaves out at the beginning.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    first = np.cumsum(lengths) - lengths
    offsets = np.concatenate([[0], np.cumsum(lengths[chosen] - start)])
    return PairListing(offsets, first[chosen] + start, np.concatenate(sequences))


def pairs_within(n: int, serves: Int[np.ndarray, " m"]) -> PairListing:
    """Pairs i < j of n images of which one at least serves as a reference; `serves` ascends."""
    rows = np.arange(n)
    is_reference = np.isin(rows, serves)
    start = np.where(is_reference, rows + 1, np.searchsorted(serves, rows, side="right"))
    return list_pairs([rows, serves], np.where(is_reference, 0, 1), start)


def pairs_between(
    n: int, m: int, serves_left: Int[np.ndarray, " a"], serves_right: Int[np.ndarray, " b"], parity: int | None = None
) -> PairListing:
    """Pairs of n images with m others of which one at least serves as a reference.

    Args:
        n, m: how many images each side has.
        serves_left, serves_right: which of them serve, in ascending order.
        parity: of i + j; None takes the odd and the even ones.
    """
    rows, all_right = np.arange(n), np.arange(m)
    kind = np.where(np.isin(rows, serves_left), 0, 1)
    sequences = [all_right, serves_right]
    if parity is not None:
        sequences = [s[s % 2 == odd] for s in sequences for odd in (0, 1)]
        kind = 2 * kind + (rows + parity) % 2
    return list_pairs(sequences, kind, np.zeros(n, int))


def split(n: int, parts: int) -> Int[np.ndarray, " parts+1"]:
    """Bounds of `parts` contiguous shards of n images whose sizes differ by one at most."""
    return np.arange(parts + 1) * n // parts


def pairs_of_shards(
    own: tuple[int, int], other: tuple[int, int], references: Int[np.ndarray, " m"], parity: int | None = None
) -> PairListing:
    """Places (in the one, in the other) of the pairs of two shards, or of one with itself, that have a reference.

    Args:
        own, other: the images that a shard holds, from the first to before the second.
        references: indices of the images that serve as references.
        parity: see `pairs_between`.
    """
    (length, serves), (others, others_serve) = (
        (stop - start, references[(start <= references) & (references < stop)] - start) for start, stop in (own, other)
    )
    return pairs_within(length, serves) if own == other else pairs_between(length, others, serves, others_serve, parity)
