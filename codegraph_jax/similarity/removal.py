"""Distances when some patches leave the references: exact, and only where something can change that matters.

Removing patches from reference image j changes d(x, j) only for those x whose nearest patch of j was one of them. The
removed patches are few, so finding those x costs a product with them alone; only then are distances computed again.
Most are found to be too far by their distances to a few centres of the removed patches (triangle inequality). And
distances only grow: a score that averages the k smallest needs no more than those which are among them, and, where
one has grown, those which take its place. Images pass in parts, so that the unit vectors of a whole layer never exist
at once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.arrays import CPU_THREADS, at_once
from codegraph_jax.distributed import processes
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.rows import Centres, Reach, Reference, Rows
from codegraph_jax.similarity.tiles import TileOptions

SPARE = 2
"""Distances beyond the k smallest that are looked at with them: it saves rounds."""


class ReferenceMask(NamedTuple):
    """References that must not serve some patches.

    Attributes:
        columns: of the references [c].
        patches: the patches [n, p].
    """

    columns: Int[np.ndarray, " c"]
    patches: Bool[np.ndarray, "n p"]


@dataclass(frozen=True)
class Barred:
    """Which of c references must not serve which patches of n images.

    Attributes:
        images: references that must not serve an image [n, c].
        masks: those that must not serve some of its patches; their columns count among the c.
        patches: of an image.
    """

    images: Bool[np.ndarray, "n c"]
    masks: Sequence[ReferenceMask]
    patches: int

    @classmethod
    def of(
        cls,
        pairs: Bool[np.ndarray, "n m"],
        masks: Sequence[ReferenceMask],
        columns: Int[np.ndarray, " c"],
        patches: int,
    ) -> "Barred":
        """Of some of the m references of a table.

        Args:
            pairs: references that must not serve an image.
            masks: those that must not serve some patches.
            columns: the references that serve, in ascending order.
            patches: of an image.
        """
        among = [np.searchsorted(columns, np.intersect1d(mask.columns, columns)) for mask in masks]
        return cls(pairs[:, columns], [ReferenceMask(c, mask.patches) for c, mask in zip(among, masks)], patches)

    def touches(self, i: int) -> Bool[np.ndarray, " p"]:
        """Patches of an image that some reference must not serve."""
        touched = np.full(self.patches, self.images[i].any())
        for mask in self.masks:
            touched |= mask.patches[i]
        return touched

    def bar(
        self, i: int, distances: Float[np.ndarray, "c q"], patches: Int[np.ndarray, " q"] | slice = slice(None)
    ) -> None:
        """Makes distances of some patches of an image infinite where a reference must not serve them, in place."""
        distances[self.images[i]] = np.inf
        for columns, chosen in self.masks:
            distances[np.ix_(columns, np.flatnonzero(chosen[i, patches]))] = np.inf


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
    normalised: Float[Array | np.ndarray, "k p c"],
    removed: Bool[np.ndarray, "n p"],
    references: Int[np.ndarray, " m"],
    options: TileOptions,
    neighbours: Neighbours | None = None,
    counts: tuple[int, ...] = (),
) -> list[Changes]:
    """How distances differ from those that they would be if the `removed` patches were in no reference image.

    Args:
        table: distances of one layer, with all patches among the references.
        normalised: patch tokens of that layer of the images of this process, see `aggregation.normalise`.
        removed: patches that leave the references; they are still scored.
        references: image of each column.
        options: as the distances were computed.
        neighbours: which distances matter, others may be left out; None: all do.
        counts: images of each process, which follow one another; where there are several.

    Returns:
        The changes of each degree, in every process the same: each computes those of its own images.
    """
    columns = np.flatnonzero(removed[references].any(axis=1))
    losing, rank = references[columns], jax.process_index()
    if len(counts) < 2:
        return _changes(table, normalised, normalised[losing], removed[losing], columns, options, neighbours, 0)
    # the reference images that lose patches are few: they travel to every process
    start = sum(counts[:rank])
    held, mine = np.asarray(normalised), np.arange(start, start + counts[rank])
    tokens = processes.gather_rows(held[losing[np.isin(losing, mine)] - start])
    rows = table[:, start : start + counts[rank]]
    own = _changes(rows, held, tokens, removed[losing], columns, options, neighbours, start)
    return [Changes(*map(processes.gather_rows, change)) for change in own]


def _changes(
    table: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    losing: Float[Array | np.ndarray, "a p c"],
    removed: Bool[np.ndarray, "a p"],
    columns: Int[np.ndarray, " a"],
    options: TileOptions,
    neighbours: Neighbours | None,
    first: int,
) -> list[Changes]:
    """`changes_by_removal` of some images.

    Args:
        table: their distances of one layer.
        normalised: their patch tokens.
        losing: patch tokens of the reference images that lose any patch.
        removed: patches that leave these; some of each.
        columns: of these in the table.
        options, neighbours: see `changes_by_removal`.
        first: number of the first of the images.
    """
    if not len(columns):
        return [_joined([])] * len(table)
    n, p, c = normalised.shape
    size = at_once(4 * p * max(c, table.shape[2]))
    counts = np.ones_like(removed)
    if options.masked:
        counts = np.stack([np.asarray((tokens != 0).any(axis=-1)) for tokens in losing])
    reach = Reach(options.grid, options.radius)
    changes = []
    for distances, degree in zip(table, options.degrees):
        unit = partial(_unit_vectors, degree=degree, options=options)
        makers = [partial(_first, unit, tokens) for tokens in losing]
        references = [Reference.of(maker, *patches) for maker, *patches in zip(makers, removed, counts)]
        centres = Centres.of([np.asarray(r.leaving, np.float32)[: r.leavers] for r in references])
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
            rows = Rows(flat, some[:, columns], references, centres, _precision(options), reach)
            if neighbours:
                _look_at_neighbours(rows, some, columns, neighbours, first + start)
            else:
                rows.look_at(np.isfinite(rows.old) & (rows.old >= 0))
            image, place, patch = np.nonzero(rows.now != rows.old)
            parts.append(Changes(image + first + start, columns[place], patch, rows.now[image, place, patch]))
        changes.append(_joined(parts))
    return changes


def _look_at_neighbours(
    rows: Rows,
    distances: Float[np.ndarray, "b m p"],
    columns: Int[np.ndarray, " a"],
    neighbours: Neighbours,
    first: int,
) -> None:
    """Looks at the distances that scores depend on, until what has grown lets no further ones come in."""
    place = np.full(distances.shape[1], -1)
    place[neighbours.columns] = np.arange(len(neighbours.columns))
    inside = place[columns] >= 0
    bounds = np.stack([to_references[neighbours.columns] for to_references in distances])
    for i, to_references in enumerate(bounds):
        neighbours.bar(first + i, to_references)
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
        asked[np.ix_(np.flatnonzero(inside), patches)] = (own <= limit) & np.isfinite(own) & (own >= 0)
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


def _joined(parts: Sequence[Changes]) -> Changes:
    """In as few bytes as serve: there may be millions."""
    nothing = Changes(*(np.zeros(0, np.int32),) * 3, np.zeros(0, np.float32))
    columns = zip(nothing, *parts)
    return Changes(*(np.concatenate(column).astype(column[0].dtype) for column in columns))


def _unit_vectors(
    normalised: Float[Array | np.ndarray, "b p c"], degree: int, options: TileOptions
) -> Float[Array, "b p c"]:
    """As the kernel has rounded them: `reuse` rounds tokens, the others round unit vectors."""
    narrow = jnp.bfloat16 if options.precision == "bfloat16" else jnp.float32
    if options.kernel == "reuse":
        return aggregate(jnp.asarray(normalised), degree, options.grid, rounded=narrow)
    return aggregate(jnp.asarray(normalised), degree, options.grid, narrow)


def _precision(options: TileOptions) -> str:
    """Of the products here: those of rounded tokens were exact, as those of rounded unit vectors would not be."""
    return "float32" if options.kernel == "reuse" and options.precision == "bfloat16" else options.precision


def _first(unit: Callable[[Any], Array], tokens: Float[Array | np.ndarray, "p c"]) -> Float[Array, "p c"]:
    return unit(tokens[None])[0]
