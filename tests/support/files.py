"""Small image files and trees for the tests of the data packages."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, value: int = 90, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Path:
    """A constant image of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fill = value if mode in ("L", "P", "I", "F", "1") else (value,) * len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, fill).save(path)
    return path


def write_images(root: Path, names: Iterable[str]) -> None:
    for name in names:
        write_image(root / name)


def write_mask(path: Path, box: tuple[int, int, int, int] = (1, 1, 4, 3), size: tuple[int, int] = (8, 6)) -> Path:
    """A black mask of (width, height) with a white box (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size[::-1], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(mask).save(path)
    return path
