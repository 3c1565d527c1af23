"""Distances when some patches leave the references: exact, and only where something can change.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was one of them. The
removed patches are few, so finding those x costs a product with them alone; only then are distances computed again.
Images pass in parts, so that the unit vectors of a whole layer never exist at once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

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

ROWS_AT_ONCE = 512
"""Rows recomputed at once: one compiled shape for any number of them."""

REMOVED_MULTIPLE = 256
"""Removed patches are padded to a multiple of this, so that few programs are compiled."""


class Changes(NamedTuple):
    """Distances of one layer and degree that become others when patches leave the references, e of them.

    Attributes:
        image, column, patch: their places in the table of distances [n, m, p].
        distance: what they become; infinite where a reference image has no patch left.
    """

    image: Int[np.ndarray, " e"]
    column: Int[np.ndarray, " e"]
    patch: Int[np.ndarray, " e"]
    distance: Float[np.ndarray, " e"]

    def apply(self, table: Float[np.ndarray, "n m p"]) -> None:
        """Writes them to their places, in place."""
        table[self.image, self.column, self.patch] = self.distance


def changes_by_removal(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
) -> list[Changes]:
    """How distances differ from those that they would be if the `removed` patches were in no reference image.

    Args:
        table: distances of one layer, with all patches among the references.
        normalised: patch tokens of that layer, see `aggregation.normalise`.
        removed: patches that leave the references; they are still scored.
        references: image of each column.
        options: as the distances were computed.

    Returns:
        The changes of each degree.
    """
    columns = np.flatnonzero(removed[references].any(axis=1))
    losing = references[columns]
    return changes_in_columns(table, normalised, normalised[losing], removed[losing], columns, options)


def changes_in_columns(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    losing: Float[Array | np.ndarray, "a p c"],
    removed: Bool[np.ndarray, "a p"],
    columns: Int[np.ndarray, " a"],
    options: TileOptions,
) -> list[Changes]:
    """`changes_by_removal` for the reference images that lose any patch.

    Args:
        table: distances of one layer, with all patches among the references.
        normalised: patch tokens of the images.
        losing: patch tokens of the reference images.
        removed: patches that leave them; some of each.
        columns: of the reference images in the table.
        options: as the distances were computed.
    """
    if not len(columns):
        return [_joined([])] * len(table)
    if options.kernel == "reuse" and normalised.dtype == jnp.bfloat16:
        # the kernel's products of rounded tokens were exact, as those of rounded unit vectors would not be
        options = options._replace(precision="float32")
    n, p, c = normalised.shape
    size = at_once(4 * p * c)
    changes = []
    for distances, degree in zip(table, options.degrees):
        unit = partial(_unit_vectors, degree=degree, options=options)
        vectors, segments = _removed_vectors(losing, removed, unit)
        parts = []
        for start in range(0, n, size):
            features = unit(normalised[start : start + size])
            some = distances[start : start + size]
            affected = _affected(some, features, vectors, segments, columns, options.precision)
            for tokens, gone, column, rows in zip(losing, removed, columns, affected):
                if len(rows):
                    fresh = _distances_of_rows(features, unit(tokens[None])[0], gone, rows, options.precision)
                    image, patch = rows.T
                    parts.append(Changes(image + start, np.full(len(rows), column), patch, fresh))
        changes.append(_joined(parts))
    return changes


def _joined(parts: Sequence[Changes]) -> Changes:
    """In as few bytes as serve: there may be millions."""
    nothing = Changes(*(np.zeros(0, np.int32),) * 3, np.zeros(0, np.float32))
    columns = zip(nothing, *parts)
    return Changes(*(np.concatenate(column).astype(column[0].dtype) for column in columns))


def _unit_vectors(
    normalised: Float[Array | np.ndarray, "b p c"], degree: int, options: TileOptions
) -> Float[Array, "b p c"]:
    dtype = jnp.bfloat16 if options.precision == "bfloat16" else jnp.float32
    return aggregate(jnp.asarray(normalised), degree, options.grid, dtype)


def _removed_vectors(
    losing: Float[Array | np.ndarray, "a p c"], removed: Bool[np.ndarray, "a p"], unit: Callable[[Any], Array]
) -> tuple[Float[Array, "f c"], Int[np.ndarray, " f"]]:
    """The vectors that leave the reference images, and which image each leaves.

    The last one is repeated in its own segment, which changes no maximum, to a multiple of `REMOVED_MULTIPLE`.
    """
    vectors = jnp.concatenate([unit(tokens[None])[0][np.flatnonzero(gone)] for tokens, gone in zip(losing, removed)])
    segments = np.nonzero(removed)[0].astype(np.int32)
    padding = -len(segments) % REMOVED_MULTIPLE
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


def _distances_of_rows(
    features: Float[Array, "b p c"],
    reference: Float[Array, "p c"],
    removed: Bool[np.ndarray, " p"],
    rows: Int[np.ndarray, "rows 2"],
    precision: str,
) -> Float[np.ndarray, " rows"]:
    """Distances of some (image, patch) to the patches of a reference image that are left."""
    fresh = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        padded = np.pad(some, ((0, ROWS_AT_ONCE - len(some)), (0, 0)), mode="edge")
        distances = _distances_to_rest(features[padded[:, 0], padded[:, 1]], reference, removed, precision)
        fresh[start : start + len(some)] = np.asarray(distances)[: len(some)]
    return fresh


@partial(jax.jit, static_argnames="precision")
def _distances_to_rest(
    queries: Float[Array, "q c"], reference: Float[Array, "p c"], removed: Bool[Array, " p"], precision: str
) -> Float[Array, " q"]:
    cosines = jnp.where(removed[None, :], -jnp.inf, inner_products(queries, reference, precision))
    return cosine_to_distance(cosines.max(axis=1))
