"""Signatures: the appearance of a pattern in a few vectors, for recognition in other images [ours].

A verdict on a group must apply to the next batch too, where other images show the same pattern. A signature has
prototypes, the k-means centres of the patches that show the pattern (`scipy.cluster.vq`), and for each the median
distance to the nearest patch of images that do not show it. An image shows the pattern if some of its patches are
much closer to a prototype. Measured on one half of a set with prototypes from the other half:
benchmarks/log/recurring.md, "Signatures".
"""

import base64
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Bool, Float, Int8

from codegraph_jax.core.arrays import evenly
from codegraph_jax.core.transfers import to_host
from codegraph_jax.distributed import processes
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.features.features import Features
from codegraph_jax.features.on_device import tokens_of
from codegraph_jax.similarity.references import by_content

DEGREE = 3
"""Side of the neighbourhoods that vectors average; single patches are recognised less reliably."""
PROTOTYPES = 8
"""Number of prototypes; more overfit the members."""
MEMBER_QUANTILE, OUTSIDE_QUANTILE = 0.9, 0.03
"""The limit lies between the first quantile of images that show the pattern and the second quantile of other images; if
these overlap, at the second."""
MIN_PATCH_SHARE = 0.25
"""Minimum number of patches of an image that shows the pattern, as a share of the median number in a member."""
MAX_PATCHES, MAX_OUTSIDE = 4096, 100
"""Maximum numbers of patches behind the prototypes, and of other images for comparison; more change nothing."""
KMEANS_STEPS = 20
"""Iterations of k-means."""
CHUNK = 16
"""Number of images whose vectors are in memory at once."""
EPSILON = 1e-6
"""Lower bound of divisors."""


