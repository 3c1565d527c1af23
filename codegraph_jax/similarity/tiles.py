"""Tiles: the distances between the patches of two images, both ways from one product (docs/method.md section 2).

d[r](x, j) = min over patches y of image j of |F_r(x) - F_r(y)| = sqrt(2 - 2 max_y <F_r(x), F_r(y)>) for unit vectors.
A tile of inner products serves image i against j by its row maxima and j against i by its column maxima.

Two exact routes to the same numbers:

* `reuse`: before they get unit length, the features of degree r are box sums of those of degree 1, so their inner
  products are box sums, over both grids, of one tile. One product serves every degree; it wins where the product
  dominates (CPU).
* `direct`: one product a degree; it wins where products are cheap and memory traffic is not (GPU, TPU).
  `fused` is its hand-written form (`codegraph_jax.similarity.fused`), `fused_gpu` that for GPUs. Within a radius it
  is the route everywhere (`codegraph_jax.similarity.windows`).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from codegraph_jax.core.matmul import inner_products, product_precision
from codegraph_jax.features.aggregation import aggregate, as_bits, box_sum, from_bits, inverse_norms
from codegraph_jax.similarity import fused, fused_gpu
from codegraph_jax.similarity.windows import window_maxima


class PatchSet(NamedTuple):
    """The patches of one layer, as a kernel wants them.

    Attributes:
        vectors: `reuse`: normalised tokens [n, p, c], in bfloat16 where they are rounded to it, and nothing besides;
            else: unit vectors of each degree [n, p, c], which `fused_gpu` wants padded. Both in bfloat16 as
            `features.as_bits` gives it, but for the fused kernels.
        scales: `reuse`: inverse norms of every degree [r, n, p]; else: empty [0, n, p].
        penalty: 0, or minus infinity where a patch does not count [q, n, p]; of references of which it is asked how
            near they are with and without some patches, q = 2, else 1.
    """

    vectors: tuple[Shaped[Array, "n p c"], ...]
    scales: Float[Array, "r n p"]
    penalty: Float[Array, "q n p"]

    def of(self, image: Int[Array, ""]) -> "PatchSet":
        """Those of one image: vectors [p, c] as numbers, scales [r, p], penalty [q, p]."""
        return PatchSet(
            tuple(from_bits(vectors[image]) for vectors in self.vectors), self.scales[:, image], self.penalty[:, image]
        )


class TileOptions(NamedTuple):
    """What is fixed when a kernel is compiled."""

    kernel: str
    degrees: tuple[int, ...]
    grid: tuple[int, int]
    precision: str
    batch: int = 1
    """Pairs in one product (with a radius: blocks); GPUs want several, on CPU they only cost memory."""
    radius: int = 0
    """Patches are compared with those at most so many cells away; 0: with all (`codegraph_jax.similarity.windows`)."""
    masked: bool = False
    """Whether some patches do not count; these are the ones whose tokens are all 0."""

    @property
    def at_once(self) -> int | None:
        """Pairs of images in one product; None: one, or its blocks."""
        return None if self.radius or self.batch == 1 else self.batch


def prepare(normalised: Float[Array, "n p c"], options: TileOptions) -> PatchSet:
    """Brings the output of `features.normalise` into the form that the kernel reads."""
    dtype = jnp.bfloat16 if options.precision == "bfloat16" else jnp.float32
    penalty = _penalty(normalised)
    if options.kernel == "reuse":
        scales = inverse_norms(normalised, options.degrees, options.grid)
        # float32 holds the product of two bfloat16 numbers exactly: rounded tokens need no wider copy
        narrow = jnp.bfloat16 in (dtype, normalised.dtype)
        return PatchSet((_one_degree(normalised, jnp.bfloat16 if narrow else jnp.float32),), scales, penalty)
    vectors = tuple(_unit_vectors(normalised, r, options.grid, dtype, options.kernel) for r in options.degrees)
    return PatchSet(vectors, _no_scales(normalised), penalty)


@jax.jit
def _penalty(normalised: Float[Array, "n p c"]) -> Float[Array, "1 n p"]:
    return jnp.where((normalised != 0).any(axis=-1), 0.0, -jnp.inf)[None]


@jax.jit
def _no_scales(normalised: Float[Array, "n p c"]) -> Float[Array, "0 n p"]:
    return jnp.zeros((0, *normalised.shape[:2]), jnp.float32)


@partial(jax.jit, static_argnames="dtype")
def _one_degree(normalised: Float[Array, "n p c"], dtype: Any) -> Shaped[Array, "n p c"]:
    """In one program, so that a layer is copied once."""
    return as_bits(normalised.astype(dtype))


@partial(jax.jit, static_argnames=("degree", "grid", "dtype", "kernel"))
def _unit_vectors(
    normalised: Float[Array, "n p c"], degree: int, grid: tuple[int, int], dtype: Any, kernel: str
) -> Shaped[Array, "n q d"]:
    """In one program too: with all degrees this is the largest thing in memory."""
    vectors = aggregate(normalised, degree, grid, dtype)
    if kernel == "fused_gpu":
        return fused_gpu.padded(vectors)
    return vectors if kernel.startswith("fused") else as_bits(vectors)


def box_sums(grids: Float[Array, "h w h w"], degrees: tuple[int, ...]) -> list[Float[Array, "h w h w"]]:
    """Sums of a tile over degree x degree patches of both images, for each degree; zeros beyond the edges."""
    down = {degree: box_sum(grids, degree, axes=(0,)) for degree in {3, *degrees} - {5}}
    # five rows of a tile do not fit into a core's cache; two sums of three rows, less the row they share, do
    above = jnp.concatenate([grids[:1], down[3][:-1]])
    below = jnp.concatenate([down[3][1:], grids[-1:]])
    down[5] = above + below - grids
    return [box_sum(down[degree], degree, axes=(1, 2, 3)) for degree in degrees]


def tile_maxima(
    left: PatchSet, right: PatchSet, options: TileOptions
) -> tuple[Float[Array, "r q p"], Float[Array, "r p"]]:
    """Greatest cosine of each patch of one image with any patch of the other that counts.

    Args:
        left, right: the patch sets of one image each, see `PatchSet.of`.
        options: of the kernel; not `fused`.

    Returns:
        (of the left patches, by each penalty of the right ones; of the right patches).
    """
    rows, columns = [], []

    def note(cosines: Float[Array, "p p"]) -> None:
        if options.masked:
            rows.append(jnp.stack([(cosines + penalty).max(axis=1) for penalty in right.penalty]))
            columns.append((cosines + left.penalty[0][:, None]).max(axis=0))
        else:
            rows.append(cosines.max(axis=1)[None])
            columns.append(cosines.max(axis=0))

    if options.radius:
        for a, b in zip(left.vectors, right.vectors):
            of_left, of_right = window_maxima(
                a, b, left.penalty[0], right.penalty, options.grid, options.radius, options.precision, options.batch
            )
            rows.append(of_left)
            columns.append(of_right)
    elif options.kernel == "reuse":
        tile = inner_products(left.vectors[0], right.vectors[0], options.precision)
        grids = tile.reshape(*options.grid, *options.grid)
        for k, sums in enumerate(box_sums(grids, options.degrees)):
            note(sums.reshape(tile.shape) * left.scales[k][:, None] * right.scales[k][None, :])
    else:
        for a, b in zip(left.vectors, right.vectors):
            note(inner_products(a, b, options.precision))
    return jnp.stack(rows), jnp.stack(columns)


def cosine_to_distance(cosine: Float[Array, "..."]) -> Float[Array, "..."]:
    """|a - b| of unit vectors from their inner product; rounding beyond 1 counts as 0; infinite from minus infinity."""
    return jnp.sqrt(jnp.maximum(2.0 - 2.0 * cosine, 0.0))


@partial(jax.jit, static_argnames="options")
def pair_distances(
    left: PatchSet, right: PatchSet, first: Int[Array, " b"], second: Int[Array, " b"], options: TileOptions
) -> tuple[Float[Array, "b r p"], Float[Array, "b r p"]]:
    """Distances of the image pairs (left[first], right[second]), both ways; memory for `options.batch` tiles at a time.

    Returns:
        (each patch of the first image to the second image, each patch of the second image to the first image).
    """
    if options.kernel.startswith("fused"):
        return _fused_distances(left, right, first, second, options)

    def one_pair(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        i, j = pair
        rows, columns = tile_maxima(left.of(i), right.of(j), options)
        return cosine_to_distance(rows[:, 0]), cosine_to_distance(columns)

    return lax.map(one_pair, (first, second), batch_size=options.at_once)


def _fused_distances(
    left: PatchSet, right: PatchSet, first: Int[Array, " b"], second: Int[Array, " b"], options: TileOptions
) -> tuple[Float[Array, "b r p"], Float[Array, "b r p"]]:
    platform = jax.default_backend()
    # TPUs have no TF32, and Mosaic no product of three bfloat16 passes
    precision = product_precision("float32" if options.precision == "tf32" else options.precision)
    p = options.grid[0] * options.grid[1]

    def one_degree(a: Array, b: Array) -> tuple[Array, Array]:
        if options.kernel == "fused_gpu":
            rows, columns = fused_gpu.pair_maxima(a, b, first, second, emulate=platform != "gpu")
            return rows[:, :p], columns[:, :p]
        return fused.pair_maxima(a, b, first, second, precision, not fused.supported(platform))

    maxima = [one_degree(a, b) for a, b in zip(left.vectors, right.vectors)]
    rows, columns = (cosine_to_distance(jnp.stack(side, axis=1)) for side in zip(*maxima))
    return rows, columns
