"""Finds mixed products in a set, in which every image of the rarer product would be anomalous [ours].

Two groups of images show two products (or two views, with the same effect) if a gap separates them: all images are
clearly closer to their own group than any image of one group is to any of the other. Patch tokens are averaged over a
4 x 4 grid, and each cell is compared with the most similar cell of the other image. Images of two products differ in at
least 4 of 16 cells; defects and harmless variants change 1 or 2.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from codegraph_jax.config import DataConfig
from codegraph_jax.core.arrays import arrays_at_once
from codegraph_jax.core.progress import bar
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed import processes
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.features import Features
from codegraph_jax.features.on_device import weighted_tokens
from codegraph_jax.features.reading import measure_range
from codegraph_jax.similarity.references import choose_references

PREVIEW_SIDE = 8
"""Side in patches of the small copies of photos in which products are looked for before a run."""
CELLS_PER_SIDE = 4
"""Cells of an image along each side."""
MIN_CHANGED_CELLS = 4
"""Minimum number of cells in which images of two products differ."""
COMPARED_IMAGES = 128
"""Number of images that are compared with each other; the others are assigned to their groups."""
MIN_IMAGES, MIN_SHARE = 5, 0.05
"""Minimum number, and least share, of the images of a product; smaller groups are outliers, possibly defects."""
NEIGHBOUR_RANK = 2
"""Rank of the nearest image that gives the distance of an image to its group; the first may show the same part."""
MIN_GAP_RATIO = 1.2
"""Minimum distance between images of two products, in units of the greatest distance of an image to its own group.
Measured: 108 of 112 mixes of two products were separated correctly; subsets of one product were never split, except 4
of 100 of two products that lie in a few rotated positions (benchmarks/log/recurring.md, "Mixed products")."""
MAX_CLUSTERS = 12
"""Maximum number of clusters, outliers included, in the search for two large ones."""


def find_products(features: Features, set_size: int) -> Int[np.ndarray, " n"]:
    """The product of each image, 0 for the most frequent one; all 0 for a single product.

    Only the images of the set, which come first, form groups. This process may hold the features of a part of the
    images.
    """
    local, sample = features.local, choose_references(features.keys[:set_size], COMPARED_IMAGES)
    local_sample = np.array([i for i in sample.tolist() if i in local], int) - local.start
    sample_cells = processes.gather_rows(coarse_cells(features, local_sample))
    groups = separate(cell_distances(sample_cells, sample_cells))
    if len(groups) == 1:
        return np.zeros(len(features.kept), int)
    size = arrays_at_once(4 * sample_cells[0].size + 4 * sample_cells.shape[1] * sample_cells.shape[2] * len(sample))
    labels = []
    for start in range(0, len(local), size):
        cells = coarse_cells(features, np.arange(start, min(start + size, len(local))))
        distances = cell_distances(cells, sample_cells)
        labels.append(np.stack([distances[:, group].mean(axis=1) for group in groups]).argmin(axis=0))
    products = processes.gather_parts(labels, (), int)
    order = np.argsort(-np.bincount(products[:set_size], minlength=len(groups)), kind="stable")
    return np.argsort(order)[products]


def products_of(
    extractor: Extractor, config: DataConfig, images: Sequence[Sample], progress: bool
) -> Int[np.ndarray, " n"]:
    """The product of each image, from small copies of the images; 0 for images that cannot be read."""
    patch_size = extractor.backbone.patch_size
    preview = extractor.with_frame(Frame.squeezed(PREVIEW_SIDE * patch_size, patch_size))
    value_range, _ = measure_range(config, images)
    with bar(len(images), "products", "photo", progress) as advance:
        features = preview.extract(images, advance=advance, value_range=value_range)
    products = np.zeros(len(images), int)
    if len(features.kept):
        products[features.kept] = find_products(features, len(features.kept))
    return products


def coarse_cells(features: Features, images: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k l q c"]:
    """Patch tokens of some images of this process, averaged over q = 4 x 4 cells, of unit length in each layer."""
    inspected = features.placement.inspected[features.local.start + images]
    cells = [_cell_weights(patches.reshape(features.grid)) for patches in inspected]
    weights = np.array(cells).reshape(len(images), CELLS_PER_SIDE * CELLS_PER_SIDE, inspected.shape[1])
    means = np.stack([weighted_tokens(layer, images, weights) for layer in features.layers], axis=1)
    return means / np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), np.float32(1e-12))


def _cell_weights(inspected: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "q p"]:
    """The patches of each cell, as weights 0 or 1; in grids smaller than 4 x 4, cells share patches.

    The bounding box of the inspected patches is divided into cells.
    """
    weights = np.zeros((CELLS_PER_SIDE, CELLS_PER_SIDE, *inspected.shape), np.float32)
    ends = [(0, side) for side in inspected.shape]
    if inspected.any():
        ends = [
            (int(found[0]), int(found[-1]) + 1) for found in map(np.flatnonzero, (inspected.any(1), inspected.any(0)))
        ]
    rows, columns = (np.linspace(*both, CELLS_PER_SIDE + 1).astype(int) for both in ends)
    for i in range(CELLS_PER_SIDE):
        for j in range(CELLS_PER_SIDE):
            weights[i, j, rows[i] : max(rows[i + 1], rows[i] + 1), columns[j] : max(columns[j + 1], columns[j] + 1)] = 1
    return weights.reshape(CELLS_PER_SIDE * CELLS_PER_SIDE, -1)


def cell_distances(a: Float[np.ndarray, "n l q c"], b: Float[np.ndarray, "m l q c"]) -> Float[np.ndarray, "n m"]:
    """Distances of images: the fourth greatest distance of a cell to the most similar cell of the other image.

    Distances of cells are averaged over layers, and the result over both directions.
    """
    forth = np.zeros((len(a), len(b), a.shape[2]), np.float32)
    back = np.zeros_like(forth)
    layers = a.shape[1]
    for layer in range(layers):
        right = b[:, layer].reshape(-1, b.shape[-1])
        for i, image in enumerate(a[:, layer]):
            cosines = (image @ right.T).reshape(len(image), len(b), -1)
            forth[i] += (1 - cosines.max(axis=2).T) / layers
            back[i] += (1 - cosines.max(axis=0)) / layers
    chosen = CELLS_PER_SIDE * CELLS_PER_SIDE - MIN_CHANGED_CELLS
    total = (np.partition(forth, chosen, axis=2) + np.partition(back, chosen, axis=2))[:, :, chosen]
    return np.maximum(total / 2, 0)


def separate(distances: Float[np.ndarray, "m m"]) -> list[Int[np.ndarray, " g"]]:
    """The groups of images of one product each, the largest first."""
    return sorted(_split_groups(distances, np.arange(len(distances))), key=len, reverse=True)


def _split_groups(distances: Float[np.ndarray, "m m"], images: Int[np.ndarray, " k"]) -> list[Int[np.ndarray, " g"]]:
    """Splits some of the images recursively while there is a gap."""
    halves = _split(distances[np.ix_(images, images)], max(MIN_IMAGES, int(np.ceil(MIN_SHARE * len(distances)))))
    if halves is None:
        return [images]
    return [group for half in halves for group in _split_groups(distances, images[half])]


def _split(
    distances: Float[np.ndarray, "k k"], min_images: int
) -> tuple[Int[np.ndarray, " g"], Int[np.ndarray, " g"]] | None:
    """Two groups of all images with a gap between them; None without a gap."""
    count = len(distances)
    if count < 2 * min_images:
        return None
    between = (distances + distances.T) / 2
    np.fill_diagonal(between, 0)
    tree = scipy.cluster.hierarchy.linkage(scipy.spatial.distance.squareform(between, checks=False), "average")
    for clusters in range(2, min(count, MAX_CLUSTERS)):
        labels = scipy.cluster.hierarchy.fcluster(tree, clusters, "maxclust")
        sizes = np.bincount(labels)
        large = np.flatnonzero(sizes >= min_images)
        if len(large) >= 2:
            break
    else:
        return None
    # outliers in small clusters are ignored here and assigned to the nearer group below
    first, second = (np.flatnonzero(labels == k) for k in large[np.argsort(-sizes[large], kind="stable")][:2])
    isolation = max(_isolation(between, group) for group in (first, second))
    if between[np.ix_(first, second)].min() <= MIN_GAP_RATIO * isolation:
        return None
    nearer = between[:, first].mean(axis=1) <= between[:, second].mean(axis=1)
    return np.flatnonzero(nearer), np.flatnonzero(~nearer)


def _isolation(distances: Float[np.ndarray, "k k"], group: Int[np.ndarray, " g"]) -> float:
    """The greatest distance of an image to its own group."""
    # the first of the sorted distances is to the image itself
    return float(np.sort(distances[np.ix_(group, group)], axis=1)[:, NEIGHBOUR_RANK].max())
