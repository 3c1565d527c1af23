"""Whether a set shows more than one product, which makes every image of the rarer one anomalous [ours].

Two groups of images show two products (or two views, which is as bad) where no image of one is nearly as close to any
of the other as every image is to its own group. The measure is coarse: patch tokens averaged over a 4 x 4 grid, each
part held against the most similar part of the other image wherever that lies, and what counts is that four of sixteen
parts differ. Defects and harmless variants change a part or two.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from codegraph_jax.config import DataConfig
from codegraph_jax.core.arrays import at_once
from codegraph_jax.core.progress import bar
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.images import Source
from codegraph_jax.distributed import processes
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.features import Features
from codegraph_jax.features.on_device import weighted_tokens
from codegraph_jax.features.reading import measure_range
from codegraph_jax.similarity.pairwise import choose_references

LOOK = 8
"""Patches along the side of the small copies by which products are told apart before a run."""
SIDE = 4
"""Parts of an image along each side."""
CHANGED = 4
"""Parts in which images of two products differ at least."""
SAMPLE = 128
"""Images that are compared all with all; the others are told by these."""
LEAST, LEAST_SHARE = 5, 0.05
"""Images, and share of the images, that a product has at least: fewer are outliers, which is what a defect is."""
NEIGHBOURS = 2
"""Which of its group's nearest images says how close an image is to its group; the nearest may be of the same part."""
GAP = 1.2
"""Least distance between images of two products, in units of the greatest distance of an image to its own group.
Measured: 108 of 112 mixes of two products were parted without a fault; of subsets of one product none, but 4 of 100 of
two products that lie in a few turned positions (benchmarks/log/recurring.md, "Mixed products")."""
MOST_CUTS = 12


def find_products(features: Features, grid: tuple[int, int], own: int) -> Int[np.ndarray, " n"]:
    """Which product each image shows: 0 for the most frequent one, and nothing but 0 where all show the same.

    Args:
        features: of n images, some of which this process has.
        grid: (h, w) of the patches.
        own: the first so many images are the set; others are told by them.
    """
    mine, sample = features.own, choose_references(features.keys[:own], SAMPLE)
    held = np.array([i for i in sample.tolist() if i in mine], int) - mine.start
    parts = processes.gather_rows(coarse_parts(features, grid, held))
    groups = separate(part_distances(parts, parts))
    if len(groups) == 1:
        return np.zeros(len(features.kept), int)
    size = at_once(4 * parts[0].size + 4 * parts.shape[1] * parts.shape[2] * len(sample))
    labels = [np.zeros(0, int)]
    for first in range(0, len(mine), size):
        distances = part_distances(coarse_parts(features, grid, np.arange(first, min(first + size, len(mine)))), parts)
        labels.append(np.stack([distances[:, group].mean(axis=1) for group in groups]).argmin(axis=0))
    found = processes.gather_rows(np.concatenate(labels))
    order = np.argsort(-np.bincount(found[:own], minlength=len(groups)), kind="stable")
    return np.argsort(order)[found]


def products_of(
    extractor: Extractor, config: DataConfig, images: Sequence[Source], progress: bool
) -> Int[np.ndarray, " n"]:
    """Which product each image shows, from a look at small copies; 0 for images that cannot be read.

    Args:
        extractor, config: of the run.
        images: files, arrays or Pillow images.
        progress: show a bar on standard error.
    """
    patch = extractor.backbone.preset.patch_size
    look, (value_range, _) = extractor.with_frame(Frame.squeezed(LOOK * patch, patch)), measure_range(config, images)
    with bar(len(images), "first look", "image", progress) as advance:
        features = look.extract(images, progress=advance, value_range=value_range)
    found = np.zeros(len(images), int)
    if len(features.kept):
        found[features.kept] = find_products(features, (LOOK, LOOK), len(features.kept))
    return found


