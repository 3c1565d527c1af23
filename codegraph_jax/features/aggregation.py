"""Multi-degree aggregation of patch features (docs/method.md section 1).

MuSc's LNAMD (arXiv:2401.16753 section 3.2) averages neighbourhoods; MuSc-V2's SNAMD (arXiv:2511.10047) weights them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

LAYER_NORM_EPSILON = 1e-5


def box_sum(values: Float[Array, "..."], size: int, axes: tuple[int, ...]) -> Float[Array, "..."]:
    """Sums over `size` neighbours (odd) along each of `axes`, with zero padding; the shape is unchanged.

    There is one window operation per axis: on CPUs, XLA is up to twenty times slower with a window over several axes.
    """
    for axis in axes:
        window, padding = [1] * values.ndim, [(0, 0)] * values.ndim
        window[axis], padding[axis] = size, (size // 2, size // 2)
        values = lax.reduce_window(values, 0.0, lax.add, window, [1] * values.ndim, padding)
    return values


def as_bits(values: Float[Array, "..."]) -> Shaped[Array, "..."]:
    """The bit patterns of bfloat16 values as uint16, for a loop over images; float32 values are returned unchanged.

    On CPUs, XLA cannot loop over bfloat16: it would convert all images to float32 before the loop.
    """
    return lax.bitcast_convert_type(values, jnp.uint16) if values.dtype == jnp.bfloat16 else values


def from_bits(bits: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The inverse of `as_bits`."""
    return lax.bitcast_convert_type(bits, jnp.bfloat16) if bits.dtype == jnp.uint16 else bits


@jax.jit
def normalise(tokens: Float[Array, "n p c"], covered: Bool[Array, "n p"] | None = None) -> Float[Array, "n p c"]:
    """Zero mean and unit variance over all patches and channels of each image; no affine, epsilon 1e-5.

    Args:
        tokens: tokens of p patches.
        covered: patches that belong to the image; the others are ignored and become 0. None: all.
    """
    tokens = tokens.astype(jnp.float32)
    if covered is not None:
        inside, count = covered[..., None], tokens.shape[2] * covered.sum(axis=1)[:, None, None]
        mean = jnp.where(inside, tokens, 0).sum(axis=(1, 2), keepdims=True) / count
        variance = jnp.where(inside, jnp.square(tokens - mean), 0).sum(axis=(1, 2), keepdims=True) / count
        return jnp.where(inside, (tokens - mean) * lax.rsqrt(variance + LAYER_NORM_EPSILON), 0)
    mean = tokens.mean(axis=(1, 2), keepdims=True)
    variance = jnp.square(tokens - mean).mean(axis=(1, 2), keepdims=True)
    return (tokens - mean) * lax.rsqrt(variance + LAYER_NORM_EPSILON)


def normalised_layers(
    layers: Sequence[Float[Array, "n p _"]], covered: Bool[Array, "n p"] | None
) -> list[Float[Array, "n p c"]]:
    """`normalise` for layers of several widths; channels of 0, which change no distance, make them equally wide."""
    width = max(layer.shape[2] for layer in layers)
    normalised = [normalise(layer, covered) for layer in layers]
    return [jnp.pad(layer, ((0, 0), (0, 0), (0, width - layer.shape[2]))) for layer in normalised]


def _neighbourhood_sums(normalised: Float[Array, "n p c"], degree: int, grid: tuple[int, int]) -> Float[Array, "n p c"]:
    """Sums over degree x degree patches; means would give the same unit vectors."""
    n, p, c = normalised.shape
    return box_sum(normalised.astype(jnp.float32).reshape(n, *grid, c), degree, axes=(1, 2)).reshape(n, p, c)


def _inverse_norm(vectors: Float[Array, "n p c"]) -> Float[Array, "n p"]:
    return lax.rsqrt(jnp.maximum(jnp.square(vectors).sum(axis=-1), 1e-24))


