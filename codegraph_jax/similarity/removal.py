"""Distances when some patches leave the references: exact, and only where something can change that matters.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was one of them. The
removed patches are few, so finding those x costs a product with them alone; only then are distances computed again.
Most are found to be too far by their distances to a few centres of the removed patches (triangle inequality). And
distances only grow: a score that averages the k smallest needs no more than those which are among them, and, where
one has grown, those which take its place. Images pass in parts, so that the unit vectors of a whole layer never exist
at once.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.cluster.vq import kmeans2

from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.core.products import inner_products
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.tiles import TileOptions, cosine_to_distance

TIE = 4e-6
"""Squared distances this close count as equal: the kernels' rounding must not hide that a removed patch was nearest."""

CENTRES, TEACHERS, STEPS = 32, 4096, 5
"""Centres of the removed patches, how many of those make them, and steps of k-means. More centres skip more products
and cost more: BENCHMARKS.md, "Judging again"."""

MARGIN = 5e-3
"""Squared distances may differ by so much by the rounding of tokens and products (bfloat16, TF32)."""

ROWS = (32, 256, 2048)
"""Rows that are held against one reference image at once are padded to one of these, so that few programs are
compiled."""

REMOVED_MULTIPLE, SPARE = 128, 2
"""Removed patches of an image are padded to a multiple of the first, so that few programs are compiled. Of distances
beyond the k smallest so many are looked at with them: it saves rounds."""


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


@dataclass(frozen=True)
class Neighbours:
    """Which distances a score depends on.

    Attributes:
        columns: the references that serve [c].
        k: the score averages this many of the smallest distances to them.
        bar: makes distances [c, p] of an image (its index, the array) infinite, in place, where they must not serve.
    """

    columns: Int[np.ndarray, " c"]
    k: int
    bar: Callable[[int, Float[np.ndarray, "c p"]], None]


def changes_by_removal(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    neighbours: Neighbours | None = None,
) -> list[Changes]:
    """How distances differ from those that they would be if the `removed` patches were in no reference image.

    Args:
        table: distances of one layer, with all patches among the references.
        normalised: patch tokens of that layer, see `aggregation.normalise`.
        removed: patches that leave the references; they are still scored.
        references: image of each column.
        options: as the distances were computed.
        neighbours: which distances matter, others may be left out; None: all do.

    Returns:
        The changes of each degree.
    """
    columns = np.flatnonzero(removed[references].any(axis=1))
    losing = references[columns]
    return changes_in_columns(table, normalised, normalised[losing], removed[losing], columns, options, neighbours)


def changes_in_columns(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    losing: Float[Array | np.ndarray, "a p c"],
    removed: Bool[np.ndarray, "a p"],
    columns: Int[np.ndarray, " a"],
    options: TileOptions,
    neighbours: Neighbours | None = None,
) -> list[Changes]:
    """`changes_by_removal` for the reference images that lose any patch.

    Args:
        table: distances of one layer, with all patches among the references.
        normalised: patch tokens of the images.
        losing: patch tokens of the reference images.
        removed: patches that leave them; some of each.
        columns: of the reference images in the table.
        options: as the distances were computed.
        neighbours: see `changes_by_removal`; `bar` is given places in this table.
    """
    if not len(columns):
        return [_joined([])] * len(table)
    if options.kernel == "reuse" and normalised.dtype == jnp.bfloat16:
        # the kernel's products of rounded tokens were exact, as those of rounded unit vectors would not be
        options = options._replace(precision="float32")
    n, p, c = normalised.shape
    size = at_once(4 * p * max(c, table.shape[2]))
    changes = []
    for distances, degree in zip(table, options.degrees):
        unit = partial(_unit_vectors, degree=degree, options=options)
        makers = [partial(_first, unit, tokens) for tokens in losing]
        references = [_Reference.of(maker, gone) for maker, gone in zip(makers, removed)]
        centres = _Centres.of([np.asarray(r.leaving, np.float32)[: r.removed.sum()] for r in references])
        parts = []
        starts = range(0, n, size)
        following = iter([*starts[1:], None])
        upcoming = unit(normalised[:size]).reshape(-1, c)
        for start in starts:
            flat, after = upcoming, next(following)
            if after is not None:
                # the device works on these while the host looks at the others
                upcoming = unit(normalised[after : after + size]).reshape(-1, c)
            some = distances[start : start + size]
            rows = _Rows(flat, some[:, columns], references, centres, options.precision)
            if neighbours:
                _look_at_neighbours(rows, some, columns, neighbours, start)
            else:
                rows.look_at(np.isfinite(rows.old))
            image, place, patch = np.nonzero(rows.now != rows.old)
            parts.append(Changes(image + start, columns[place], patch, rows.now[image, place, patch]))
        changes.append(_joined(parts))
    return changes


