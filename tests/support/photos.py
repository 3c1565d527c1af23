"""Photos."""

from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.data.synthetic import draw_set


def write_photos(root: Path, n: int = 4) -> None:
    """Writes n photos of noise, 50 x 40 px, as `part 0.png` and so on."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"part {i}.png")


def drawn_parts(n: int = 24, seed: int = 0) -> list[np.ndarray]:
    """n drawn parts of 64 px: a fifth has an individual defect, a quarter the same one."""
    return list(draw_set(count=n, size=64, seed=seed, one_off=0.2, recurring=(0.25,)).images)
