"""Checks the images that a caller of the library passes, and converts them to a list."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.folders import read_folder
from codegraph_jax.data.images import Source, UnreadableImageError, load_image, require_picture, source_of
from codegraph_jax.data.samples import Sample


def listed_given(images: Any, name: str = "images") -> list[Source | Sample]:
    """Images and samples as a list; `name` is that of the argument in messages.

    Images are files, arrays, Pillow images or samples; a data set (`samples.Samples`); one array [n, h, w, 3], or [n,
    h, w] of grey images; or a directory, whose photos are read in natural order.

    Raises:
        UserError: `images` is a single image or has a wrong type.
        LayoutError: the directory cannot be listed or contains no photos.
    """
    if isinstance(images, str | os.PathLike):
        return _in_directory(os.fspath(images), name)
    if isinstance(images, np.ndarray):
        single = images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
        if single or images.ndim > 4:
            raise UserError(
                f"{name}: an array {list(images.shape)} is {'a single image' if single else 'not a list of images'}; "
                "give a list of images, or an array [n, h, w, 3] or [n, h, w]"
            )
        return list(images)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, Mapping):
        # also objects without an iterator
        return [images[i] for i in range(len(images))]
    if isinstance(images, Image.Image | Sample) or not isinstance(images, Iterable):
        raise UserError(f"{name}: a single {type(images).__name__} was given; give a list of images")
    return list(images)


def listed_images(images: Any, name: str = "images") -> list[Source]:
    """`listed_given` with the images of samples."""
    return [source_of(image) if isinstance(image, Sample) else image for image in listed_given(images, name)]


def given_samples(images: Sequence[Source | Sample], name: str = "images") -> list[Sample]:
    """Checked images as samples; those without a file are called NAME[0], NAME[1], ..."""
    return [image if isinstance(image, Sample) else _sample(image, f"{name}[{i}]") for i, image in enumerate(images)]


def _sample(image: Source, name: str) -> Sample:
    if isinstance(image, Image.Image):
        return Sample(name, name, read=lambda: np.asarray(load_image(image)))
    return Sample.of(image, os.fspath(image) if isinstance(image, str | os.PathLike) else name)


def checked_images(images: Any, name: str = "images") -> Sequence[Source]:
    """`listed_images`, with the types and shapes of all images checked.

    Raises:
        UnreadableImageError: an image has a wrong type or shape; names its index.
    """
    listed = listed_images(images, name)
    for i, image in enumerate(listed):
        where = f"{name}[{i}]"
        if isinstance(image, np.ndarray):
            require_picture(image, where)
        elif not isinstance(image, str | os.PathLike | Image.Image | Sample):
            raise UnreadableImageError(
                where,
                f"expected a path, an array or a Pillow image, got {type(image).__name__}; items of a dataset, such as "
                "(image, label), become images by codegraph_jax.data.own_sets.as_samples",
            )
    return listed


def _in_directory(directory: str, name: str) -> list[Source | Sample]:
    if not Path(directory).is_dir():
        kind = "a single file" if Path(directory).is_file() else "not a directory"
        raise UserError(f"{name}: {directory!r} is {kind}; give a list of files, or a directory of photos")
    (samples,) = (read() for read in read_folder(directory).values())
    return [sample.path for sample in samples]
