"""Whether the photos of a set show anything to compare: a set that came out blank is refused, not judged."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.images import Source

logger = logging.getLogger(__name__)

FEW, POOR = 8, 16
"""Grey levels of 256 below which a photo counts as blank, and below which much of it may be lost."""
SPREAD = 32
"""Grey levels between darkest and brightest from which on a photo is no blank one: a drawing has two levels."""
OUTLIERS = 1e-4
"""Share of the pixels at either end that are no content, such as dead ones."""
MOST = 0.5
"""Share of the photos of a set from which on it is refused or warned of."""


class NothingToCompare(UserError):
    """The photos of a set are blank, or all of them are the same picture."""


def grey_levels(image: Image.Image) -> int:
    """How many grey levels an 8-bit image uses; 256 where its darkest and brightest parts differ clearly."""
    counts = np.array(image.convert("L").histogram())
    below = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(below, (OUTLIERS, 1 - OUTLIERS))
    return 256 if high - low >= SPREAD else int(np.count_nonzero(counts[low : high + 1]))


def require_contents(
    images: Sequence[Source],
    kept: Sequence[int] | np.ndarray,
    copies: Sequence[tuple[int, int]],
    levels: Mapping[int, int],
    meant: bool,
) -> None:
    """Refuses a set of photos that are blank or all the same; warns where they use few grey levels.

    Args:
        images: of the set.
        kept: which of these, and of images after them, were read and are no copies.
        copies: (index, place) of those that are copies.
        levels: grey levels of photos with fewer than `POOR`, by their index; of arrays nothing is asked.
        meant: the settings state a range, so that the photos look as they are meant to: a warning is enough.

    Raises:
        NothingToCompare: with what was found.
    """
    read = [i for i in (*map(int, kept), *(i for i, _ in copies)) if i < len(images)]
    if len(read) < 2:
        return
    if len(read) - len([i for i, _ in copies if i < len(images)]) == 1 and not isinstance(images[read[0]], np.ndarray):
        raise NothingToCompare(f"all {len(read)} photos are the same picture, pixel by pixel: nothing can be compared")
    for least, refused in ((FEW, not meant), (POOR, False)):
        poor = sorted(i for i in read if levels.get(i, POOR) < least)
        if len(poor) < MOST * len(read):
            continue
        usual = sorted(levels[i] for i in poor)[len(poor) // 2]
        text = (
            f"{len(poor)} of {len(read)} photos have {usual} of 256 grey levels or about as many once they are read: "
            f"they are nearly blank, and a defect may be lost (the first: {str(images[poor[0]])!r}). Look at one of "
            "them; save photos with the brightness that their samples use"
        )
        if refused:
            raise NothingToCompare(f"{text}. --config.data.range=0,255 judges them as they are")
        logger.warning("%s", text)
        return
