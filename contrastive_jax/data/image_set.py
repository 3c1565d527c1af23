"""Image sets in memory: images that were listed are decoded to arrays of one size."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, UInt8
from PIL import Image

from codegraph_jax.core.environment import decoding_threads
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.measured_range import measured_range
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError, natural_key
from codegraph_jax.data.value_range import ValueRange

Images = UInt8[np.ndarray, "n h w 3"]
Labels = Int32[np.ndarray, " n"]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class ImageList:
    """The images of a set before they are decoded."""

    samples: Sequence[Sample]
    labels: Labels | None
    """Index into `class_names`; None if the set has no labels."""
    class_names: tuple[str, ...]
    boxes: Sequence[Box] | None = None
    """The part of each image that is cut out; None: the whole image."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, all in memory."""

    images: Images
    labels: Labels | None
    """Index into `class_names`; None if the source has no labels."""
    class_names: tuple[str, ...]
    value_range: ValueRange | None = None
    """Conversion of pixel values that do not have 8 bits; None: there were none."""


def indexed(classes: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """The label of each image, and the class names in natural order without regard to case."""
    names = tuple(sorted(set(classes), key=lambda name: (natural_key(name.casefold()), name)))
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[name] for name in classes], np.int32), names


def decode(
    listed: ImageList,
    size: int,
    rows: Int[np.ndarray, " k"] | None = None,
    value_range: ValueRange | None = None,
    no_data: tuple[float, ...] = (),
) -> ImageSet:
    """Decodes images of a list in several threads.

    Args:
        listed: the set.
        size: the shorter side is resized to this many pixels (bilinear, antialiased), and the central square is
            cropped.
        rows: the images to decode; None: all.
        value_range: conversion of pixel values that do not have 8 bits; None: measured on these images.
        no_data: as `config.data.no_data`, if the range is measured.

    Raises:
        LayoutError: an image cannot be decoded, or a box lies outside of its image.
    """
    rows = np.arange(len(listed.samples)) if rows is None else rows
    # several boxes may lie in one file
    files = {sample.path: sample for sample in (listed.samples[row] for row in rows.tolist())}
    measured = measured_range(list(files.values()), no_data)
    if measured:
        value_range = value_range or measured

    def read(row: int) -> np.ndarray:
        image = load_image(listed.samples[row], value_range)
        if listed.boxes:
            image = _cut(image, listed.boxes[row], listed.samples[row].path)
        return square(image, size)

    images = np.empty((len(rows), size, size, 3), np.uint8)
    with ThreadPoolExecutor(decoding_threads()) as pool:
        try:
            for i, image in enumerate(pool.map(read, rows.tolist())):
                images[i] = image
        except UnreadableImageError as error:
            raise LayoutError(f"{error}; remove or replace the file") from None
        finally:
            pool.shutdown(cancel_futures=True)
    labels = None if listed.labels is None else listed.labels[rows]
    return ImageSet(images, labels, listed.class_names, value_range if measured else None)


def _cut(image: Image.Image, box: Box, file: str) -> Image.Image:
    """The part of a box that lies in the image."""
    left, top, right, bottom = box
    right, bottom = min(right, image.width), min(bottom, image.height)
    if left >= right or top >= bottom:
        raise LayoutError(f"{file!r}: the box {box} lies outside of the image, {image.width} x {image.height}")
    return image.crop((left, top, right, bottom))


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
