"""References of the compact kind: some patches of a set in one pool, each with the score that it has itself. [ours]

By mutual scoring a patch x is scored by the mean of its distances to the images that are nearest to it. Where y is a
patch of the set whose own score is s(y), the triangle inequality bounds that by |x - y| + s(y); between vectors of many
dimensions, whose differences are nearly at right angles, sqrt(|x - y|^2 + s(y)^2) is close to it. Several patches of
the pool that are near vouch for x more than one does; so the pool is a kernel density,

    score(x)^2 = -2 / b log mean over y of exp(-b / 2 (|x - y|^2 + s(y)^2)),    b = SHARPNESS / median of s(y)^2,

which lies above the least of the |x - y|^2 + s(y)^2 and near it. That is one product a degree and layer, where the mean
over R images needs R. A patch that is like a defect of the set gets the score of that defect: what stands out does no
harm in a pool. Held against the least alone, against other values of SHARPNESS and against distances without s(y):
BENCHMARKS.md, "Compact bank".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Shaped

from codegraph_jax.core.products import inner_products
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.judged import NOT_JUDGED
from codegraph_jax.similarity.tiles import TileOptions, cosine_to_distance

SHARPNESS = 10.0
"""At 5 textures are told apart better and objects worse; from 40 on the nearest patch alone counts."""
SMALLEST = 1e-6
"""Squares are clamped here before something is divided by them."""


@dataclass(frozen=True)
class Pool:
    """Some patches of a set.

    Attributes:
        options: degrees, grid and precision of the distances.
        vectors: unit vectors of k patches in each layer and degree; l arrays [r, k, c].
        own: the score that each patch has in the set, a distance [l, r, k].
    """

    options: TileOptions
    vectors: list[np.ndarray]
    own: Float[np.ndarray, "l r k"]

    def __str__(self) -> str:
        return f"{self.own.shape[2]:,} patches"

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.vectors)

    def arrays(self) -> list[np.ndarray]:
        """All that an image is held against."""
        return [*self.vectors, self.own]

    def damage(self) -> str:
        """What does not fit together; empty where everything does."""
        fitting = self.own.ndim == 3 and self.own.shape[:2] == (len(self.vectors), len(self.options.degrees))
        if not self.vectors or not self.own.size or not fitting:
            return "its settings do not fit its tensors"
        if any(x.ndim != 3 or x.shape != (*self.own.shape[1:], self.vectors[0].shape[-1]) for x in self.vectors):
            return "its tensors do not fit together"
        return "" if np.isfinite(self.own).all() and not self.options.radius else "its scores are no numbers"

    @cached_property
    def prepared(self) -> tuple[tuple[Array, ...], Array, Array]:
        """What `pool_scores` takes of a pool, on the device."""
        dtype, squares = _product_type(self.options), np.square(self.own)
        sharpness = SHARPNESS / np.maximum(np.median(squares, axis=2), SMALLEST)
        vectors = tuple(jnp.asarray(layer).astype(dtype) for layer in self.vectors)
        return vectors, jnp.asarray(squares, jnp.float32), jnp.asarray(sharpness, jnp.float32)

    def scores(self, image: Sequence[Any], judged: Bool[np.ndarray, " p"] | None) -> Float[np.ndarray, " p"]:
        """Scores of the patches of one image; arguments as for `ReferenceImages.scores`."""
        scores = np.array(pool_scores(tuple(jnp.asarray(x) for x in image), *self.prepared, self.options))
        if judged is not None:
            scores[~judged] = NOT_JUDGED
        return scores


def degree_vectors(tokens: Float[Array, "p c"], options: TileOptions) -> list[Shaped[Array, "p c"]]:
    """Unit vectors of the patches of one image in each degree, of one layer, as products want them."""
    return [aggregate(tokens[None], degree, options.grid, _product_type(options))[0] for degree in options.degrees]


@partial(jax.jit, static_argnames="options")
def pool_scores(
    image: Sequence[Float[Array, "p c"]],
    vectors: Sequence[Shaped[Array, "r k c"]],
    squares: Float[Array, "l r k"],
    sharpness: Float[Array, "l r"],
    options: TileOptions,
) -> Float[Array, " p"]:
    """Distances of the patches of one image to a pool, averaged over degrees and layers.

    Args:
        image: patch tokens of each layer.
        vectors: of the pool in each layer, in the type that the products want.
        squares: of the patches' own scores.
        sharpness: b of each layer and degree.
        options: degrees, grid and precision.
    """
    distances = []
    for tokens, layer, layer_squares, layer_sharpness in zip(image, vectors, squares, sharpness):
        for x, y, square, b in zip(degree_vectors(tokens, options), layer, layer_squares, layer_sharpness):
            # |x - y|^2 + s^2 = 2 - 2 (cos - s^2 / 2)
            cosines = inner_products(x, y, options.precision) - square / 2
            mean = logsumexp(b * cosines, axis=1) - jnp.log(cosines.shape[1])
            distances.append(cosine_to_distance(mean / b))
    return jnp.stack(distances).mean(axis=0)


def _product_type(options: TileOptions) -> Any:
    return jnp.bfloat16 if options.precision == "bfloat16" else jnp.float32
