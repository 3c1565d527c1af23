"""Batches of images, decoded ahead in background threads, in order and with bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from codegraph_jax.data.blank_photos import POOR_LEVELS, grey_levels
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import full_size, load_image
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange


class Batch(NamedTuple):
    """v preprocessed images, padded with zeros to the batch size b: their indices and `image_key`s."""

    indices: Int[np.ndarray, " v"]
    keys: list[bytes]
    images: Float[np.ndarray, "b ..."]


class ImageBatches:
    """Iterates once over batches of preprocessed images, in the order of the samples.

    At most `batch_size` + 2 `workers` preprocessed images are in memory: the workers are threads, in which `preprocess`
    runs, since decoders and digests release the GIL. Leaving the loop early stops them. The attributes grow while
    batches are read.

    Attributes:
        skipped: (index, reason) of each sample that could not be read, unless `unreadable` is "error", which raises its
            UnreadableImageError.
        sizes: (width, height) in pixels of each image, by index.
        grey_levels: number of grey levels of each image from a file that has few, by index.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocess: Callable[[Image.Image], Float[np.ndarray, "h w 3"]],
        batch_size: int,
        workers: int = 2,
        unreadable: str = "skip",
        value_range: ValueRange | None = None,
    ):
        self._samples, self._preprocess = samples, preprocess
        self._batch_size, self._workers, self._unreadable = batch_size, workers, unreadable
        self._value_range = value_range
        self.skipped: list[tuple[int, str]] = []
        self.sizes: dict[int, tuple[int, int]] = {}
        self.grey_levels: dict[int, int] = {}

    def __iter__(self) -> Iterator[Batch]:
        indices: list[int] = []
        keys: list[bytes] = []
        batch: np.ndarray | None = None
        with closing(self._images()) as images:
            for index, image, key in images:
                if batch is None:
                    batch = np.zeros((self._batch_size, *image.shape), np.float32)
                batch[len(indices)] = image
                indices.append(index)
                keys.append(key)
                if len(indices) == self._batch_size:
                    yield Batch(np.array(indices), keys, batch)
                    # a fresh array: the caller's transfer to the device may still read the last one
                    indices, keys, batch = [], [], None
        if batch is not None:
            yield Batch(np.array(indices), keys, batch)

    def _images(self) -> Generator[tuple[int, np.ndarray, bytes], None, None]:
        """(index, preprocessed image, its key) of every readable sample, in order."""
        waiting: deque[tuple[int, Future[tuple[np.ndarray, bytes]]]] = deque()
        remaining = iter(range(len(self._samples)))
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        try:
            while True:
                while len(waiting) < 2 * self._workers and (index := next(remaining, None)) is not None:
                    waiting.append((index, pool.submit(self._read, index)))
                if not waiting:
                    return
                index, future = waiting.popleft()
                try:
                    yield index, *future.result()
                except UnreadableImageError as error:
                    if self._unreadable == "error":
                        raise
                    self.skipped.append((index, str(error)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, index: int) -> tuple[np.ndarray, bytes]:
        sample = self._samples[index]
        image = load_image(sample, self._value_range)
        self.sizes[index] = full_size(image)
        # arrays are not checked: the caller may want few grey levels
        if not sample.is_array and (levels := grey_levels(image)) < POOR_LEVELS:
            self.grey_levels[index] = levels
        ready = np.ascontiguousarray(self._preprocess(image), np.float32)
        return ready, image_key(ready)


def image_key(image: Shaped[np.ndarray, "..."]) -> bytes:
    """Digest of the pixels of a preprocessed image; independent of the file name."""
    return blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