def coarse_parts(
    features: Features, grid: tuple[int, int], images: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k l q c"]:
    """Patch tokens of some images of this process, averaged over q = 4 x 4 parts, of unit length in each layer."""
    weights, judged, start = _part_weights(grid), features.placement.judged, features.own.start
    given = [weights if judged is None else _part_weights(grid, judged[start + i].reshape(grid)) for i in images]
    of_image = np.array(given).reshape(-1, *weights.shape)
    parts = np.stack([weighted_tokens(layer, images, of_image) for layer in features.layers], axis=1)
    length = np.linalg.norm(parts, axis=-1, keepdims=True)
    return parts / np.maximum(length, np.float32(1e-12))


def _part_weights(grid: tuple[int, int], judged: Bool[np.ndarray, "h w"] | None = None) -> Float[np.ndarray, "q p"]:
    """Which patches belong to which part; a grid of fewer patches than parts repeats some.

    Args:
        grid: (h, w).
        judged: the patches that count; the parts are those of the least box around them. None: all.
    """
    weights = np.zeros((SIDE, SIDE, *grid), np.float32)
    ends = [(0, side) for side in grid]
    if judged is not None and judged.any():
        ends = [(int(found[0]), int(found[-1]) + 1) for found in map(np.flatnonzero, (judged.any(1), judged.any(0)))]
    rows, columns = (np.linspace(*both, SIDE + 1).astype(int) for both in ends)
    for i in range(SIDE):
        for j in range(SIDE):
            weights[i, j, rows[i] : max(rows[i + 1], rows[i] + 1), columns[j] : max(columns[j + 1], columns[j] + 1)] = 1
    return weights.reshape(SIDE * SIDE, -1)


def part_distances(a: Float[np.ndarray, "n l q c"], b: Float[np.ndarray, "m l q c"]) -> Float[np.ndarray, "n m"]:
    """How different images are: the mean over layers of each part's distance to the most similar part of the other
    image, of which the fourth greatest counts; the mean of both directions."""
    forth = np.zeros((len(a), len(b), a.shape[2]), np.float32)
    back = np.zeros_like(forth)
    layers = a.shape[1]
    for layer in range(layers):
        right = b[:, layer].reshape(-1, b.shape[-1])
        for i, image in enumerate(a[:, layer]):
            cosines = (image @ right.T).reshape(len(image), len(b), -1)
            forth[i] += (1 - cosines.max(axis=2).T) / layers
            back[i] += (1 - cosines.max(axis=0)) / layers
    # a defect or a variant changes a part or two, another product a quarter of them at least
    chosen = SIDE * SIDE - CHANGED
    total = (np.partition(forth, chosen, axis=2) + np.partition(back, chosen, axis=2))[:, :, chosen]
    return np.maximum(total / 2, 0)


def separate(distances: Float[np.ndarray, "m m"]) -> list[Int[np.ndarray, " g"]]:
    """The groups of images that show one product each, the largest first; one group where there is no gap."""
    return sorted(_parted(distances, np.arange(len(distances))), key=len, reverse=True)


def _parted(distances: Float[np.ndarray, "m m"], images: Int[np.ndarray, " k"]) -> list[Int[np.ndarray, " g"]]:
    """The same of some of the images."""
    halves = _halves(distances[np.ix_(images, images)], max(LEAST, int(np.ceil(LEAST_SHARE * len(distances)))))
    if halves is None:
        return [images]
    return [group for half in halves for group in _parted(distances, images[half])]


def _halves(
    distances: Float[np.ndarray, "k k"], least: int
) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " g"]] | None:
    """Two groups with a gap between them, every image in one; None where there is no such gap."""
    count = len(distances)
    if count < 2 * least:
        return None
    between = (distances + distances.T) / 2
    np.fill_diagonal(between, 0)
    tree = linkage(squareform(between, checks=False), "average")
    for clusters in range(2, min(count, MOST_CUTS)):
        labels = fcluster(tree, clusters, "maxclust")
        sizes = np.bincount(labels)
        large = np.flatnonzero(sizes >= least)
        if len(large) >= 2:
            break
    else:
        return None
    # outliers belong to neither, and say nothing of the gap
    first, second = (np.flatnonzero(labels == k) for k in large[np.argsort(-sizes[large], kind="stable")][:2])
    if between[np.ix_(first, second)].min() <= GAP * max(_loneliest(between, group) for group in (first, second)):
        return None
    nearer = between[:, first].mean(axis=1) <= between[:, second].mean(axis=1)
    return np.flatnonzero(nearer), np.flatnonzero(~nearer)


def _loneliest(distances: Float[np.ndarray, "k k"], group: Int[np.ndarray, " g"]) -> float:
    """The greatest distance of an image to its own group."""
    # the first of the sorted distances is that to itself
    return float(np.sort(distances[np.ix_(group, group)], axis=1)[:, NEIGHBOURS].max())
