"""Tokens of drawn images, and the distances and maxima that every kernel has to compute of them."""

import jax.numpy as jnp
import numpy as np

from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.ring import pairwise_distances
from tests.support import reference

GRID = (5, 7)
DEGREES = (1, 3, 5)
BOUNDS = {"float32": 5e-6, "tf32": 2e-3, "bfloat16": 8e-3}
"""On squared distances, as `fused` states them."""


def draw(n=4, grid=GRID, c=24, seed=0):
    """Tokens with structure: neighbours are alike and one channel dominates, as in real backbones."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(n, *grid, c)).cumsum(axis=1) + rng.normal(size=(n, 1, 1, c))
    tokens[..., 0] += 5
    return tokens.reshape(n, -1, c).astype(np.float32)


def table(tokens, kernel="reuse", precision="float32", references=None, grid=GRID, degrees=DEGREES, pairs=1):
    options = DistanceOptions(kernel, degrees, grid, precision, pairs)
    references = np.arange(len(tokens)) if references is None else references
    return pairwise_distances(normalise(jnp.asarray(tokens)), options, references)


def expected(tokens, grid=GRID, degrees=DEGREES):
    return np.stack([reference.distances(reference.aggregate(tokens, r, grid)) for r in degrees])


def unit_vectors(n, p, c, seed=0, dtype=np.float32):
    vectors = np.random.default_rng(seed).normal(size=(n, p, c))
    vectors[..., 0] += 1.0
    return jnp.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype)


def assert_maxima(rows, columns, vectors, first, second):
    """Row and column maxima are those of the float64 products."""
    exact = np.asarray(vectors, np.float64)
    for b, (i, j) in enumerate(zip(first, second)):
        cosines = exact[i] @ exact[j].T
        np.testing.assert_allclose(rows[b], cosines.max(axis=1), atol=1e-6)
        np.testing.assert_allclose(columns[b], cosines.max(axis=0), atol=1e-6)
