"""Distances between the patches of two images, in both directions from one product (docs/method.md section 2).

d[r](x, j) = min over patches y of image j of |F_r(x) - F_r(y)| = sqrt(2 - 2 max_y <F_r(x), F_r(y)>) for unit vectors.
The matrix of cosines (inner products) of images i and j gives the distances of i by its row maxima and those of j by
its column maxima. There are two ways to compute it, with the same results:

* `reuse`: before normalisation, the features of degree r are box sums of those of degree 1, so their inner products are
  box sums, over both grids, of one matrix. One product gives all degrees; faster if products are slow (CPU).
* `direct`: one product per degree; faster if products are fast and memory traffic is slow (GPU, TPU).
  `fused` is its hand-written form (`codegraph_jax.similarity.fused`), `fused_gpu` that for GPUs. Comparison within a
  radius always uses it (`codegraph_jax.similarity.windows`).
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
    """The patches of one layer, prepared for a kernel.

    `vectors` are the normalised tokens for `reuse`, otherwise the unit vectors of each degree, padded for `fused_gpu`;
    in bfloat16 they are stored by `aggregation.as_bits`, except for the fused kernels. `scales` are the inverse norms
    of every degree for `reuse`. The penalty is 0, or minus infinity for patches that are not used as references; q = 2
    to get distances with and without some patches, otherwise 1.
    """

    vectors: tuple[Shaped[Array, "n p c"], ...]
    scales: Float[Array, "r n p"]
    penalty: Float[Array, "q n p"]

    def select(self, image: Int[Array, ""]) -> "PatchSet":
        """The patches of one image: vectors [p, c] as numbers, scales [r, p], penalty [q, p]."""
        return PatchSet(
            tuple(from_bits(vectors[image]) for vectors in self.vectors), self.scales[:, image], self.penalty[:, image]
        )


class DistanceOptions(NamedTuple):
    """The options for which a kernel is compiled."""

    kernel: str
    degrees: tuple[int, ...]
    grid: tuple[int, int]
    precision: str
    pairs_per_product: int = 1
    """Pairs of images in one product; several are faster on GPUs and only cost memory on CPUs."""
    radius: int = 0
    """Largest distance in cells of the patches that are compared; 0: all (`codegraph_jax.similarity.windows`)."""
    masked: bool = False
    """Whether some patches are invalid; the tokens of these are 0."""
    blocks_per_product: int = 1
    """Blocks of a pair in one product, if patches are compared within a radius."""

    @property
    def product_type(self) -> Any:
        """Type of the factors of a product."""
        return jnp.bfloat16 if self.precision == "bfloat16" else jnp.float32

    @property
    def map_batch(self) -> int | None:
        """Batch size for `lax.map` over pairs; None is faster than 1."""
        return self.pairs_per_product if self.pairs_per_product > 1 else None

    @property
    def per_product(self) -> int:
        """Pairs or blocks in one product, whichever are more."""
        return max(self.pairs_per_product, self.blocks_per_product)

    def limited(self, per_product: int) -> "DistanceOptions":
        """The options with at most so many pairs or blocks in one product."""
        pairs, blocks = min(self.pairs_per_product, per_product), min(self.blocks_per_product, per_product)
        return self._replace(pairs_per_product=pairs, blocks_per_product=blocks)

    def unfused(self) -> "DistanceOptions":
        """`direct` instead of a hand-written kernel, which cannot mask patches; the distances are the same."""
        return self._replace(kernel="direct" if self.kernel.startswith("fused") else self.kernel)


def prepare(normalised: Float[Array, "n p c"], options: DistanceOptions) -> PatchSet:
    """Prepares the output of `aggregation.normalise` for the kernel."""
    dtype, penalty = options.product_type, _penalty(normalised)
    if options.kernel == "reuse":
        scales = inverse_norms(normalised, options.degrees, options.grid)
        # the product of two bfloat16 numbers is exact in float32, so rounded tokens can stay in bfloat16
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
    """The tokens for `reuse`; one program, so that a layer is copied only once."""
    return as_bits(normalised.astype(dtype))


@partial(jax.jit, static_argnames=("degree", "grid", "dtype", "kernel"))
def _unit_vectors(
    normalised: Float[Array, "n p c"], degree: int, grid: tuple[int, int], dtype: Any, kernel: str
) -> Shaped[Array, "n q d"]:
    """The unit vectors of one degree; one program, since those of all degrees are the largest arrays in memory."""
    vectors = aggregate(normalised, degree, grid, dtype)
    if kernel == "fused_gpu":
        return fused_gpu.pad_vectors(vectors)
    return vectors if kernel.startswith("fused") else as_bits(vectors)


def box_sums(grids: Float[Array, "h w h w"], degrees: tuple[int, ...]) -> list[Float[Array, "h w h w"]]:
    """Sums of the matrix over degree x degree patches of both images, for each degree, with zeros beyond the edges."""
    down = {degree: box_sum(grids, degree, axes=(0,)) for degree in {3, *degrees} - {5}}
    # five rows of the matrix do not fit into a core's cache: add two sums of three rows and subtract the row in both
    above = jnp.concatenate([grids[:1], down[3][:-1]])
    below = jnp.concatenate([down[3][1:], grids[-1:]])
    down[5] = above + below - grids
    return [box_sum(down[degree], degree, axes=(1, 2, 3)) for degree in degrees]


def cosine_maxima(
    left: PatchSet, right: PatchSet, options: DistanceOptions
) -> tuple[Float[Array, "r q p"], Float[Array, "r p"]]:
    """Greatest cosine of each patch of an image with any valid patch of another image; the kernel is not `fused`.

    Returns:
        The maxima of the left patches for each penalty of the right ones, and the maxima of the right patches.
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
            blocks = options.blocks_per_product
            of_left, of_right = window_maxima(
                a, b, left.penalty[0], right.penalty, options.grid, options.radius, options.precision, blocks
            )
            rows.append(of_left)
            columns.append(of_right)
    elif options.kernel == "reuse":
        products = inner_products(left.vectors[0], right.vectors[0], options.precision)
        grids = products.reshape(*options.grid, *options.grid)
        for k, sums in enumerate(box_sums(grids, options.degrees)):
            note(sums.reshape(products.shape) * left.scales[k][:, None] * right.scales[k][None, :])
    else:
        for a, b in zip(left.vectors, right.vectors):
            note(inner_products(a, b, options.precision))
    return jnp.stack(rows), jnp.stack(columns)


