"""How many bits the samples of a set have, where its files have room for 16 and do not say.

Cameras of 10, 12 or 14 bits leave the upper bits of a 16-bit file empty. Divided by 65,535 such an image is nearly
black, and the steps of its 8-bit copy are coarser than many a defect. Scaled by its own brightest pixel, every image
would get a brightness of its own. So one depth holds for the whole set: the least that its brightest value needs.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from codegraph_jax.data.formats import formats_of
from codegraph_jax.data.images import DEEP, Source, UnreadableImage, decode, is_deep

SHALLOW_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".webp", ".avif", ".heic", ".heif", ".hif"}
)
"""Formats whose samples have 8 bits once they are decoded: their files need not be opened."""
LEAST = 8


def brightest(sources: Sequence[Source], workers: int) -> tuple[int, int]:
    """The greatest sample of all files that hold 16-bit samples, in grey and in colour; 0 where there is none.

    Only such files are decoded. Those that cannot be read count for nothing here. Of 16-bit colours the upper byte is
    known, and the greatest value with it counts.
    """
    with ThreadPoolExecutor(workers, "depth") as pool:
        found = list(pool.map(_brightest_of, sources))
    return max((grey for grey, _ in found), default=0), max((colour for _, colour in found), default=0)


def depth_of(brightest: int) -> int:
    """The least number of bits, 8 to 16, that hold a sample."""
    return min(max(int(brightest).bit_length(), LEAST), DEEP)


def _brightest_of(source: Source) -> tuple[int, int]:
    """(grey, colour)."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if PurePath(path).suffix.lower() in SHALLOW_SUFFIXES or not _says_deep(path):
            return 0, 0
        try:
            source = decode(path)
        except UnreadableImage:
            return 0, 0
    if not isinstance(source, Image.Image) or not is_deep(source):
        return 0, 0
    greatest = int(np.asarray(source).max())
    return (0, greatest * 256 + 255) if source.mode.startswith("RGB") else (greatest, 0)


def _says_deep(path: str) -> bool:
    """Whether a file's header announces 16-bit samples."""
    try:
        # a pipe or a device would block or never end
        if not Path(path).is_file():
            return False
        with Image.open(path, formats=formats_of(path)) as image:
            return is_deep(image)
    except Exception:  # of as many kinds as in decoding, which will name it
        return False
