"""All pairs of images through the tile kernel: the schedule, the progress and the table of distances."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.arrays import Allocate, in_memory
from codegraph_jax.core.environment import device_bytes
from codegraph_jax.core.progress import Progress
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.distributed.chunks import Chunks, OutOfMemory, is_out_of_memory
from codegraph_jax.similarity import fused, fused_gpu
from codegraph_jax.similarity.listing import PairListing, pairs_of_shards, pairs_within, split
from codegraph_jax.similarity.tiles import PatchSet, TileOptions, pair_distances, prepare

logger = logging.getLogger(__name__)

CHUNK_TILES = 96
"""Pairs a jitted call works through: enough to hide its 0.4 ms, few enough for the progress bar to move."""

MOST_TILES, TILE_BYTES = 8, 2**29
"""Tiles in one product on accelerators: so many, or as many as this memory holds; large images have large tiles."""

BLOCKS = 64
"""Blocks in one product on accelerators, where patches are compared within a radius."""

DEVICE_SHARE = 0.7
"""The part of a device's memory that the patches of a layer may take."""

ADVICE = "a smaller config.backbone.image_size, fewer images, or more devices may fit"


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs of images of which at least one is a reference.

    Attributes:
        listing: image indices (first, second), first < second, in ascending order.
        column: for each image its place among the references, -1 where it is none.
    """

    listing: PairListing
    column: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.listing)


def choose_references(keys: Sequence[bytes], limit: int) -> Int[np.ndarray, " m"]:
    """Indices of the images that serve as references, in ascending order: all, or `limit` of them.

    They are chosen by their content, as good as at random and yet the same in any order of the images: whatever
    alternates in a listing (views, cameras, shifts) has its share among them.

    Args:
        keys: digests of the images' pixels (`data.batches.image_key`).
        limit: 0 for all.
    """
    n = len(keys)
    if not limit or limit >= n:
        return np.arange(n)
    return np.sort(np.array(sorted(range(n), key=lambda i: keys[i])[:limit], np.int64))


def require_several(setting: str, references: int) -> None:
    """Refuses a number of references that cannot work; 0 stands for all.

    Raises:
        ConfigError: it is a single one, below 0 or no whole number.
    """
    if references == 1:
        raise ConfigError(f"config.{setting}: one reference cannot judge itself; give two or more")
    if not isinstance(references, int | np.integer) or references < 0:
        raise ConfigError(f"config.{setting}: {references!r} is no number of references; give two or more")


def schedule(n: int, references: Int[np.ndarray, " m"]) -> Pairs:
    """The pairs to compute: each once, since one tile serves both directions."""
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    return Pairs(pairs_within(n, np.sort(references)), column)


def schedule_length(n: int, references: int) -> int:
    """How many pairs there are of n images of which one at least is one of so many references."""
    return references * (references - 1) // 2 + references * (n - references)


def pick_kernel(kernel: str, precision: str) -> str:
    """`auto` becomes the fastest kernel that is known to work here (BENCHMARKS.md); `fused` the form for the device."""
    platform = jax.default_backend()
    if kernel == "fused" and fused_gpu.supported(precision):
        return "fused_gpu"
    if kernel == "fused" and not fused.supported(platform):
        logger.warning(
            "config.similarity.kernel: fused has no form for %s in %s on this %s; direct gives the same distances",
            platform, precision, jax.devices()[0].device_kind,
        )  # fmt: skip
        return "direct"
    if kernel != "auto":
        return kernel
    return "reuse" if platform == "cpu" else "direct"


def derives_degrees(config: SimilarityConfig) -> bool:
    """Whether one product of two images serves every degree, so that no degree has vectors of its own."""
    # asked of `fused`, the choice of a kernel warns where there is no such form
    return not (config.radius or config.kernel == "fused") and pick_kernel(config.kernel, config.precision) == "reuse"


def tile_options(
    config: SimilarityConfig, degrees: tuple[int, ...], grid: tuple[int, int], masked: bool = False
) -> TileOptions:
    """What the kernel is compiled for, from the configuration and the platform.

    Args:
        config: kernel, precision and radius.
        degrees: see `FeatureConfig`.
        grid: (h, w).
        masked: whether some patches do not count.
    """
    on_cpu = jax.default_backend() == "cpu"
    if config.radius:
        # a window as large as the grid is no saving, and the same
        radius = min(config.radius, max(grid))
        batch = 1 if on_cpu else BLOCKS
        return TileOptions("direct", degrees, grid, config.precision, batch, radius, masked)
    tile = 4 * (grid[0] * grid[1]) ** 2
    batch = 1 if on_cpu else max(1, min(MOST_TILES, TILE_BYTES // tile))
    kernel = pick_kernel(config.kernel, config.precision)
    if masked and kernel.startswith("fused"):
        # the hand-written kernels know no patches that do not count
        kernel = "direct"
    return TileOptions(kernel, degrees, grid, config.precision, batch, 0, masked)


def pairwise_distances(
    normalised: Float[Array | np.ndarray, "n p c"],
    options: TileOptions,
    references: Int[np.ndarray, " m"],
    progress: Progress = lambda pairs: None,
    allocate: Allocate = in_memory,
) -> Float[np.ndarray, "r n m p"]:
    """Distance of every patch of every image to every reference image, for each degree, of one layer.

    Args:
        normalised: patch tokens of one layer, see `features.normalise`; what a device cannot hold at once passes in
            blocks of images.
        options: kernel, degrees, grid and precision.
        references: indices of the images that serve as references.
        progress: called as pairs are done.
        allocate: makes the table.

    Raises:
        OutOfMemory: a device cannot hold the patches of two images.

    Returns:
        float32 distances in [0, 2] on the host; infinite where the reference is the image itself.
    """
    n, p, c = normalised.shape
    distances = allocate((len(options.degrees), n, len(references), p))
    distances.fill(np.inf)
    learnt, done = layers_at_once(options), 0

    def advance(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(pairs)

    most = n
    if room := device_bytes(jax.local_devices()[:1]):
        most = images_that_fit(room, n, p * c, normalised.dtype.itemsize, options)
    while True:
        most, done = min(most, learnt.images or n), 0
        blocks = -(-n // most)
        try:
            _fill_in_blocks(distances, normalised, references, blocks, options, advance)
            return distances
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if blocks == n:
                problem = "a device has too little memory for the patches of one image and those of another"
                raise OutOfMemory(f"{problem}; {ADVICE}") from error
        progress(-done)
        learnt.images = -(-n // min(2 * blocks, n))
        logger.warning("a device is out of memory with the patches of %d images; trying blocks of %d", n, learnt.images)


@dataclass
class LayersAtOnce:
    """Of how many images the patches fit, as a device that ran out of memory has taught; 0: none has."""

    images: int = 0


@lru_cache(maxsize=4)
def layers_at_once(options: TileOptions) -> LayersAtOnce:
    """Kept for the layers and categories that follow."""
    return LayersAtOnce()


def images_that_fit(room: int, n: int, numbers: int, itemsize: int, options: TileOptions) -> int:
    """Of how many images a device should hold the patches of a layer at once: all, or two blocks of so many.

    Args:
        room: bytes of the device.
        n: images.
        numbers: of an image's tokens.
        itemsize: bytes of such a number as it comes.
        options: say what the kernel keeps of it.
    """
    fitting = int(DEVICE_SHARE * room / image_bytes(numbers, itemsize, options))
    return n if n <= fitting else max(1, fitting // 2)


def image_bytes(numbers: int, itemsize: int, options: TileOptions) -> int:
    """Bytes of an image's tokens on a device, while they are made; arguments as for `images_that_fit`."""
    kept = (1 if options.kernel == "reuse" else len(options.degrees)) * (2 if options.precision == "bfloat16" else 4)
    # they exist in float32 beside what is given and what is kept
    return numbers * (itemsize + 4 + kept)


