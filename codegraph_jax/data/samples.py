"""Samples: the images of a layout with their labels and masks."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One image of a set, with its label and mask if they are known."""

    path: str
    """The image file; bytes that are not UTF-8 are surrogate escapes, see `os.fsencode`."""
    name: str
    """POSIX path below the category, unique within it: `broken_large/000.png`."""
    category: str
    label: int | None = None
    """0 normal, 1 anomalous, None unknown."""
    mask: str | None = None
    """Mask file, or a directory of mask files whose union is used; None for normal, unknown or missing."""
    defect: str | None = None
    """Kind of defect, or `good`; None if the layout does not state it."""
    further: int = 0
    """Number of further pages of the file, which are not inspected."""
    read: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    """Returns the pixels of an image without a file, whose `path` is only a name; see `images.StoredImage`."""


Categories = dict[str, Callable[[], list[Sample]]]
"""The categories below a root, each with a function that lists its samples."""


def warn_missing_masks(category: str, count: int) -> None:
    """Warns about anomalous images without a mask, which pixel metrics cannot use."""
    if count:
        logger.warning("%s: %d anomalous images have no mask file", category, count)
