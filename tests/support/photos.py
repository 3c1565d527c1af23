"""Photos and masks: small files, trees of them, and drawn parts."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.data.synthetic import draw_set


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


def write_noise(path: Path, seed: int = 0, size: tuple[int, int] = (60, 40)) -> Path:
    """A photo of noise of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
    return path


def raw_png(width: int, height: int, bits: int = 8, colour: int = 2, rows: bytes = bytes(100)) -> bytes:
    """A PNG whose header states this size, bits per sample and type of colours, whether or not its rows are of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def write_photos(root: Path, n: int = 4) -> None:
    """Writes n photos of noise, 50 x 40 px, as `part 0.png` and so on."""
    for i in range(n):
        write_noise(root / f"part {i}.png", i, (50, 40))


def drawn_parts(n: int = 24, seed: int = 0) -> list[np.ndarray]:
    """n drawn parts of 64 px: a fifth has an individual defect, a quarter the same one."""
    return list(draw_set(count=n, size=64, seed=seed, one_off=0.2, recurring=(0.25,)).images)
