"""The slow half of one category as far as it has come: features of images, and distances of whole layers."""

import logging
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from codegraph_jax.backbones import Backbone
from codegraph_jax.core.arrays import Allocate
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import DamagedTensors, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.stores import BatchFeatures, ImageFeatures
from codegraph_jax.resume.budget import Budget
from codegraph_jax.similarity.comparison import LayerTable

logger = logging.getLogger(__name__)


class PartialRun:
    """Keeps and finds again what `CoDeGraph.compare` computes. All of it is keyed by the pixels of the images.

    Attributes:
        found_images, found_layers: what did not have to be computed again.
    """

    def __init__(
        self,
        directory: Path,
        backbone: Backbone,
        frame: Frame,
        keep_features: bool,
        dtype: DTypeLike = np.float32,
        at_any_cost: bool = False,
    ):
        """
        Args:
            directory: of one run with its settings; made here.
            backbone: of the run.
            frame: how photographs become grids of patches.
            keep_features: off where `config.data.cache` keeps them anyway.
            dtype: of the patch tokens.
            at_any_cost: all is kept, whatever time it takes.
        """
        self._directory, self._budget = directory, Budget(directory, at_any_cost)
        self._features: FeatureCache | None = None
        self._resumed = directory.is_dir()
        self.found_images = self.found_layers = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if keep_features:
                self._features = FeatureCache(str(directory / "features"), backbone, frame, dtype)
        except (OSError, ConfigError) as error:
            self._budget.close(error)

    def find(self, keys: Sequence[bytes]) -> list[ImageFeatures | None]:
        """The features of a batch, none unless all are there: in another batch an image might round differently."""
        nothing: list[ImageFeatures | None] = [None] * len(keys)
        if not self._features or not self._resumed:
            return nothing
        found = self._features.find(keys)
        if any(entry is None for entry in found):
            return nothing
        self.found_images += len(found)
        return found

    def keep(self, places: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Keeps the features of a batch, if that costs little."""
        size = sum(layer.nbytes for layer in (*features.layers, features.image_features))
        if self._features and self._budget.allows("features", size):
            with self._budget.spend("features"):
                self._features.keep(places, keys, features)

    def find_table(
        self, layer: int, keys: Sequence[bytes], references: Int[np.ndarray, " m"], allocate: Allocate
    ) -> Float[np.ndarray, "r n m p"] | None:
        """The distances of one layer, where the whole layer is there.

        Args:
            layer: its number.
            keys: digests of the pixels of all images, in order.
            references: which of them serve as references.
            allocate: makes the table.
        """
        table = self._read_table(layer, _identity(keys, references), allocate) if self._resumed else None
        self.found_layers += table is not None
        return table

    def keep_table(
        self,
        layer: int,
        keys: Sequence[bytes],
        references: Int[np.ndarray, " m"],
        table: LayerTable,
    ) -> None:
        """Keeps the distances of one layer, if that costs little; arguments as for `find_table`."""
        if self._budget.allows("table", table.nbytes):
            with self._budget.spend("table"):
                # one file a degree: a copy of a file's content is made on its way to the disk
                for degree, part in enumerate(table):
                    about = _about(_identity(keys, references), layer, degree, len(table))
                    write_tensors(self._file(layer, degree), {"distances": part}, about)

    def _file(self, layer: int, degree: int) -> Path:
        return self._directory / f"layer{layer}-degree{degree}.safetensors"

    def _read_table(self, layer: int, identity: str, allocate: Allocate) -> np.ndarray | None:
        table, degree, degrees = None, 0, 1
        while degree < degrees:
            path = self._file(layer, degree)
            try:
                arrays, about = read_tensors(path)
                part = arrays["distances"]
                degrees = about["degrees"]
                if about != _about(identity, layer, degree, degrees):
                    raise DamagedTensors("it belongs to other images")
            except FileNotFoundError:
                return None
            except (DamagedTensors, KeyError, TypeError) as error:
                logger.warning("%s: is not used, and computed anew (%s)", path, error)
                return None
            if table is None:
                table = allocate((degrees, *part.shape))
            table[degree] = part
            degree += 1
        return table


def _about(identity: str, layer: int, degree: int, degrees: int) -> dict[str, str | int]:
    return {"images": identity, "layer": layer, "degree": degree, "degrees": degrees}


def _identity(keys: Sequence[bytes], references: Int[np.ndarray, " m"]) -> str:
    return blake2b(b"".join([*keys, references.astype(np.int64).tobytes()]), digest_size=16).hexdigest()