def _look_at_neighbours(
    rows: "_Rows",
    distances: Float[np.ndarray, "b m p"],
    columns: Int[np.ndarray, " a"],
    neighbours: Neighbours,
    start: int,
) -> None:
    """Looks at the distances that scores depend on, until what has grown lets no further ones come in."""
    place = np.full(distances.shape[1], -1)
    place[neighbours.columns] = np.arange(len(neighbours.columns))
    inside = place[columns] >= 0
    bounds = np.stack([to_references[neighbours.columns] for to_references in distances])
    for i, to_references in enumerate(bounds):
        neighbours.bar(i + start, to_references)
    seen = np.zeros(rows.old.shape, bool)
    # a few more than the k smallest: what grows makes room for the next ones
    last = min(neighbours.k + SPARE, bounds.shape[1]) - 1
    # of each image the patches of which a distance has grown since
    open_patches = np.ones(rows.old.shape[::2], bool)

    def among_the_smallest(i: int) -> Bool[np.ndarray, "a p"]:
        patches = np.flatnonzero(open_patches[i])
        some = bounds[i][:, patches]
        limit = np.partition(some, last, axis=0)[last]
        own = some[place[columns[inside]]]
        asked = np.zeros(rows.old.shape[1:], bool)
        asked[np.ix_(np.flatnonzero(inside), patches)] = (own <= limit) & np.isfinite(own)
        return asked

    while open_patches.any():
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            needed = np.stack(list(pool.map(among_the_smallest, range(len(bounds))))) & ~seen
        before = rows.now.copy()
        rows.look_at(needed)
        seen |= needed
        grown = rows.now != before
        open_patches = grown.any(axis=1)
        image, column, patch = np.nonzero(grown)
        bounds[image, place[columns[column]], patch] = rows.now[image, column, patch]


class _Reference(NamedTuple):
    """A reference image that loses patches.

    Attributes:
        vectors: makes its unit vectors [p, c]: those of all references would take much memory.
        removed: which leave.
        leaving: those, padded by one of them, which changes no maximum.
    """

    vectors: Callable[[], Float[Array, "p c"]]
    removed: Bool[np.ndarray, " p"]
    leaving: Float[Array, "f c"]

    @classmethod
    def of(cls, vectors: Callable[[], Float[Array, "p c"]], removed: Bool[np.ndarray, " p"]) -> "_Reference":
        leaving = np.pad(np.flatnonzero(removed), (0, -int(removed.sum()) % REMOVED_MULTIPLE), mode="edge")
        return cls(vectors, removed, vectors()[leaving])


class _Centres(NamedTuple):
    """Centres of the removed patches, and how far those of each reference image lie from each at most.

    Attributes:
        vectors: the centres [q, c].
        radii: minus infinity where a reference image has no patch that is nearest to a centre [a, q].
    """

    vectors: Float[np.ndarray, "q c"]
    radii: Float[np.ndarray, "a q"]

    @classmethod
    def of(cls, leaving: Sequence[Float[np.ndarray, "f c"]]) -> "_Centres":
        """By k-means of the vectors that leave each reference image."""
        every = np.concatenate(leaving)
        teachers = every[np.linspace(0, len(every) - 1, min(len(every), TEACHERS)).astype(int)]
        with warnings.catch_warnings():
            # of equal patches some centres stay without any: they are no one's nearest
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            centres, _ = kmeans2(teachers, min(CENTRES, len(teachers)), iter=STEPS, minit="points", rng=0)
        radii = np.full((len(leaving), len(centres)), -np.inf)
        for own, vectors in zip(radii, leaving):
            apart = _apart(vectors @ centres.T, centres)
            nearest = apart.argmin(axis=1)
            np.maximum.at(own, nearest, apart[np.arange(len(vectors)), nearest])
        return cls(centres, radii)

    def least(self, reference: int, to_centres: Float[np.ndarray, "q f"]) -> Float[np.ndarray, " f"]:
        """What the distances of rows to the patches that leave a reference image cannot fall below."""
        least = np.full(to_centres.shape[1], np.inf, np.float32)
        for centre in np.flatnonzero(np.isfinite(self.radii[reference])):
            np.minimum(least, to_centres[centre] - np.float32(self.radii[reference, centre]), out=least)
        return np.maximum(least, 0)