def _fill_in_blocks(
    distances: Float[np.ndarray, "r n m p"],
    normalised: Float[Array | np.ndarray, "n p c"],
    references: Int[np.ndarray, " m"],
    blocks: int,
    options: TileOptions,
    progress: Progress,
) -> None:
    """All pairs, the patches of two blocks of images being on the device at once; one block holds all images."""
    n = len(normalised)
    pairs = schedule(n, references)
    if blocks == 1:
        fill(distances, prepare(jnp.asarray(normalised), options), pairs, options, progress)
        return
    bounds = split(n, blocks)
    longest = int(np.diff(bounds).max())

    def block(k: int) -> PatchSet:
        some = np.asarray(normalised[bounds[k] : bounds[k + 1]])
        # blocks of one length, so that one program serves
        return prepare(jnp.asarray(np.pad(some, ((0, longest - len(some)), (0, 0), (0, 0)))), options)

    for a in range(blocks):
        left = block(a)
        for b in range(a, blocks):
            mine, theirs = ((int(bounds[k]), int(bounds[k + 1])) for k in (a, b))
            listing = pairs_of_shards(mine, theirs, references)
            if len(listing):
                right = left if a == b else block(b)
                places = mine[0], theirs[0]
                fill(distances, left, Pairs(listing, pairs.column), options, progress, right, places)


