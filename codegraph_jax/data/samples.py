"""Samples: the images of a data set with their labels and masks."""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)


LABELS = {0: "good", 1: "defective", None: None}
"""Labels in words, as in scores.csv."""


@dataclass(frozen=True)
class InMemory:
    """The `read` of a sample whose image is in memory."""

    image: np.ndarray | Image.Image

    def __call__(self) -> np.ndarray | Image.Image:
        """The image."""
        return self.image


@dataclass(frozen=True)
class Sample:
    """One image of a set, with its label and mask if they are known.

    `Sample.of` makes one from a file or from pixels.
    """

    path: str
    """The image file; bytes that are not UTF-8 are surrogate escapes, see `os.fsencode`."""
    name: str
    """POSIX path below the category, unique within it: `broken_large/000.png`."""
    category: str = ""
    label: int | None = None
    """0 good, 1 defective, None unknown."""
    mask: str | Callable[[], np.ndarray] | None = None
    """Mask file, or a directory of mask files whose union is used, or a function that returns the mask [h, w], above 0
    where defective; None for good, unknown or missing."""
    photo_type: str | None = None
    """The type of the photo, such as `broken_large` or `good`; None if the layout does not state it."""
    skipped_page_count: int = 0
    """Number of further pages of the file, which are not inspected."""
    read: Callable[[], np.ndarray | Image.Image] | None = field(default=None, repr=False, compare=False)
    """Returns the pixels of an image without a file, whose `path` is only a name: uint8 [h, w, 3], [h, w, 1] or [h, w],
    or a Pillow image. It is called whenever they are needed, from several threads."""

    @classmethod
    def of(
        cls,
        image: Any,
        name: str = "",
        *,
        label: int | None = None,
        mask: Any = None,
        photo_type: str | None = None,
    ) -> "Sample":
        """A sample of any image.

        Args:
            image: a file, a uint8 array [h, w, 3] or [h, w], or a Pillow image.
            name: unique name in the set; default: the name of the file.
            label: 0 good, 1 defective, None unknown.
            mask: file, array [h, w] or Pillow image, above 0 where defective; None: none.
            photo_type: its type, such as `broken_large` or `good`.
        """
        mask_path = (
            os.fspath(mask)
            if isinstance(mask, str | os.PathLike)
            else None
            if mask is None
            else lambda: np.asarray(mask)
        )
        if isinstance(image, str | os.PathLike):
            path = os.fspath(image)
            return cls(path, name or Path(path).name, label=label, mask=mask_path, photo_type=photo_type)
        if not name:
            raise ValueError("name: an image without a file needs a name")
        return cls(name, name, label=label, mask=mask_path, photo_type=photo_type, read=InMemory(image))

    def as_json(self) -> dict[str, Any]:
        """Values for JSON, without pixels and masks that are not files; `from_json` reads them."""
        mask = self.mask if isinstance(self.mask, str) else None
        return {
            "path": self.path,
            "name": self.name,
            "category": self.category,
            "label": self.label,
            "mask": mask,
            "photo_type": self.photo_type,
            "skipped_page_count": self.skipped_page_count,
            "file": self.is_file,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Sample":
        """Reads the values of `as_json`; malformed ones raise KeyError, TypeError or ValueError."""
        facts = {name: value for name, value in values.items() if name != "file"}
        return cls(**facts, read=None if values["file"] else not_saved)

    @property
    def is_file(self) -> bool:
        """Whether the image is a file instead of pixels."""
        return self.read is None

    @property
    def is_array(self) -> bool:
        """Whether the image is an array in memory."""
        return isinstance(self.read, InMemory) and isinstance(self.read.image, np.ndarray)


def not_saved() -> np.ndarray:
    """The `read` of a sample that was saved without its pixels."""
    raise ValueError("the pixels of an image without a file were not saved")


class Samples(Protocol):
    """A data set: any object with a length that returns a `Sample` for an index from 0, such as a list of them.

    class Screws:
        def __init__(self, root):
            self.files = sorted(Path(root).glob("*.png"))

        def __len__(self):
            return len(self.files)

        def __getitem__(self, index):
            file = self.files[index]
            return Sample.of(file, label=int(file.name.startswith("bad")))
    """

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int, /) -> Sample:
        """The image with an index from 0."""


Categories = dict[str, Callable[[], list[Sample]]]
"""The categories below a root, each with a function that lists its samples."""


def label_by_type(photo_type: str | None, good: Collection[str]) -> int | None:
    """The label of a photo by the types of good parts; None if either is unknown."""
    return int(photo_type not in good) if good and photo_type is not None else None


def warn_missing_masks(category: str, count: int) -> None:
    """Warns about anomalous images without a mask, which pixel metrics cannot use."""
    if count:
        logger.warning("%s: %d defective photos have no mask file", category, count)
