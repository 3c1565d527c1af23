"""Rows of distances to reference images that lose patches: which of them change, and to what.

A removed patch can only have been the nearest where it is no farther than what was nearest. Most rows are found to be
too far by their distances to a few centres of the removed patches (triangle inequality); of the others the distances to
the removed patches are computed, and where one of these was nearest, those to all that are left.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.core.matmul import inner_products
from codegraph_jax.similarity.tiles import cosine_to_distance

TIE = 4e-6
"""Squared distances this close count as equal: the kernels' rounding must not hide that a removed patch was nearest."""

CENTRES, SAMPLE, STEPS = 32, 4096, 5
"""Centres of the removed patches, how many of those make them, and steps of k-means. More centres skip more products
and cost more: benchmarks/log/recurring.md, "Judging again"."""

MARGIN = 5e-3
"""Squared distances may differ by so much by the rounding of tokens and products (bfloat16, TF32)."""

ROWS = (32, 256, 2048)
"""Rows that are held against one reference image at once are padded to one of these, so that few programs are
compiled."""

REMOVED_MULTIPLE = 128
"""Removed patches of an image are padded to a multiple of this, so that few programs are compiled."""


class Reach(NamedTuple):
    """Which patches are compared: those at most `radius` cells apart along either axis of the grid; 0: all."""

    grid: tuple[int, int]
    radius: int

    def around(self, patches: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
        """The patches that are compared with any of these."""
        if not self.radius:
            return np.full(len(patches), patches.any())
        side = 2 * self.radius + 1
        return ndimage.maximum_filter(patches.reshape(self.grid), side, mode="constant", cval=False).ravel()

    def penalty(self, rows: Int[Array, " e"], columns: Int[Array, " f"]) -> Float[Array, "e f"] | float:
        """0 where two patches, given by their numbers, are compared, else minus infinity."""
        if not self.radius:
            return 0.0
        cells, others = (jnp.stack(jnp.divmod(patches, self.grid[1])) for patches in (rows, columns))
        apart = jnp.abs(cells[:, :, None] - others[:, None, :]).max(axis=0)
        return jnp.where(apart <= self.radius, 0.0, -jnp.inf)


class Reference(NamedTuple):
    """A reference image that loses patches.

    Attributes:
        vectors: makes its unit vectors [p, c]: those of all references would take much memory.
        gone: patches that do not count any more, or never did.
        leaving: unit vectors of those that leave, padded by one of them, which changes no maximum.
        places: their numbers, padded in the same way.
        leavers: how many leave.
    """

    vectors: Callable[[], Float[Array, "p c"]]
    gone: Bool[np.ndarray, " p"]
    leaving: Float[Array, "f c"]
    places: Int[np.ndarray, " f"]
    leavers: int

    @classmethod
    def of(
        cls, vectors: Callable[[], Float[Array, "p c"]], removed: Bool[np.ndarray, " p"], counts: Bool[np.ndarray, " p"]
    ) -> "Reference":
        """The reference without some of the patches that count."""
        places = np.flatnonzero(removed & counts)
        padded = np.pad(places, (0, -len(places) % REMOVED_MULTIPLE), mode="edge")
        return cls(vectors, removed | ~counts, vectors()[padded], padded, len(places))


class Centres(NamedTuple):
    """Centres of the removed patches, and how far those of each reference image lie from each at most.

    Attributes:
        vectors: the centres [q, c].
        radii: minus infinity where a reference image has no patch that is nearest to a centre [a, q].
    """

    vectors: Float[np.ndarray, "q c"]
    radii: Float[np.ndarray, "a q"]

    @classmethod
    def of(cls, leaving: Sequence[Float[np.ndarray, "f c"]]) -> "Centres":
        """By k-means of the vectors that leave each reference image."""
        every = np.concatenate(leaving)
        sample = every[np.linspace(0, len(every) - 1, min(len(every), SAMPLE)).astype(int)]
        with warnings.catch_warnings():
            # of equal patches some centres stay without any: they are no one's nearest
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            centres, _ = kmeans2(sample, min(CENTRES, len(sample)), iter=STEPS, minit="points", seed=0)
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


class Rows:
    """Distances of the patches of b images to the reference images that lose patches, as they were and as they are.

    Attributes:
        old, now: [b, a, p].
    """

    def __init__(
        self,
        flat: Float[Array, "q c"],
        old: Float[np.ndarray, "b a p"],
        references: Sequence[Reference],
        centres: Centres,
        precision: str,
        reach: Reach,
    ):
        products = np.asarray(inner_products(flat, jnp.asarray(centres.vectors, flat.dtype), "float32"), np.float32)
        self._centres, self._to_centres = centres, np.ascontiguousarray(_apart(products, centres.vectors).T)
        self.old, self.now = old, old.copy()
        self._flat, self._references, self._precision, self._reach = flat, references, precision, reach

    def look_at(self, needed: Bool[np.ndarray, "b a p"]) -> None:
        """Brings chosen distances, all of them finite, up to date."""
        places = np.flatnonzero(needed.any(axis=(0, 2)))
        with ThreadPoolExecutor(CPU_THREADS) as pool:
            list(pool.map(lambda place: self._look_at_reference(place, needed[:, place]), places))

    def _look_at_reference(self, place: int, needed: Bool[np.ndarray, "b p"]) -> None:
        reference = self._references[place]
        least = self._centres.least(place, self._to_centres).reshape(needed.shape)
        near = needed & self._reach.around(self._leaving_of(reference))
        near &= np.square(least) <= np.square(self.old[:, place]) + MARGIN
        image, patch = np.nonzero(near)
        rows = image * self.old.shape[2] + patch
        nearest = self._in_parts(rows, partial(_greatest_cosine, vectors=reference.leaving, places=reference.places))
        # squared: the root would magnify the rounding near zero
        hit = np.maximum(2.0 - 2.0 * nearest, 0.0) <= np.square(self.old[image, place, patch]) + TIE
        if hit.any():
            rest = partial(_distances_to_rest, reference=reference.vectors(), gone=reference.gone)
            self.now[image[hit], place, patch[hit]] = self._in_parts(rows[hit], rest)

    def _leaving_of(self, reference: Reference) -> Bool[np.ndarray, " p"]:
        leaving = np.zeros(len(reference.gone), bool)
        leaving[reference.places] = True
        return leaving

    def _in_parts(self, rows: Int[np.ndarray, " e"], function: Callable[..., Array]) -> Float[np.ndarray, " e"]:
        """A function of some rows; the device works on while they are gathered."""
        pending = []
        for start in range(0, len(rows), ROWS[-1]):
            some = rows[start : start + ROWS[-1]]
            length = next(length for length in ROWS if length >= len(some))
            padded = np.pad(some, (0, length - len(some)), mode="edge")
            pending.append((len(some), function(self._flat, padded, precision=self._precision, reach=self._reach)))
        return np.concatenate([np.zeros(0, np.float32), *(np.asarray(values)[:count] for count, values in pending)])


@partial(jax.jit, static_argnames=("precision", "reach"))
def _greatest_cosine(
    flat: Float[Array, "q c"],
    rows: Int[Array, " e"],
    vectors: Float[Array, "f c"],
    places: Int[Array, " f"],
    precision: str,
    reach: Reach,
) -> Float[Array, " e"]:
    patches = rows % (reach.grid[0] * reach.grid[1])
    return (inner_products(flat[rows], vectors, precision) + reach.penalty(patches, places)).max(axis=1)


@partial(jax.jit, static_argnames=("precision", "reach"))
def _distances_to_rest(
    flat: Float[Array, "q c"],
    rows: Int[Array, " e"],
    reference: Float[Array, "p c"],
    gone: Bool[Array, " p"],
    precision: str,
    reach: Reach,
) -> Float[Array, " e"]:
    patches = rows % len(reference)
    cosines = inner_products(flat[rows], reference, precision) + reach.penalty(patches, jnp.arange(len(reference)))
    return cosine_to_distance(jnp.where(gone[None, :], -jnp.inf, cosines).max(axis=1))