def fill(
    distances: Float[np.ndarray, "r n m p"],
    patches: PatchSet,
    pairs: Pairs,
    options: TileOptions,
    progress: Progress,
    others: PatchSet | None = None,
    places: tuple[int, int] = (0, 0),
) -> None:
    """Computes `pairs` and writes both directions of each into `distances`.

    Args:
        distances: the whole table.
        patches: of the first image of each pair.
        pairs: whose listing counts images within their blocks.
        options: see `TileOptions`.
        progress: called as pairs are done.
        others: patches of the second image; None: the same.
        places: where the two blocks begin in the table.
    """
    count = len(pairs)
    # blocks have the same size in all of their calls, so that one program serves; small ones less than a chunk
    longest = len(others.vectors[0]) ** 2 if others else count
    chunks = max(1, -(-longest // CHUNK_TILES))
    size = whole_batches(-(-longest // chunks), options.batch)
    in_chunks = pair_chunks(options)
    # Every call has the same size, so that one program serves; the last one repeats a pair to be full.
    waiting: tuple[slice, tuple[Array, Array]] | None = None
    for start in range(0, count, size):
        chosen = np.minimum(np.arange(start, start + size), count - 1)
        first, second = pairs.listing.at(chosen)
        pending = in_chunks(partial(_some_pairs, patches, others or patches, first, second, options), size)
        if waiting:
            _store(distances, pairs, places, *waiting, progress)
        waiting = slice(start, min(start + size, count)), pending
    if waiting:
        _store(distances, pairs, places, *waiting, progress)


@lru_cache(maxsize=4)
def pair_chunks(options: TileOptions) -> Chunks:
    """Kept, so that what one layer has learnt of a device's memory serves the next ones."""
    return Chunks("pairs of images", ADVICE)


def _some_pairs(
    left: PatchSet, right: PatchSet, first: np.ndarray, second: np.ndarray, options: TileOptions, part: slice
) -> tuple[Array, Array]:
    """Distances of a part of the pairs; a part that is smaller than a batch is one."""
    fitting = options._replace(batch=min(options.batch, part.stop - part.start))
    return pair_distances(left, right, first[part], second[part], fitting)


def whole_batches(pairs: int, batch: int) -> int:
    """`pairs`, rounded up so that no product has fewer pairs than the others: it might round its sums otherwise."""
    return -(-pairs // batch) * batch


def _store(
    distances: np.ndarray,
    pairs: Pairs,
    places: tuple[int, int],
    done: slice,
    tiles: tuple[Array, Array],
    progress: Progress,
) -> None:
    """Waits for a chunk and copies it to its places. The next chunk is computed meanwhile."""
    rows, columns = (np.asarray(side) for side in jax.device_get(tiles))
    valid = done.stop - done.start
    first, second = pairs.listing.at(np.arange(done.start, done.stop))
    store(distances, pairs.column, first + places[0], second + places[1], rows[:valid], columns[:valid])
    progress(valid)


def store(
    distances: Float[np.ndarray, "r n m p"],
    column: Int[np.ndarray, " n"],
    first: Int[np.ndarray, " b"],
    second: Int[np.ndarray, " b"],
    rows: Float[np.ndarray, "b r p"],
    columns: Float[np.ndarray, "b r p"],
) -> None:
    """Writes the distances of pairs of images, both ways, to their places; `column` as in `Pairs`."""
    for i, j, side in ((first, second, rows), (second, first, columns)):
        served = column[j] >= 0
        distances[:, i[served], column[j[served]]] = side[served].swapaxes(0, 1)
