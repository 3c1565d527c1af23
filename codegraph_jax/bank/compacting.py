"""Makes the pool of a compact bank from a run, and scores the images of the run by held-out pools."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.bank.pool import Pool, image_vectors
from codegraph_jax.bank.thinning import DIMENSIONS, projected, thin
from codegraph_jax.distributed import processes
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import by_content

FOLDS = 4
"""Number of folds; an image is scored by a pool from the other folds, since its own patches would lower its score."""
MAX_CANDIDATES = 1 << 17
"""Maximum number of candidates for a pool; beyond it, an equal number is drawn at random from each image."""


@dataclass(frozen=True)
class Candidates:
    """The patches of a set that may enter a pool (`allowed`), with their scores in each layer and degree."""

    comparison: Comparison
    options: DistanceOptions
    scores: list[Float[np.ndarray, "r n p"]]
    allowed: Bool[np.ndarray, "n p"]

    def pool(self, max_patches: int, excluded: Bool[np.ndarray, " n"] | None = None) -> Pool:
        """The pool of the most representative patches, at most `max_patches`; the same in every process.

        `excluded` are images whose patches are not used.
        """
        images = self._candidates[:, 0]
        usable = np.arange(len(images)) if excluded is None else np.flatnonzero(~excluded[images])
        chosen = np.sort(usable[thin(self._vectors[usable], self._squares[usable], max_patches)])
        images, patches = self._candidates[chosen].T
        own_scores = np.stack([layer[:, images, patches] for layer in self.scores])
        parts = (
            vectors[:, :, patches[images == i]].transpose(2, 0, 1, 3)
            for i, vectors in self._of_images(np.unique(images))
        )
        layers, degrees, count = own_scores.shape
        channels = self.comparison.features.layers[0].shape[-1]
        gathered = processes.gather_parts(parts, (layers, degrees, channels))
        return Pool(
            self.options, list(gathered.transpose(1, 2, 0, 3)), own_scores.astype(np.float32), np.zeros(count, int)
        )

    def held_out_scores(self, max_patches: int) -> Float[np.ndarray, "n p"]:
        """Patch scores of the set; each image is scored by a pool from other images."""
        images, keys = len(self.allowed), self.comparison.features.keys
        folds = np.zeros(images, int)
        folds[by_content(range(images), keys)] = np.arange(images) % min(FOLDS, images)
        inspected = self.comparison.features.placement.inspected
        scores = {}
        for fold in range(int(folds.max()) + 1):
            pool = self.pool(max_patches, folds == fold)
            for i, tokens in self._tokens(np.flatnonzero(folds == fold)):
                scores[i] = pool.scores(tokens, inspected[i])
        return processes.gather_parts([scores[i][None] for i in sorted(scores)], self.allowed.shape[1:])

    @cached_property
    def _candidates(self) -> Int[np.ndarray, "m 2"]:
        """Image and patch of each candidate, in ascending order."""
        per_image = max(1, MAX_CANDIDATES // max(1, len(self.allowed)))
        candidates = []
        for i, allowed in enumerate(self.allowed):
            patches = np.flatnonzero(allowed)
            if len(patches) > per_image:
                seed = int.from_bytes(self.comparison.features.keys[i][:8], "little")
                patches = np.sort(np.random.default_rng(seed).permutation(patches)[:per_image])
            candidates.append(np.stack([np.full(len(patches), i), patches], axis=1))
        return np.concatenate(candidates)

    @cached_property
    def _squares(self) -> Float[np.ndarray, " m"]:
        """Mean square of each candidate's scores."""
        images, patches = self._candidates.T
        squares = [np.square(layer[:, images, patches]).mean(axis=0) for layer in self.scores]
        return np.asarray(np.mean(squares, axis=0))

    @cached_property
    def _vectors(self) -> Float[np.ndarray, "m e"]:
        """Vectors of the candidates: all degrees and layers concatenated, then projected."""
        images, patches = self._candidates.T
        rows = (projected(vectors[:, :, patches[images == i]]) for i, vectors in self._of_images(np.unique(images)))
        width = len(self.scores) * len(self.options.degrees) * self.comparison.features.layers[0].shape[-1]
        return processes.gather_parts(rows, (min(width, DIMENSIONS),))

    def _tokens(self, images: Int[np.ndarray, " b"]) -> Iterator[tuple[int, list[Float[Array, "p c"]]]]:
        """(image, patch tokens in each layer) of the given images that this process holds."""
        features = self.comparison.features
        for i in (i for i in images.tolist() if i in features.local):
            yield i, [jnp.asarray(layer[i - features.local.start]) for layer in features.layers]

    def _of_images(self, images: Int[np.ndarray, " b"]) -> Iterator[tuple[int, Float[np.ndarray, "l r p c"]]]:
        """(image, vectors) of the given images that this process holds."""
        for i, layers in self._tokens(images):
            yield i, image_vectors(layers, self.options)
