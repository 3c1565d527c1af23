"""The memory plan of a run: what it needs, and what of it lives in files that are mapped into memory."""

import logging
import shutil
import tempfile
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import Config, StorageConfig
from codegraph_jax.core.arrays import COPIED_BYTES, GIB, in_memory, mapped
from codegraph_jax.core.environment import free_memory
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import Frame

logger = logging.getLogger(__name__)

SHARE_OF_FREE = 0.6
"""Of the memory that is free, how much a run takes without being told."""

COPIES = 2
"""Tables of one layer and degree in memory during the later stages: mean distances, twice where images are added."""

GRAPHS = 6
"""Matrices of one number for each two images that exist at once: links, weights, a shuffled graph, and their copies."""

COPIED_PARTS = 3
"""A part of the images, of that some references, and what is computed of it."""

COPIED_IMAGES = 16
"""Distances of one image that exist at once: four threads, each with a copy and what a partition makes of it."""


def feature_type(dtype: str, precision: str) -> np.dtype:
    """The type of the normalised patch tokens.

    Args:
        dtype: see `FeatureConfig.dtype`.
        precision: see `SimilarityConfig.precision`.
    """
    chosen = precision if dtype == "auto" else dtype
    return np.dtype(ml_dtypes.bfloat16 if chosen == "bfloat16" else np.float32)


@dataclass(frozen=True)
class MemoryPlan:
    """What a run needs, in bytes, and what of it goes to disk.

    Attributes:
        features: patch tokens of all layers.
        tables: distances of all layers.
        working: what is in memory in any case: one layer, prepared, the mean distances (twice where images are
            added), and the parts that the stages copy.
        limit: what may be in memory.
        directory: of the files.
        references: images that each image is compared with.
        table: distances of one layer and degree, a part of `tables`.
    """

    features: int
    tables: int
    working: int
    limit: int
    directory: str
    references: int
    table: int

    @property
    def tables_on_disk(self) -> bool:
        """Distances go first: they are larger, and written once and read a few times in order."""
        return self.features + self.tables + self.working > self.limit

    @property
    def kept(self) -> int:
        """Bytes that the run leaves where it keeps features and distances."""
        return self.features + self.tables

    @property
    def features_on_disk(self) -> bool:
        return self.features + self.working > self.limit

    def allocate_tables(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        return mapped(shape, dtype, self.directory) if self.tables_on_disk else in_memory(shape, dtype)

    def allocate_features(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        return mapped(shape, dtype, self.directory) if self.features_on_disk else in_memory(shape, dtype)

    def check(self, action: str) -> None:
        """Holds the estimate against what is free in memory and on disk.

        Args:
            action: `refuse` or `warn`, see `StorageConfig.check`.

        Raises:
            ConfigError: the run cannot fit, and `action` is `refuse`.
        """
        problem = self._problem()
        if problem and action == "refuse":
            raise ConfigError(f"{problem}. To try it all the same: --config.storage.check=warn")
        if problem:
            logger.warning("%s", problem)

    def _problem(self) -> str:
        """Why the run cannot fit, and what would help; empty where it can."""
        in_memory = self.working + (not self.tables_on_disk) * self.tables
        in_memory += (not self.features_on_disk) * self.features
        free = free_memory()
        if in_memory > free:
            # what does not grow with the references has to fit first
            growing = COPIES * self.table + (not self.tables_on_disk) * self.tables
            fewer = self.references * (free - in_memory + growing) // growing if growing else 0
            fewer_fit = f"config.similarity.references={fewer}, " if 1 < fewer < self.references else ""
            return (
                f"config.storage: the run needs about {in_memory / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are "
                f"free; {fewer_fit}a smaller config.backbone.image_size or fewer images may fit"
            )
        on_disk = self.tables_on_disk * self.tables + self.features_on_disk * self.features
        place = self.directory or tempfile.gettempdir()
        try:
            room = shutil.disk_usage(place).free
        except OSError:
            return ""  # the first file says it better
        if on_disk > room:
            return (
                f"config.storage.directory: the run needs {on_disk / GIB:.1f} GiB of files and {place!r} has "
                f"{room / GIB:.1f} GiB free; name a directory on a larger disk, or lower config.similarity.references"
            )
        return ""

    def __str__(self) -> str:
        parts = [("features", self.features, self.features_on_disk), ("distances", self.tables, self.tables_on_disk)]
        said = [f"{what} {size / GIB:.1f} GiB{' on disk' if disk else ''}" for what, size, disk in parts]
        return f"estimate of memory: {', '.join(said)}, work {self.working / GIB:.1f} GiB"


def plan_run(config: Config, backbone: Backbone, images: int, frame: Frame) -> MemoryPlan:
    """The estimate for a detection of so many images."""
    patches = frame.grid[0] * frame.grid[1]
    references = min(config.similarity.references or images, images)
    layers, degrees = len(backbone.blocks), len(config.features.degrees)
    dtype = feature_type(config.features.dtype, config.similarity.precision)
    size = (images, references, patches, backbone.preset.width, layers, degrees)
    # by the direct route, which is that within a radius, every degree has vectors of its own
    precision = feature_type("auto", config.similarity.precision)
    vectors = degrees * precision.itemsize / dtype.itemsize if config.similarity.radius else 1.0
    return plan_memory(config.storage, *size, dtype, vectors)


def plan_memory(
    config: StorageConfig,
    images: int,
    references: int,
    patches: int,
    channels: int,
    layers: int,
    degrees: int,
    dtype: DTypeLike = np.float32,
    vectors: float = 1.0,
) -> MemoryPlan:
    """The estimate for a set of one category, on this process.

    Args:
        config: how much memory, and where files go.
        images, references, patches, channels, layers, degrees: the sizes of the run.
        dtype: of the patch tokens.
        vectors: bytes of a layer as the kernel reads it, as a multiple of those of its tokens.
    """
    layer = np.dtype(dtype).itemsize * images * patches * channels
    table = 4 * images * references * patches
    limit = memory_limit(config)
    # the graph comes when the prepared layer is gone
    working = max(int((1 + vectors) * layer), GRAPHS * 4 * images**2) + COPIES * table
    working += COPIED_PARTS * COPIED_BYTES + COPIED_IMAGES * 4 * references * patches
    tables = layers * degrees * table
    return MemoryPlan(layers * layer, tables, working, limit, config.directory, references, table)


def memory_limit(config: StorageConfig) -> int:
    """Bytes of features and distances that may be in memory."""
    return int(config.memory_gib * GIB) or int(SHARE_OF_FREE * free_memory())
