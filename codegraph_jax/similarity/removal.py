"""Distances when some patches leave the reference banks: exact, and only where something can change.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was one of them. The
removed patches are few, so finding those x costs a product with them alone; only then are distances computed again.
Images pass in blocks, so that the unit vectors of a whole layer never exist at once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import at_once
from codegraph_jax.core.products import inner_products
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.tiles import TileOptions, cosine_to_distance

TIE = 4e-6
"""Squared distances this close count as equal: the kernels' rounding must not hide that a removed patch was nearest."""

ROW_BLOCK = 512
"""Rows recomputed at once: one compiled shape for any number of them."""

REMOVED_BLOCK = 256
"""Removed patches are padded to a multiple of this, so that few programs are compiled."""


def remove_patches(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
) -> None:
    """Makes the table of distances what it would be if the `removed` patches were in no reference bank.

    Where a reference image has no patch left, its column becomes infinite.

    Args:
        table: distances of one layer, with all patches in the banks; changed in place.
        normalised: patch tokens of that layer, see `features.normalise`.
        removed: patches that leave the banks; they are still scored.
        references: image of each column.
        options: as the distances were computed.
    """
    columns = np.flatnonzero(removed[references].any(axis=1))
    if len(columns):
        banks = references[columns]
        remove_from_banks(table, normalised, normalised[banks], removed[banks], columns, options)


def remove_from_banks(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    banks: Float[Array | np.ndarray, "a p c"],
    removed: Bool[np.ndarray, "a p"],
    columns: Int[np.ndarray, " a"],
    options: TileOptions,
) -> None:
    """`remove_patches` for the reference images that lose any.

    Args:
        table: distances of one layer, with all patches in the banks; changed in place.
        normalised: patch tokens of the images.
        banks: patch tokens of the reference images.
        removed: patches that leave the banks; some of each.
        columns: of the reference images in the table.
        options: as the distances were computed.
    """
    if options.kernel == "reuse" and normalised.dtype == jnp.bfloat16:
        # the kernel's products of rounded tokens were exact, as those of rounded unit vectors would not be
        options = options._replace(precision="float32")
    n, p, c = normalised.shape
    size = at_once(4 * p * c)
    for distances, degree in zip(table, options.degrees):
        unit = partial(_unit_vectors, degree=degree, options=options)
        vectors, segments = _removed_vectors(banks, removed, unit)
        for start in range(0, n, size):
            features = unit(normalised[start : start + size])
            block = distances[start : start + size]
            affected = _affected(block, features, vectors, segments, columns, options.precision)
            for bank, gone, column, rows in zip(banks, removed, columns, affected):
                if len(rows):
                    _recompute(block, features, unit(bank[None])[0], gone, int(column), rows, options.precision)


def _unit_vectors(
    normalised: Float[Array | np.ndarray, "b p c"], degree: int, options: TileOptions
) -> Float[Array, "b p c"]:
    dtype = jnp.bfloat16 if options.precision == "bfloat16" else jnp.float32
    return aggregate(jnp.asarray(normalised), degree, options.grid, dtype)


def _removed_vectors(
    banks: Float[Array | np.ndarray, "a p c"], removed: Bool[np.ndarray, "a p"], unit: Callable[[Any], Array]
) -> tuple[Float[Array, "f c"], Int[np.ndarray, " f"]]:
    """The vectors that leave the banks, and which bank each leaves.

    The last one is repeated in its own segment, which changes no maximum, to a multiple of `REMOVED_BLOCK`.
    """
    vectors = jnp.concatenate([unit(bank[None])[0][np.flatnonzero(gone)] for bank, gone in zip(banks, removed)])
    segments = np.nonzero(removed)[0].astype(np.int32)
    padding = -len(segments) % REMOVED_BLOCK
    return jnp.pad(vectors, ((0, padding), (0, 0)), mode="edge"), np.pad(segments, (0, padding), mode="edge")


def _affected(
    table: Float[np.ndarray, "b m p"],
    features: Float[Array, "b p c"],
    vectors: Float[Array, "f c"],
    segments: Int[np.ndarray, " f"],
    columns: Int[np.ndarray, " a"],
    precision: str,
) -> list[Int[np.ndarray, "rows 2"]]:
    """For each affected column the (image, patch) whose nearest patch there is a removed one, or as near as one."""
    near: list[list[np.ndarray]] = [[] for _ in columns]
    for i in range(len(features)):
        nearest = np.asarray(_segment_maxima(features[i], vectors, segments, len(columns), precision))
        old = table[i, columns]
        # squared: the root would magnify the rounding near zero
        hit = np.maximum(2.0 - 2.0 * nearest, 0.0) <= np.square(old) + TIE
        hit &= np.isfinite(old)
        for c, patches in enumerate(hit):
            found = np.flatnonzero(patches)
            near[c].append(np.stack([np.full(len(found), i), found], axis=1))
    return [np.concatenate(rows) for rows in near]


@partial(jax.jit, static_argnames=("columns", "precision"))
def _segment_maxima(
    queries: Float[Array, "p c"], vectors: Float[Array, "f c"], segments: Int[Array, " f"], columns: int, precision: str
) -> Float[Array, "a p"]:
    """Greatest cosine of each query with the vectors of each segment."""
    cosines = inner_products(vectors, queries, precision)
    return jax.ops.segment_max(cosines, segments, columns, indices_are_sorted=True)


def _recompute(
    table: Float[np.ndarray, "b m p"],
    features: Float[Array, "b p c"],
    bank: Float[Array, "p c"],
    removed: Bool[np.ndarray, " p"],
    column: int,
    rows: Int[np.ndarray, "rows 2"],
    precision: str,
) -> None:
    """Writes the distances of `rows` to the patches of a reference image that are left."""
    for start in range(0, len(rows), ROW_BLOCK):
        block = rows[start : start + ROW_BLOCK]
        padded = np.pad(block, ((0, ROW_BLOCK - len(block)), (0, 0)), mode="edge")
        fresh = _distances_to_rest(features[padded[:, 0], padded[:, 1]], bank, removed, precision)
        table[block[:, 0], column, block[:, 1]] = np.asarray(fresh)[: len(block)]


@partial(jax.jit, static_argnames="precision")
def _distances_to_rest(
    queries: Float[Array, "q c"], bank: Float[Array, "p c"], removed: Bool[Array, " p"], precision: str
) -> Float[Array, " q"]:
    cosines = jnp.where(removed[None, :], -jnp.inf, inner_products(queries, bank, precision))
    return cosine_to_distance(cosines.max(axis=1))
