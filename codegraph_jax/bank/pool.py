"""The references of a compact bank: a pool of patches of the set, each with its own score in the set [ours].

Mutual scoring gives a patch x the mean of its distances to the nearest images. For a patch y of the set with the score
s(y), the triangle inequality bounds this mean by |x - y| + s(y); for vectors of many dimensions, whose differences are
nearly orthogonal, it is close to sqrt(|x - y|^2 + s(y)^2). Several near patches are stronger evidence that x is normal
than one, so the score is a kernel density:

    score(x)^2 = -2 / b log mean over y of exp(-b / 2 (|x - y|^2 + s(y)^2)),    b = SHARPNESS / median of s(y)^2.

It lies slightly above the least |x - y|^2 + s(y)^2. It takes one matrix product per degree and layer, where the mean
over m images takes m. Anomalous patches of the set are not in the pool (`bank.making`); if one were, a patch like it
would still get its high score. Comparisons with the minimum, other values of SHARPNESS, and distances without s(y):
benchmarks/log/line.md, "Compact bank".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int, Shaped

from codegraph_jax.bank.thinning import projected, thin
from codegraph_jax.consistency.signature import DEGREE
from codegraph_jax.core.matmul import inner_products
from codegraph_jax.core.tensors import DamagedTensorsError
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.similarity.pair_distances import DistanceOptions, cosine_to_distance
from codegraph_jax.similarity.valid import INVALID

SHARPNESS = 10.0
"""With 5, accuracy is better on textures and worse on objects; from 40 on, only the nearest patch counts."""
MAX_PATCHES_PER_PART = 64
"""Maximum number of patches that a good part adds."""
EPSILON = 1e-6
"""Lower bound of squares before a division."""


@dataclass(frozen=True)
class Pool:
    """Some patches of a set.

    Attributes:
        options: degrees, grid and precision of the distances.
        layers: unit vectors of k patches in each degree, for l layers [r, k, c].
        own_scores: score of each patch in the set, a distance [l, r, k].
        addition_numbers: number of the added good part, from 1; 0 for patches of the set, which come first [k].
    """

    options: DistanceOptions
    layers: list[np.ndarray]
    own_scores: Float[np.ndarray, "l r k"]
    addition_numbers: Int[np.ndarray, " k"]

    def __str__(self) -> str:
        return f"{self.own_scores.shape[2]:,} patches"

    def select(self, chosen: Bool[np.ndarray, " k"]) -> "Pool":
        """The chosen patches."""
        layers = [layer[:, chosen] for layer in self.layers]
        return Pool(self.options, layers, self.own_scores[:, :, chosen], self.addition_numbers[chosen])

    def extended(self, layers: Sequence[Float[np.ndarray, "n p c"]], first_number: int) -> "Pool":
        """The pool extended by patches of n good parts, numbered from `first_number`.

        A part adds representative patches among those with a score above the median. They get the median score, since
        the part is good.
        """
        ordinary = np.median(self.own_scores[:, :, self.addition_numbers == 0], axis=2)
        added = []
        for i in range(len(layers[0])):
            tokens = [jnp.asarray(layer[i]) for layer in layers]
            inspected = np.asarray((tokens[0] != 0).any(axis=-1))
            unusual = np.flatnonzero(self.scores(tokens, inspected) > ordinary.mean())
            vectors = image_vectors(tokens, self.options)
            squares = np.full(len(unusual), np.square(ordinary).mean(), np.float32)
            chosen = unusual[thin(projected(vectors[:, :, unusual]), squares, MAX_PATCHES_PER_PART)]
            added.append(vectors[:, :, chosen])
        counts = [vectors.shape[2] for vectors in added]
        own_scores = np.repeat(ordinary[:, :, None], sum(counts), axis=2)
        return Pool(
            self.options,
            list(np.concatenate([np.stack(self.layers), *added], axis=2)),
            np.concatenate([self.own_scores, own_scores], axis=2, dtype=np.float32),
            np.concatenate([self.addition_numbers, np.repeat(first_number + np.arange(len(counts)), counts)]),
        )

    def patch_vectors(self) -> list[np.ndarray]:
        """Approximate unit vectors of all patches of the set for signatures, in one array [k, d]."""
        degree = int(np.argmin([abs(degree - DEGREE) for degree in self.options.degrees]))
        vectors = [np.asarray(layer[degree][self.addition_numbers == 0], np.float32) for layer in self.layers]
        return [np.concatenate(vectors, axis=-1) / np.float32(np.sqrt(len(vectors)))]

    def content(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays and settings of this kind of references."""
        return {"own_scores": self.own_scores}, {"kind": "compact"}

    @classmethod
    def from_content(
        cls,
        options: DistanceOptions,
        layers: Sequence[np.ndarray],
        addition_numbers: Int[np.ndarray, " k"],
        tensors: Mapping[str, np.ndarray],
        about: Mapping[str, Any],  # noqa: ARG003, the same arguments for every kind
    ) -> "Pool":
        """The pool from the arrays and settings of `content` and those that all kinds have."""
        vectors = [layer.astype(np.float32) for layer in layers]
        return cls(options, vectors, tensors["own_scores"].astype(np.float32), addition_numbers)

    def check(self) -> None:
        """Checks that the arrays and settings of a file fit together.

        Raises:
            DamagedTensorsError: they do not.
        """
        expected = (len(self.layers), len(self.options.degrees))
        if not self.own_scores.size or self.own_scores.shape[:-1] != expected or self.options.radius:
            raise DamagedTensorsError("its settings do not fit its tensors")
        shapes = {layer.shape for layer in self.layers}
        fitting = len(shapes) == 1 and shapes.pop()[:-1] == self.own_scores.shape[1:]
        if not fitting or self.addition_numbers.shape != self.own_scores.shape[2:]:
            raise DamagedTensorsError("its tensors do not fit together")

    @cached_property
    def prepared(self) -> tuple[tuple[Array, ...], Array, Array]:
        """Arguments of `pool_scores`, on the device."""
        dtype, squares = self.options.product_type, np.square(self.own_scores)
        sharpness = SHARPNESS / np.maximum(np.median(squares, axis=2), EPSILON)
        vectors = tuple(jnp.asarray(layer).astype(dtype) for layer in self.layers)
        return vectors, jnp.asarray(squares, jnp.float32), jnp.asarray(sharpness, jnp.float32)

    def scores(self, image: Sequence[Any], inspected: Bool[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Scores of the patches of one image; arguments as for `ReferenceImages.scores`."""
        scores = np.array(pool_scores(tuple(jnp.asarray(x) for x in image), *self.prepared, self.options))
        scores[~inspected] = INVALID
        return scores


def degree_vectors(tokens: Float[Array, "p c"], options: DistanceOptions) -> list[Shaped[Array, "p c"]]:
    """Unit vectors of the patches of one image in one layer, for each degree."""
    return [aggregate(tokens[None], degree, options.grid, options.product_type)[0] for degree in options.degrees]


def image_vectors(layers: Sequence[Float[Array, "p c"]], options: DistanceOptions) -> Float[np.ndarray, "l r p c"]:
    """Unit vectors of the patches of one image, for each layer and degree."""
    return np.array([[np.asarray(x, np.float32) for x in degree_vectors(tokens, options)] for tokens in layers])


@partial(jax.jit, static_argnames="options")
def pool_scores(
    image: Sequence[Float[Array, "p c"]],
    vectors: Sequence[Shaped[Array, "r k c"]],
    squares: Float[Array, "l r k"],
    sharpness: Float[Array, "l r"],
    options: DistanceOptions,
) -> Float[Array, " p"]:
    """Distances of the patches of one image to a pool, averaged over degrees and layers.

    `image` has the patch tokens of each layer; the vectors are in the type of the products, `squares` are those of the
    pool's own scores, and `sharpness` is b of each layer and degree.
    """
    distances = []
    for tokens, layer, layer_squares, layer_sharpness in zip(image, vectors, squares, sharpness):
        for x, y, square, b in zip(degree_vectors(tokens, options), layer, layer_squares, layer_sharpness):
            # |x - y|^2 + s^2 = 2 - 2 (cos - s^2 / 2)
            cosines = inner_products(x, y, options.precision) - square / 2
            mean = logsumexp(b * cosines, axis=1) - jnp.log(cosines.shape[1])
            distances.append(cosine_to_distance(mean / b))
    return jnp.stack(distances).mean(axis=0)