def cosine_to_distance(cosine: Float[Array, "..."]) -> Float[Array, "..."]:
    """|a - b| of unit vectors from their inner product: 0 for products above 1, infinite for minus infinity."""
    return jnp.sqrt(jnp.maximum(2.0 - 2.0 * cosine, 0.0))


@partial(jax.jit, static_argnames="options")
def pair_distances(
    left: PatchSet, right: PatchSet, first: Int[Array, " b"], second: Int[Array, " b"], options: DistanceOptions
) -> tuple[Float[Array, "b r p"], Float[Array, "b r p"]]:
    """Distances of the image pairs (left[first], right[second]) in both directions.

    Returns:
        Distances of the patches of the first image to the second, and of those of the second image to the first.
    """
    if options.kernel.startswith("fused"):
        return _fused_distances(left, right, first, second, options)

    def one_pair(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        i, j = pair
        of_left, of_right = cosine_maxima(left.select(i), right.select(j), options)
        return cosine_to_distance(of_left[:, 0]), cosine_to_distance(of_right)

    return lax.map(one_pair, (first, second), batch_size=options.map_batch)


def _fused_distances(
    left: PatchSet, right: PatchSet, first: Int[Array, " b"], second: Int[Array, " b"], options: DistanceOptions
) -> tuple[Float[Array, "b r p"], Float[Array, "b r p"]]:
    platform = jax.default_backend()
    # TPUs do not have TF32, and Mosaic does not have products of three bfloat16 passes
    precision = product_precision("float32" if options.precision == "tf32" else options.precision)
    p = options.grid[0] * options.grid[1]

    def one_degree(a: Array, b: Array) -> tuple[Array, Array]:
        if options.kernel == "fused_gpu":
            of_left, of_right = fused_gpu.pair_maxima(a, b, first, second, emulate=platform != "gpu")
            return of_left[:, :p], of_right[:, :p]
        return fused.pair_maxima(a, b, first, second, precision, not fused.supported(platform))

    maxima = [one_degree(a, b) for a, b in zip(left.vectors, right.vectors)]
    of_left, of_right = (cosine_to_distance(jnp.stack(side, axis=1)) for side in zip(*maxima))
    return of_left, of_right
