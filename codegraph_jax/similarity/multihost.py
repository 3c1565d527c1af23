"""Patches leave the references where each process holds the features of its own images only."""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.distributed import processes
from codegraph_jax.similarity.removal import Changes, Neighbours, changes_by_removal, changes_in_columns
from codegraph_jax.similarity.tiles import TileOptions


def changes_everywhere(
    table: Float[np.ndarray, "r n m p"],
    own: Float[Array | np.ndarray, "k p c"],
    counts: tuple[int, ...],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    neighbours: Neighbours | None = None,
) -> list[Changes]:
    """`changes_by_removal`, in every process the same: each computes those of its own images.

    Args:
        table: distances of one layer, of all images.
        own: patch tokens of the images of this process.
        counts: images of each process, which follow one another.
        removed: patches that leave the references.
        references: image of each column.
        options: as the distances were computed.
        neighbours: which distances matter; None: all do.
    """
    if len(counts) == 1:
        return changes_by_removal(table, own, removed, references, options, neighbours)
    columns = np.flatnonzero(removed[references].any(axis=1))
    start = sum(counts[: jax.process_index()])
    mine = np.arange(start, start + counts[jax.process_index()])
    losing = references[columns]
    # the reference images that lose patches are few: they travel to every process
    held = np.asarray(own)
    tokens = processes.gather_rows(held[losing[np.isin(losing, mine)] - start])
    rows = table[:, start : start + len(mine)]
    if neighbours:
        bar = neighbours.bar
        neighbours = replace(neighbours, bar=lambda i, distances: bar(i + start, distances))
    changes = changes_in_columns(rows, held, tokens, removed[losing], columns, options, neighbours)
    moved = [change._replace(image=change.image + np.int32(start)) for change in changes]
    return [Changes(*map(processes.gather_rows, change)) for change in moved]
