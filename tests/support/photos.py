"""Photos."""

from pathlib import Path

import numpy as np

from codegraph_jax.data.synthetic import draw_set
from tests.support.files import write_noise


def write_photos(root: Path, n: int = 4) -> None:
    """Writes n photos of noise, 50 x 40 px, as `part 0.png` and so on."""
    for i in range(n):
        write_noise(root / f"part {i}.png", i, (50, 40))


def drawn_parts(n: int = 24, seed: int = 0) -> list[np.ndarray]:
    """n drawn parts of 64 px: a fifth has an individual defect, a quarter the same one."""
    return list(draw_set(count=n, size=64, seed=seed, one_off=0.2, recurring=(0.25,)).images)
