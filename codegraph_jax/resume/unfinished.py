"""The slow half of one category as far as it has come: features of images, and distances of whole layers."""

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from codegraph_jax.backbones import Backbone
from codegraph_jax.core.arrays import Allocate
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import DamagedTensors, read_tensors, write_tensors
from codegraph_jax.features.cache import FeatureCache, Outputs, image_key
from codegraph_jax.resume.budget import Budget

logger = logging.getLogger(__name__)


class Unfinished:
    """Keeps and finds again what `CoDeGraph.compare` computes. All of it is keyed by the pixels of the images.

    Attributes:
        found_images, found_layers: what did not have to be computed again.
    """

    def __init__(
        self, directory: Path, backbone: Backbone, image_size: int, keep_features: bool, dtype: DTypeLike = np.float32
    ):
        """
        Args:
            directory: of one run with its settings; made here.
            backbone: of the run.
            image_size: side in pixels.
            keep_features: off where `config.data.cache` keeps them anyway.
            dtype: of the patch tokens.
        """
        self._directory, self._budget = directory, Budget(directory)
        self._features: FeatureCache | None = None
        self._resumed = directory.is_dir()
        self.found_images = self.found_layers = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if keep_features:
                self._features = FeatureCache(str(directory / "features"), backbone, image_size, dtype)
        except (OSError, ConfigError) as error:
            self._budget.close(error)

    def read_batch(self, images: Float[np.ndarray, "v s s 3"]) -> Outputs | None:
        """The features of a batch, None unless all are there: a batch of other images might round differently."""
        if not self._features or not self._resumed:
            return None
        found = [self._features.read(image_key(image)) for image in images]
        rows = [entries for entries in found if entries is not None]
        if len(rows) < len(found):
            return None
        self.found_images += len(rows)
        *layers, image_features = (np.stack(parts) for parts in zip(*rows))
        return layers, image_features

    def write_batch(self, keys: Sequence[bytes], outputs: Outputs) -> None:
        """Keeps the features of a batch, if that costs little."""
        layers, image_features = outputs
        size = sum(layer.nbytes for layer in (*layers, image_features))
        if self._features and self._budget.allows("features", size):
            with self._budget.spend("features"):
                self._features.write(keys, outputs)

    def table(
        self,
        layer: int,
        keys: Sequence[bytes],
        references: Int[np.ndarray, " m"],
        allocate: Allocate,
        compute: Callable[[], Float[np.ndarray, "r n m p"]],
        found: Callable[[], object],
    ) -> Float[np.ndarray, "r n m p"]:
        """The distances of one layer: read, where the whole layer is there, else computed and kept.

        Args:
            layer: its number.
            keys: digests of the pixels of all images, in order.
            references: which of them serve as references.
            allocate: makes the table.
            compute: makes it and fills it.
            found: called where nothing had to be computed.
        """
        identity = blake2b(b"".join([*keys, references.astype(np.int64).tobytes()]), digest_size=16).hexdigest()
        table = self._read_table(layer, identity, allocate) if self._resumed else None
        if table is not None:
            self.found_layers += 1
            found()
            return table
        table = compute()
        if self._budget.allows("table", table.nbytes):
            with self._budget.spend("table"):
                # one piece a degree: a copy of a piece is made on its way to the disk
                for degree, part in enumerate(table):
                    about = _about(identity, layer, degree, len(table))
                    write_tensors(self._piece(layer, degree), {"distances": part}, about)
        return table

    def _piece(self, layer: int, degree: int) -> Path:
        return self._directory / f"layer{layer}-degree{degree}.safetensors"

    def _read_table(self, layer: int, identity: str, allocate: Allocate) -> np.ndarray | None:
        table, degree, degrees = None, 0, 1
        while degree < degrees:
            path = self._piece(layer, degree)
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


def on_device(outputs: Outputs) -> Outputs:
    """A batch that was read, as the backbone would have left it."""
    layers, image_features = outputs
    return [jax.numpy.asarray(layer) for layer in layers], jax.numpy.asarray(image_features)