@dataclass(frozen=True)
class Signature:
    """Appearance of a pattern in the features of one backbone.

    Attributes:
        prototypes: directions of q vectors in each of l layers, as integers [q, l, c].
        outside_distances: median distance of each prototype to the nearest patch of images without the
            pattern [q].
        limit: greatest distance, as a share of the outside distance, of a patch that shows the pattern.
        min_patch_count: least number of such patches in an image that shows the pattern.
    """

    prototypes: Int8[np.ndarray, "q l c"]
    outside_distances: Float[np.ndarray, " q"]
    limit: float
    min_patch_count: int

    def prototype_ratios(self, vectors: Float[np.ndarray, "... p d"]) -> Float[np.ndarray, "... p"]:
        """Distance of patches (`patch_vectors`, d = l * c) to the nearest prototype, by the outside distance."""
        return (prototype_distances(vectors, unit_directions(self.prototypes)) / self.outside_distances).min(axis=-1)

    def match_mask(self, vectors: Float[np.ndarray, "b p d"]) -> Bool[np.ndarray, "b p"]:
        """Which patches of b images show the pattern; none in images with too few of them."""
        near = self.prototype_ratios(vectors) <= self.limit
        return near & (near.sum(axis=1, keepdims=True) >= self.min_patch_count)

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; `from_json` reads them."""
        return {
            "prototypes": base64.b64encode(self.prototypes.tobytes()).decode("ascii"),
            "shape": list(self.prototypes.shape),
            "outside_distances": [float(value) for value in self.outside_distances],
            "limit": float(self.limit),
            "min_patch_count": self.min_patch_count,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Signature":
        """Reads the values of `as_json`; malformed ones raise KeyError, TypeError or ValueError."""
        q, layers, channels = (int(size) for size in values["shape"])
        numbers = np.frombuffer(base64.b64decode(values["prototypes"], validate=True), np.int8)
        outside, limit = np.asarray(values["outside_distances"], np.float32), float(values["limit"])
        min_patch_count = int(values["min_patch_count"])
        positive = min(q, layers, channels, min_patch_count) > 0 and (outside > 0).all() and 0 < limit < np.inf
        if not positive or outside.shape != (q,):
            raise ValueError("inconsistent values of a signature")
        return cls(numbers.reshape(q, layers, channels), outside, limit, min_patch_count)


def patch_vectors(layers: Sequence[Any], grid: tuple[int, int]) -> Float[np.ndarray, "b p d"]:
    """Unit vectors of all patches of b images: concatenated layers, each from tokens [b, p, c].

    Vectors of patches that are not inspected, whose tokens are 0, are 0.
    """
    parts = [to_host(_pattern_vectors(jnp.asarray(tokens), grid)) for tokens in layers]
    return np.concatenate(parts, axis=-1) / np.float32(np.sqrt(len(parts)))


@partial(jax.jit, static_argnames="grid")
def _pattern_vectors(tokens: Float[Array, "b p c"], grid: tuple[int, int]) -> Float[Array, "b p c"]:
    return aggregate(tokens, DEGREE, grid) * (tokens != 0).any(axis=-1, keepdims=True)


def recognise_all(signatures: Sequence[Signature], features: Features) -> Bool[np.ndarray, "s n p"]:
    """Which patches of all images show each pattern; the same in every process."""
    masks = [
        np.stack([signature.match_mask(vectors) for signature in signatures], axis=1)
        for _, vectors in _in_chunks(features, range(len(features.kept)))
    ]
    return processes.gather_parts(masks, (len(signatures), features.grid[0] * features.grid[1]), bool).swapaxes(0, 1)


def make_signatures(
    features: Features, groups: Sequence[Sequence[int]], member_patches: Bool[np.ndarray, "n p"]
) -> list[Signature | None]:
    """The signature of each group; None if fewer than two members show the pattern or all images are members.

    The n images of the set come first in `features`; `member_patches` show the pattern of their group.
    """
    ordered = by_content(range(len(member_patches)), features.keys)
    taken = {i for members in groups for i in members}
    others = [i for i in ordered if i not in taken]
    outside = [others[k] for k in evenly(len(others), MAX_OUTSIDE)]
    showing = [[i for i in ordered if i in members and member_patches[i].any()] for members in map(set, groups)]
    patches = [
        patches_of(features, members, member_patches) if outside and len(members) > 1 else None for members in showing
    ]
    signatures = iter(_signatures([vectors for vectors in patches if vectors], features, outside))
    return [next(signatures) if vectors else None for vectors in patches]


def _signatures(
    groups: Sequence[Sequence[Float[np.ndarray, "k l c"]]],
    features: Features,
    outside: Sequence[int],
) -> list[Signature]:
    """The signatures of groups, from the patches by which each member shows the pattern.

    The distance of prototypes to new images is measured by cross-validation: prototypes of one half of the members are
    compared with the other half. All groups share two passes over the images outside, for outside distances and for
    limits.
    """
    if not groups:
        return []
    halves = [(members[::2], members[1::2]) for members in groups]
    subsets = [subset for members, split in zip(groups, halves) for subset in (members, *split)]
    drafts = _without_limits(subsets, features, outside)
    of_groups, of_first_halves, of_second_halves = drafts[::3], drafts[1::3], drafts[2::3]

    def reached_outside(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " s"]:
        return np.array([least_limit(draft, vectors, draft.min_patch_count) for draft in of_groups])

    outside_limits = np.maximum(
        np.quantile(measure_images(features, outside, reached_outside), OUTSIDE_QUANTILE, axis=0), EPSILON
    )
    signatures = []
    for draft, of_first, of_second, (first, second), of_outside in zip(
        of_groups, of_first_halves, of_second_halves, halves, outside_limits, strict=True
    ):
        reached = [
            least_limit(of_half, member.reshape(len(member), -1), draft.min_patch_count)
            for of_half, held_out in ((of_first, second), (of_second, first))
            for member in held_out
        ]
        of_members = max(float(np.quantile(reached, MEMBER_QUANTILE)), EPSILON)
        signatures.append(replace(draft, limit=float(min(of_outside, np.sqrt(of_members * of_outside)))))
    return signatures


def _without_limits(
    subsets: Sequence[Sequence[Float[np.ndarray, "k l c"]]],
    features: Features,
    outside: Sequence[int],
) -> list[Signature]:
    """The signatures of subsets of members, with 1 in place of the limit."""
    # no more prototypes than images, so that none represents a single patch
    prototypes = [prototypes_of(members, min(PROTOTYPES, len(members))) for members in subsets]
    directions = np.concatenate([unit_directions(centres) for centres in prototypes])
    least = measure_images(features, outside, lambda vectors: prototype_distances(vectors, directions).min(axis=0))
    medians = np.maximum(np.median(least, axis=0), EPSILON).astype(np.float32)
    outside_distances = np.split(medians, np.cumsum([len(centres) for centres in prototypes])[:-1])
    counts = [max(1, int(MIN_PATCH_SHARE * np.median([len(member) for member in members]))) for members in subsets]
    return [
        Signature(centres, distances, 1.0, count)
        for centres, distances, count in zip(prototypes, outside_distances, counts, strict=True)
    ]


def least_limit(signature: Signature, vectors: Float[np.ndarray, "p d"], patch_count: int) -> float:
    """The least limit at which `patch_count` patches of an image show the pattern, or all if it has fewer."""
    ratios, k = signature.prototype_ratios(vectors), min(patch_count, len(vectors))
    return float(np.partition(ratios, k - 1)[k - 1])


def prototypes_of(members: Sequence[Float[np.ndarray, "k l c"]], max_count: int) -> Int8[np.ndarray, "q l c"]:
    """Directions of the k-means centres of patches, at most `max_count`; q <= max_count."""
    patches = np.concatenate(list(members))
    flat = patches.reshape(len(patches), -1)
    with warnings.catch_warnings():
        # identical patches leave some clusters empty, which is harmless
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        centres, _ = scipy.cluster.vq.kmeans2(flat, min(max_count, len(flat)), iter=KMEANS_STEPS, minit="++", seed=0)
    directions = centres.reshape(len(centres), *patches.shape[1:])
    largest = np.maximum(np.abs(directions).max(axis=-1, keepdims=True), EPSILON)
    return np.round(directions / largest * np.iinfo(np.int8).max).astype(np.int8)


def unit_directions(prototypes: Int8[np.ndarray, "q l c"]) -> Float[np.ndarray, "q d"]:
    """Prototypes as unit vectors, with the same weight for each layer."""
    layers = prototypes.astype(np.float32)
    layers /= np.maximum(np.linalg.norm(layers, axis=-1, keepdims=True), EPSILON)
    return layers.reshape(len(layers), -1) / np.float32(np.sqrt(layers.shape[1]))


def prototype_distances(
    vectors: Float[np.ndarray, "... p d"], directions: Float[np.ndarray, "q d"]
) -> Float[np.ndarray, "... p q"]:
    """Cosine distance of each patch to each prototype."""
    return np.maximum(1 - vectors @ directions.T, 0)


def measure_images(
    features: Features,
    images: Sequence[int],
    measure: Callable[[Float[np.ndarray, "p d"]], Float[np.ndarray, " x"]],
) -> Float[np.ndarray, "o x"]:
    """Results of `measure` on the vectors of each image, in any order; the same in every process."""
    results = [measure(vectors) for _, chunk in _in_chunks(features, images) for vectors in chunk]
    return processes.gather_rows(np.array(results, np.float32) if results else np.zeros((0, 0), np.float32))


def patches_of(
    features: Features, members: Sequence[int], member_patches: Bool[np.ndarray, "n p"]
) -> list[Float[np.ndarray, "k l c"]]:
    """Vectors of the patches by which each member shows the pattern; the same in every process."""
    per_member = -(-MAX_PATCHES // len(members))
    showing = {i: np.flatnonzero(member_patches[i]) for i in members}
    chosen = {i: patches[evenly(len(patches), per_member)] for i, patches in showing.items()}
    layers = len(features.layers)
    local_vectors: dict[int, np.ndarray] = {}
    for images, vectors in _in_chunks(features, members):
        local_vectors |= {i: vectors[index][chosen[i]] for index, i in enumerate(images)}
    width = sum(layer.shape[-1] for layer in features.layers)
    rows = processes.gather_parts(local_vectors.values(), (width,))
    order = [i for of_process in processes.gather(list(local_vectors)) for i in of_process]
    pieces = np.split(rows, np.cumsum([len(chosen[i]) for i in order])[:-1])
    by_image = dict(zip(order, pieces))
    return [by_image[i].reshape(len(chosen[i]), layers, -1) for i in members]


def _in_chunks(features: Features, images: Sequence[int]) -> Iterator[tuple[list[int], Float[np.ndarray, "b p d"]]]:
    """Yields (images, their vectors), a few at a time, for the images whose features this process holds."""
    local = [i for i in images if i in features.local]
    for start in range(0, len(local), CHUNK):
        chunk = local[start : start + CHUNK]
        # devices return padded batches
        tokens = [tokens_of(layer, np.array(chunk) - features.local.start) for layer in features.layers]
        yield chunk, patch_vectors(tokens, features.grid)[: len(chunk)]
