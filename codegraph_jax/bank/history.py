"""The revisions of a bank: the first bank, and one for each extension by answers to parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.core.json_fields import JsonFields

MAX_PARTS = 64
"""Number of good parts in use, the newest ones, in addition to the bank's set."""
KEPT_PARTS = 3 * MAX_PARTS
"""Number of good parts in the file, so that a bank can return to an earlier revision."""


@dataclass(frozen=True)
class BankRevision(JsonFields):
    """One revision of a bank: the first bank, or an extension.

    Attributes:
        when: ISO 8601, UTC; empty if it is not known.
        names: names of the parts; empty for the first bank.
        keys: digests of the parts' pixels, hexadecimal.
        last_addition: number of good parts added so far, over all revisions.
        mark_indices: the bank's marks in use from this revision on.
        defective: whether the answers were "defective"; the parts are then not references.
    """

    when: str
    names: tuple[str, ...]
    keys: tuple[str, ...]
    last_addition: int
    mark_indices: tuple[int, ...] = ()
    defective: bool = False


def withdrawn(history: Sequence[BankRevision]) -> set[int]:
    """Numbers of the good parts that a later answer calls defective.

    Photos of the set can also have answers, from its report; they have no number and do not change `last_addition`.
    """
    numbers: dict[str, int] = {}
    withdrawn_parts: set[int] = set()
    for before, revision in zip(history, history[1:]):
        if revision.last_addition > before.last_addition:
            numbers |= {key: before.last_addition + 1 + index for index, key in enumerate(revision.keys)}
        elif revision.defective:
            withdrawn_parts.update(numbers.pop(key) for key in revision.keys if key in numbers)
    return withdrawn_parts


def to_store(numbers: Int[np.ndarray, " k"], last: int) -> Bool[np.ndarray, " k"]:
    """Mask of the entries that the file of a bank keeps, if `last` is the number of the newest good part.

    `numbers` are the `addition_numbers` of `Pool` and `ReferenceImages`.
    """
    return _newest(numbers, last, KEPT_PARTS)


def in_use(numbers: Int[np.ndarray, " k"], history: Sequence[BankRevision]) -> Bool[np.ndarray, " k"]:
    """Mask of the entries that the last revision uses; `numbers` as for `to_store`."""
    return _newest(numbers, history[-1].last_addition, MAX_PARTS) & ~np.isin(numbers, list(withdrawn(history)))


def can_return_to(history: Sequence[BankRevision], revision: int) -> bool:
    """Whether all parts that a revision uses are still stored."""
    last = history[revision].last_addition
    needed = range(max(1, last - MAX_PARTS + 1), last + 1)
    # some good parts have no entry, so compare numbers; only the oldest parts are dropped
    return not needed or needed[0] >= history[-1].last_addition - KEPT_PARTS + 1


def _newest(numbers: Int[np.ndarray, " k"], last: int, count: int) -> Bool[np.ndarray, " k"]:
    """Mask of the entries that belong to the set or to the `count` newest good parts up to number `last`."""
    mask: Bool[np.ndarray, " k"] = (numbers == 0) | ((numbers <= last) & (numbers > last - count))
    return mask
