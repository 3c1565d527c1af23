"""Refuses a set of photos that are blank or all the same."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.samples import Sample

logger = logging.getLogger(__name__)

BLANK_LEVELS, POOR_LEVELS = 8, 16
"""A photo with fewer of 256 grey levels counts as blank, or may have lost details."""
MIN_CONTRAST = 32
"""A photo with this range of grey levels is not blank, however few levels it uses; a drawing uses two."""
IGNORED_SHARE = 1e-4
"""Share of the darkest and of the brightest pixels that are ignored, such as dead pixels."""
REFUSED_SHARE = 0.5
"""A set is refused, or causes a warning, from this share of such photos on."""


class NothingToCompareError(UserError):
    """The photos of a set are blank or all the same."""


def grey_levels(image: Image.Image) -> int:
    """Number of grey levels of an 8-bit image; 256 if its darkest and brightest parts differ clearly."""
    counts = np.array(image.convert("L").histogram())
    below = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(below, (IGNORED_SHARE, 1 - IGNORED_SHARE))
    return 256 if high - low >= MIN_CONTRAST else int(np.count_nonzero(counts[low : high + 1]))


def refuse_blank_photos(
    images: Sequence[Sample],
    kept: Sequence[int] | np.ndarray,
    copies: Sequence[tuple[int, int]],
    levels: Mapping[int, int],
    range_given: bool,
) -> None:
    """Refuses a set of photos that are blank or all the same; warns if they use few grey levels.

    `kept` are the images (of the set or added to it) that were read and are not copies, `copies` pairs of (index, index
    of the original), and `levels` the grey levels of photos with fewer than `POOR_LEVELS`. If the settings give a value
    range, blank photos only cause a warning.

    Raises:
        NothingToCompareError: the photos are blank or all the same.
    """
    read = [i for i in (*map(int, kept), *(i for i, _ in copies)) if i < len(images)]
    if len(read) < 2:
        return
    if len(read) - len([i for i, _ in copies if i < len(images)]) == 1 and not images[read[0]].is_array:
        raise NothingToCompareError(
            f"all {len(read)} photos are identical, pixel by pixel: there is nothing to compare"
        )
    for least, refused in ((BLANK_LEVELS, not range_given), (POOR_LEVELS, False)):
        poor = sorted(i for i in read if levels.get(i, POOR_LEVELS) < least)
        if len(poor) < REFUSED_SHARE * len(read):
            continue
        usual = sorted(levels[i] for i in poor)[len(poor) // 2]
        text = (
            f"{len(poor)} of {len(read)} photos use only about {usual} of 256 grey levels: they are nearly blank, and "
            f"defects may be lost (the first: {images[poor[0]].path!r}). Look at one of them, and save the photos with "
            "full contrast"
        )
        if refused:
            raise NothingToCompareError(f"{text}. --config.data.range=0,255 uses them as they are")
        logger.warning("%s", text)
        return
