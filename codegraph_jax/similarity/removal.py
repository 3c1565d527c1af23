"""Distances when some patches leave the reference banks: exact, and only where something can change.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was one of them. The
removed patches are few, so finding those x costs a product with them alone; only then are distances computed again.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.features import aggregate
from codegraph_jax.similarity.tiles import TileOptions, cosine_to_distance, product_precision

TIE = 4e-6
"""Squared distances this close count as equal: the kernels' rounding must not hide that a removed patch was nearest."""

ROW_BLOCK = 512
"""Rows recomputed at once: one compiled shape for any number of them."""

REMOVED_BLOCK = 256
"""Removed patches are padded to a multiple of this, so that few programs are compiled."""


def remove_patches(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array, "n p c"],
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
    if not len(columns):
        return
    precision = options.precision
    for k, degree in enumerate(options.degrees):
        features = aggregate(normalised, degree, options.grid)
        if precision == "bfloat16":
            features = features.astype(jnp.bfloat16)
        affected = _affected(table[k], features, removed, references, columns, precision)
        for column, rows in zip(columns, affected):
            _recompute(table[k], features, removed, int(references[column]), int(column), rows, precision)


def _affected(
    table: Float[np.ndarray, "n m p"],
    features: Float[Array, "n p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    columns: Int[np.ndarray, " a"],
    precision: str,
) -> list[Int[np.ndarray, "rows 2"]]:
    """For each affected column the (image, patch) whose nearest patch there is a removed one, or as near as one."""
    image, patch = np.nonzero(removed[references[columns]])
    segment_of = image.astype(np.int32)
    padding = -len(image) % REMOVED_BLOCK
    # padding repeats the last vector in its own segment, which changes no maximum
    chosen = np.pad(np.stack([references[columns][image], patch]), ((0, 0), (0, padding)), mode="edge")
    segments = np.pad(segment_of, (0, padding), mode="edge")
    vectors = features[chosen[0], chosen[1]]
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
    cosines = _cosines(vectors, queries, precision)
    return jax.ops.segment_max(cosines, segments, columns, indices_are_sorted=True)


def _recompute(
    table: Float[np.ndarray, "n m p"],
    features: Float[Array, "n p c"],
    removed: Bool[np.ndarray, "n p"],
    reference: int,
    column: int,
    rows: Int[np.ndarray, "rows 2"],
    precision: str,
) -> None:
    """Writes the distances of `rows` to the patches of `reference` that are left."""
    for start in range(0, len(rows), ROW_BLOCK):
        block = rows[start : start + ROW_BLOCK]
        padded = np.pad(block, ((0, ROW_BLOCK - len(block)), (0, 0)), mode="edge")
        fresh = _distances_to_rest(
            features[padded[:, 0], padded[:, 1]], features[reference], removed[reference], precision
        )
        table[block[:, 0], column, block[:, 1]] = np.asarray(fresh)[: len(block)]


@partial(jax.jit, static_argnames="precision")
def _distances_to_rest(
    queries: Float[Array, "q c"], bank: Float[Array, "p c"], removed: Bool[Array, " p"], precision: str
) -> Float[Array, " q"]:
    cosines = jnp.where(removed[None, :], -jnp.inf, _cosines(queries, bank, precision))
    return cosine_to_distance(cosines.max(axis=1))


def _cosines(left: Float[Array, "a c"], right: Float[Array, "b c"], precision: str) -> Float[Array, "a b"]:
    contract_channels = (((1,), (1,)), ((), ()))
    return lax.dot_general(
        left, right, contract_channels, precision=product_precision(precision), preferred_element_type=jnp.float32
    )
