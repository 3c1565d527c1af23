"""Features on disk: what a backbone has once said of an image, it need not say again.

An entry holds one block's normalised patch tokens of one image, or its image feature, so that a run with other blocks
or with further images costs only what is new. Its place is the digest of everything that the numbers depend on: the
weights, the architecture, the settings of the backbone, the kind of device, and the image's pixels as the backbone sees
them. Numbers are kept as the run holds them, in float32 or rounded to bfloat16, and the two apart: results with and
without the cache are equal. Every entry carries a digest of its content and says which it is; one that does not fit
counts as absent and is written anew.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from codegraph_jax.backbones import Backbone
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.progress import Progress
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import DamagedTensors, read_tensors, write_tensors
from codegraph_jax.data.batches import Batch
from codegraph_jax.features.buffer import FeatureSpool

FORMAT = 2
"""Changes when the meaning of an entry does."""
IMAGE = "image"
"""Name of the entry of an image feature, which is in float32."""
SHA256 = re.compile(r"sha256 ([0-9a-f]{64})")

Outputs = tuple[list[Any], Any]
"""Of one batch: for each layer the tokens [v, p, c], and the image features [v, d]."""

logger = logging.getLogger(__name__)


def weights_identity(weights: str) -> str:
    """What of `Backbone.weights` stays the same where the same file lies elsewhere: its hash, if it has one."""
    found = SHA256.search(weights)
    return found.group() if found else weights


def image_key(image: Float[np.ndarray, "s s 3"]) -> bytes:
    """Digest of an image's pixels as the backbone sees them; equal for equal images, whatever their names."""
    return blake2b(image.tobytes(), digest_size=16).digest()


class FeatureCache:
    """The entries of one backbone with its settings in a directory that any number of backbones may share.

    Attributes:
        found: images whose features were all there.
        damaged: entries that could not be used as they were.
    """

    def __init__(self, directory: str, backbone: Backbone, image_size: int, dtype: DTypeLike = np.float32):
        """
        Args:
            directory: made where it is not there.
            backbone: whose features they are.
            image_size: side in pixels.
            dtype: of the patch tokens.

        Raises:
            ConfigError: the directory cannot be made.
        """
        model = backbone.model
        settings = {
            "format": FORMAT,
            "weights": weights_identity(backbone.weights),
            "architecture": dataclasses.asdict(model.architecture),
            "final_norm": model.final_norm,
            "dtype": str(jnp.dtype(model.dtype)),
            "position_offset": model.position_offset,
            "image_size": image_size,
            # devices round differently
            "device": jax.devices()[0].device_kind,
        }
        self._dtype = np.dtype(dtype)
        if self._dtype != np.float32:
            settings["tokens"] = str(self._dtype)
        text = json.dumps(settings, sort_keys=True)
        self._home = Path(directory).expanduser() / blake2b(text.encode(), digest_size=12).hexdigest()
        self._names = [f"block{block}" for block in backbone.blocks] + [IMAGE]
        self._hits: dict[int, tuple[bytes, np.ndarray]] = {}
        self._writable = True
        self.damaged = 0
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            if not (note := self._home / "settings.json").exists():
                with whole_file(note) as name:
                    Path(name).write_text(text + "\n", encoding="ascii")
        except OSError as error:
            raise ConfigError(f"config.data.cache: {directory!r} cannot be used: {error.strerror or error}") from None

    @property
    def found(self) -> int:
        return len(self._hits)

    def missing(self, batches: Iterable[Batch], progress: Progress, spool: FeatureSpool) -> Iterator[Batch]:
        """Full batches, of the same form, of those images whose features are not all there; the others are read.

        Args:
            batches: places, images and their number, as `data.batches` gives them.
            progress: called for every image that was found.
            spool: takes the patch tokens of those, at their places; `merge` gives their image features.
        """
        places: list[int] = []
        waiting: np.ndarray | None = None
        for indices, images, valid in batches:
            for index, image in zip(indices, images[:valid]):
                key = image_key(image)
                if (entries := self.read(key)) is not None:
                    *layers, image_feature = entries
                    spool.put(np.array([index]), [layer[None] for layer in layers])
                    self._hits[int(index)] = key, image_feature
                    progress(1)
                    continue
                if waiting is None:
                    waiting = np.zeros_like(images)
                waiting[len(places)] = image
                places.append(int(index))
                if len(places) == len(waiting):
                    yield np.array(places), waiting, len(places)
                    # a fresh array: the transfer to the device may still read the last one
                    places, waiting = [], None
        if waiting is not None:
            yield np.array(places), waiting, len(places)

    def read(self, key: bytes) -> list[np.ndarray] | None:
        """The tokens [p, c] of every block and the image feature [d]; None where one of them is missing."""
        entries = []
        for name in self._names:
            entry = self._read_entry(self._path(key, name), np.float32 if name == IMAGE else self._dtype)
            if entry is None:
                return None
            entries.append(entry)
        return entries

    def write(self, keys: Iterable[bytes], outputs: Outputs) -> Outputs:
        """Stores a batch and returns it as it lies on the host."""
        layers, features = outputs
        arrays = [*(np.asarray(x, self._dtype) for x in layers), np.asarray(features, np.float32)]
        for i, key in enumerate(keys):
            for name, array in zip(self._names, arrays):
                self._write_entry(self._path(key, name), array[i])
        return arrays[:-1], arrays[-1]

    def merge(
        self, outputs: list[Outputs], places: list[np.ndarray], keys: list[bytes], offset: int
    ) -> tuple[list[Outputs], list[np.ndarray], list[bytes]]:
        """Computed and found images in the order of the sources, as one batch without layers: the spool has those.

        Args:
            outputs: batches that were computed; their image features count.
            places: their images, counted from `offset`.
            keys: of the same images.
            offset: place of the first source of this process.
        """
        if self.damaged:
            logger.warning("%s: %d damaged entries were computed and written anew", self._home, self.damaged)
        rows = {index + offset: hit for index, hit in self._hits.items()}
        computed = (feature for _, features in outputs for feature in np.asarray(features))
        for place, key, feature in zip(np.concatenate(places) if places else (), keys, computed):
            rows[int(place)] = key, feature
        if not rows:
            return [], [], []
        order = sorted(rows)
        self._hits.clear()
        image_features = np.stack([rows[place][1] for place in order])
        return [([], image_features)], [np.array(order)], [rows[place][0] for place in order]

    def _path(self, key: bytes, name: str) -> Path:
        text = key.hex()
        return self._home / text[:2] / f"{text[2:]}.{name}.safetensors"

    def _read_entry(self, path: Path, dtype: DTypeLike) -> np.ndarray | None:
        try:
            arrays, about = read_tensors(path)
            values = arrays.get("values") if about == path.name else None
        except FileNotFoundError:
            return None
        except DamagedTensors:
            values = None
        if values is None or values.dtype != dtype:
            self.damaged += 1
            with suppress(OSError):
                path.unlink()  # so that the fresh one is written
            return None
        return values

    def _write_entry(self, path: Path, values: np.ndarray) -> None:
        if not self._writable or path.exists():
            return
        try:
            write_tensors(path, {"values": values}, path.name)
        except OSError as error:
            self._writable = False
            logger.warning("%s: no more features are kept: %s", self._home, error)