@partial(jax.jit, static_argnames=("degree", "grid", "dtype", "rounded"))
def aggregate(
    normalised: Float[Array, "n p c"],
    degree: int,
    grid: tuple[int, int],
    dtype: Any = jnp.float32,
    rounded: Any = jnp.float32,
) -> Float[Array, "n p c"]:
    """Features of one degree: the mean over degree x degree patches (zeros beyond the edge count), as unit vectors.

    Args:
        normalised: output of `normalise`; p = h * w patches, row by row.
        degree: odd side r of the neighbourhood; 1: single patches.
        grid: (h, w).
        dtype: type of the unit vectors; sums and norms are float32.
        rounded: type to which tokens are rounded before they are summed. Norms are computed from unrounded tokens, as
            in kernels that derive degree r from products of rounded tokens and divide by `inverse_norms`.
    """

    def one_image(bits: Shaped[Array, "p c"]) -> Float[Array, "p c"]:
        tokens = from_bits(bits)
        sums = _neighbourhood_sums(tokens[None], degree, grid)
        scale = _inverse_norm(sums)[..., None]
        if tokens.dtype != rounded and rounded != jnp.float32:
            sums = _neighbourhood_sums(tokens[None].astype(rounded), degree, grid)
        return (sums * scale)[0].astype(dtype)

    # one image at a time, so that the rounding of a sum does not depend on the number of images on the device
    return lax.map(one_image, as_bits(normalised))


@partial(jax.jit, static_argnames=("degrees", "grid"))
def inverse_norms(
    normalised: Float[Array, "n p c"], degrees: tuple[int, ...], grid: tuple[int, int]
) -> Float[Array, "r n p"]:
    """1 / norm of each summed (not averaged) neighbourhood, with which kernels derive degree r from degree 1."""
    # one image at a time, so that the temporaries do not grow with n
    return lax.map(
        lambda bits: jnp.stack(
            [_inverse_norm(_neighbourhood_sums(from_bits(bits)[None], r, grid))[0] for r in degrees]
        ),
        as_bits(normalised),
    ).swapaxes(0, 1)


@partial(jax.jit, static_argnames=("degrees", "grid"))
def similarity_weighted(
    normalised: Float[Array, "n p c"], degrees: tuple[int, ...], grid: tuple[int, int]
) -> Float[Array, "n p c"]:
    """Features of all degrees together, from neighbourhoods in which similar patches weigh more (MuSc-V2's SNAMD).

    As in its released code: a neighbour at distance d has weight exp(-d), the weighted mean is taken for each degree,
    and the result is the mean over the degrees. Ours: d is in units of the mean distance of adjacent patches of the
    photo, since tokens that are normalised over a photo are so far apart that all weights but that of the patch itself
    would vanish; and neighbours beyond an edge are left out instead of counting as zeros.

    Args:
        normalised: output of `normalise`; patches that are not inspected are 0, and stay so.
        degrees: odd sides of the neighbourhoods.
        grid: (h, w).
    """
    radius = max(degrees) // 2
    offsets = [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]

    def one_image(bits: Shaped[Array, "p c"]) -> Float[Array, "p c"]:
        tokens = from_bits(bits).astype(jnp.float32).reshape(*grid, -1)
        inspected = (tokens != 0).any(axis=-1)
        padded_tokens = jnp.pad(tokens, ((radius, radius), (radius, radius), (0, 0)))
        padded_inspected = jnp.pad(inspected, radius)

        def neighbours(offset: tuple[int, int]) -> tuple[Array, Array, Array]:
            """Tokens of the neighbours of all patches, their distances, and whether both patches are inspected."""
            rows = slice(radius + offset[0], radius + offset[0] + grid[0])
            columns = slice(radius + offset[1], radius + offset[1] + grid[1])
            neighbour_tokens = padded_tokens[rows, columns]
            distance = jnp.sqrt(jnp.square(neighbour_tokens - tokens).sum(axis=-1))
            return neighbour_tokens, distance, padded_inspected[rows, columns] & inspected

        adjacent = [neighbours(offset)[1:] for offset in ((0, 1), (1, 0)) if radius]
        pairs = sum((both.sum() for _, both in adjacent), jnp.int32(0))
        total = sum((jnp.where(both, distance, 0).sum() for distance, both in adjacent), jnp.float32(0))
        scale = jnp.maximum(total / jnp.maximum(pairs, 1), 1e-6)
        sums = [jnp.zeros_like(tokens) for _ in range(radius + 1)]
        weights = [jnp.zeros(grid) for _ in range(radius + 1)]
        for offset in offsets:
            neighbour_tokens, distance, both = neighbours(offset)
            weight = jnp.where(both, jnp.exp(-distance / scale), 0.0)
            ring = max(map(abs, offset))
            sums[ring] += neighbour_tokens * weight[..., None]
            weights[ring] += weight
        means = []
        for degree in degrees:
            rings = range(degree // 2 + 1)
            norm = jnp.maximum(sum(weights[ring] for ring in rings), 1e-30)
            means.append(sum(sums[ring] for ring in rings) / norm[..., None])
        return jnp.where(inspected[..., None], sum(means) / len(means), 0).reshape(bits.shape).astype(normalised.dtype)

    return lax.map(one_image, as_bits(normalised))
