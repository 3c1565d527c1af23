"""Patches leave the reference banks where each process holds the features of its own images only."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.distributed import processes
from codegraph_jax.similarity.removal import remove_from_banks, remove_patches
from codegraph_jax.similarity.tiles import TileOptions


def remove_everywhere(
    table: Float[np.ndarray, "r n m p"],
    own: Float[Array | np.ndarray, "k p c"],
    counts: tuple[int, ...],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
) -> None:
    """`remove_patches` in every process: each recomputes the rows of its own images, and all end with the same table.

    Args:
        table: distances of one layer, of all images; changed in place.
        own: patch tokens of the images of this process.
        counts: images of each process, which follow one another.
        removed: patches that leave the banks.
        references: image of each column.
        options: as the distances were computed.
    """
    if len(counts) == 1:
        remove_patches(table, own, removed, references, options)
        return
    columns = np.flatnonzero(removed[references].any(axis=1))
    if not len(columns):
        return
    start = sum(counts[: jax.process_index()])
    mine = np.arange(start, start + counts[jax.process_index()])
    banks = references[columns]
    # the banks that change are few: they travel to every process
    held = np.asarray(own)
    bank_tokens = processes.gather_rows(held[banks[np.isin(banks, mine)] - start])
    rows = table[:, start : start + len(mine), columns]
    remove_from_banks(rows, held, bank_tokens, removed[banks], np.arange(len(banks)), options)
    fresh = processes.gather_rows(np.ascontiguousarray(rows.swapaxes(0, 1)))
    table[:, :, columns] = fresh.swapaxes(0, 1)
