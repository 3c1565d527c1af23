"""What every layout gives: samples."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One image of a set and what is known about it."""

    path: str
    """The image file. Bytes that are not UTF-8 are kept by surrogate escapes, as `os.fsencode` undoes them."""
    name: str
    """Posix path below the category, unique within it: `broken_large/000.png`."""
    category: str
    label: int | None = None
    """0 normal, 1 anomalous, None unknown."""
    mask: str | None = None
    """Mask file, or a directory of mask files whose union counts; None for normal, unknown or missing."""
    defect: str | None = None
    """Kind of defect, or `good`; None where the layout does not tell."""
    further: int = 0
    """Pages of its file that no sample shows."""
    read: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    """Gives the pixels where no file holds them, and `path` is but a name; see `images.StoredImage`."""


Categories = dict[str, Callable[[], list[Sample]]]
"""The categories that a root holds, each with the function that lists its samples."""


def warn_missing_masks(category: str, count: int) -> None:
    """Says how many anomalous images have no mask: pixel metrics cannot use them."""
    if count:
        logger.warning("%s: %d anomalous images have no mask file", category, count)
