"""Image sets in memory: decoding of files to arrays of one size."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, UInt8
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.batches import decoding_threads
from codegraph_jax.data.images import UnreadableImageError, load_image
from codegraph_jax.data.measured_range import measured_range
from codegraph_jax.data.value_range import ValueRange

Labels = Int32[np.ndarray, " n"]
RowSelector = Callable[[int, "Labels | None", tuple[str, ...]], Int[np.ndarray, " k"]]
"""A function that selects rows of a set, given the number of rows, the labels and the class names; other rows are not
decoded. Its exceptions are passed on."""


class CatalogError(UserError):
    """An image set cannot be read; the message names the source and what to do."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, all in memory."""

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Labels | None
    """Index into `class_names`; None if the source has no labels."""
    class_names: tuple[str, ...]
    value_range: ValueRange | None = None
    """Conversion of samples that do not have 8 bits; None: there were none."""

    def __len__(self) -> int:
        return len(self.images)


def decoded(
    load: Callable[[int, ValueRange | None], Image.Image],
    files: Sequence[str],
    names: Sequence[str],
    labels: Labels | None,
    class_names: tuple[str, ...],
    size: int | None,
    choose: RowSelector | None,
    value_range: ValueRange | None = None,
) -> ImageSet:
    """The chosen images of a set, decoded in several threads; for `size`, `choose` and `value_range` see `catalog`.

    `load` returns the image of a row, converted with a value range; `names` are those of the rows in messages.

    Raises:
        CatalogError: an image cannot be decoded, or sizes differ without `size`.
    """
    rows = np.arange(len(names)) if choose is None else choose(len(names), labels, class_names)
    measured = measured_range(list(dict.fromkeys(files[row] for row in rows.tolist())), decoding_threads())
    if measured:
        value_range = value_range or measured

    def read(row: int) -> np.ndarray:
        image = load(row, value_range)
        return np.asarray(image) if size is None else square(image, size)

    images: np.ndarray | None = None
    with ThreadPoolExecutor(decoding_threads()) as pool:
        try:
            for i, image in enumerate(pool.map(read, rows.tolist())):
                if images is None:
                    images = np.empty((len(rows), *image.shape), np.uint8)
                require_same_size(images.shape[1:3], image.shape[:2], names[rows[0]], names[rows[i]])
                images[i] = image
        except UnreadableImageError as error:
            raise CatalogError(f"{error}; remove or replace the file") from None
        finally:
            pool.shutdown(cancel_futures=True)
    if images is None:
        images = np.zeros((0, size or 1, size or 1, 3), np.uint8)
    return ImageSet(images, None if labels is None else labels[rows], class_names, value_range if measured else None)


def decoded_files(
    files: Sequence[str],
    labels: Labels | None,
    class_names: tuple[str, ...],
    size: int | None,
    choose: RowSelector | None,
    value_range: ValueRange | None = None,
) -> ImageSet:
    """`decoded` of image files."""
    return decoded(
        lambda row, shown: load_image(files[row], shown), files, files, labels, class_names, size, choose, value_range
    )


def square(image: Image.Image, size: int) -> np.ndarray:
    """The central square, with the shorter side resized to `size`: torchvision's Resize(size) and CenterCrop(size)."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        # the longer side is rounded down, as in torchvision
        width, height = (size * side // shorter for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def require_same_size(first: Sequence[int], other: Sequence[int], first_name: str, other_name: str) -> None:
    """Checks that two images have the same size.

    Raises:
        CatalogError: names both images.
    """
    if tuple(first) != tuple(other):
        raise CatalogError(
            f"images of several sizes: {first_name!r} is {first[1]} x {first[0]}, {other_name!r} is "
            f"{other[1]} x {other[0]}; give a size to resize and crop them to"
        )