def _apart(products: Float[np.ndarray, "e q"], centres: Float[np.ndarray, "q c"]) -> Float[np.ndarray, "e q"]:
    """Euclidean distances of unit vectors to centres, from their inner products."""
    return np.sqrt(np.maximum(1 - 2 * products + (centres**2).sum(axis=1), 0))


class _Rows:
    """Distances of the patches of b images to the reference images that lose patches, as they were and as they are.

    Attributes:
        old, now: [b, a, p].
    """

    def __init__(
        self,
        flat: Float[Array, "q c"],
        old: Float[np.ndarray, "b a p"],
        references: Sequence[_Reference],
        centres: _Centres,
        precision: str,
    ):
        products = np.asarray(inner_products(flat, jnp.asarray(centres.vectors, flat.dtype), "float32"), np.float32)
        self._centres, self._to_centres = centres, np.ascontiguousarray(_apart(products, centres.vectors).T)
        self.old, self.now = old, old.copy()
        self._flat, self._references, self._precision = flat, references, precision

    def look_at(self, needed: Bool[np.ndarray, "b a p"]) -> None:
        """Brings chosen distances, all of them finite, up to date."""
        places = np.flatnonzero(needed.any(axis=(0, 2)))
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            list(pool.map(lambda place: self._look_at_reference(place, needed[:, place]), places))

    def _look_at_reference(self, place: int, needed: Bool[np.ndarray, "b p"]) -> None:
        reference = self._references[place]
        least = self._centres.least(place, self._to_centres).reshape(needed.shape)
        near = needed & (np.square(least) <= np.square(self.old[:, place]) + MARGIN)
        image, patch = np.nonzero(near)
        rows = image * self.old.shape[2] + patch
        nearest = self._in_parts(rows, partial(_greatest_cosine, vectors=reference.leaving))
        # squared: the root would magnify the rounding near zero
        hit = np.maximum(2.0 - 2.0 * nearest, 0.0) <= np.square(self.old[image, place, patch]) + TIE
        if hit.any():
            rest = partial(_distances_to_rest, reference=reference.vectors(), removed=reference.removed)
            self.now[image[hit], place, patch[hit]] = self._in_parts(rows[hit], rest)

    def _in_parts(self, rows: Int[np.ndarray, " e"], function: Callable[..., Array]) -> Float[np.ndarray, " e"]:
        """A function of some rows; the device works on while they are gathered."""
        pending = []
        for start in range(0, len(rows), ROWS[-1]):
            some = rows[start : start + ROWS[-1]]
            length = next(length for length in ROWS if length >= len(some))
            padded = np.pad(some, (0, length - len(some)), mode="edge")
            pending.append((len(some), function(self._flat, padded, precision=self._precision)))
        return np.concatenate([np.zeros(0, np.float32), *(np.asarray(values)[:count] for count, values in pending)])


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


def _first(unit: Callable[[Any], Array], tokens: Float[Array | np.ndarray, "p c"]) -> Float[Array, "p c"]:
    return unit(tokens[None])[0]


@partial(jax.jit, static_argnames="precision")
def _greatest_cosine(
    flat: Float[Array, "q c"], rows: Int[Array, " e"], vectors: Float[Array, "f c"], precision: str
) -> Float[Array, " e"]:
    return inner_products(flat[rows], vectors, precision).max(axis=1)


@partial(jax.jit, static_argnames="precision")
def _distances_to_rest(
    flat: Float[Array, "q c"],
    rows: Int[Array, " e"],
    reference: Float[Array, "p c"],
    removed: Bool[Array, " p"],
    precision: str,
) -> Float[Array, " e"]:
    cosines = jnp.where(removed[None, :], -jnp.inf, inner_products(flat[rows], reference, precision))
    return cosine_to_distance(cosines.max(axis=1))
