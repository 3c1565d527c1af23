"""Draws synthetic sets of large photos: drilled plates with defects of a few pixels, and exact masks.

    draw_plates(60, 4000, 3000, sizes=(24, 60))

Benchmarks use them for defects that are too small to be visible after resizing to a square.
"""

from collections.abc import Iterator

import numpy as np

from codegraph_jax.data.drawing.plate import PLATE_DEFECTS, PlateDefect, draw_plate, plate_holes
from codegraph_jax.data.synthetic import Drawn, DrawnSetError

SMALLEST = 64
TRIES = 1000


def draw_plates(
    n: int, width: int, height: int, seed: int = 0, defective: float = 0.3, sizes: tuple[float, float] = (24, 60)
) -> Iterator[Drawn]:
    """Yields photos of plates: (name, photo, mask).

    Names are as in a test directory of MVTec's form, `good/000.jpg` or `pit/004.jpg`.

    Args:
        n: number of photos.
        width: width in pixels.
        height: height in pixels.
        seed: seed of the random numbers.
        defective: share of photos with one defect; the kinds alternate.
        sizes: least and greatest size of a defect in pixels; sizes are evenly spaced.

    Raises:
        DrawnSetError: sides below 64 pixels, no plates, or defects that do not fit on the plate.
    """
    if n < 1 or min(width, height) < SMALLEST:
        raise DrawnSetError(f"plates need 1 photo or more, of {SMALLEST} px or more; got {n} of {width}x{height}")
    if not 0 < sizes[0] <= sizes[1] < min(width, height) / 4:
        raise DrawnSetError(f"sizes of defects must increase and be below a quarter of the plate, got {sizes}")
    count = round(n * defective)
    order = np.random.default_rng((seed, 0)).permutation(n)
    kinds, extents = list(PLATE_DEFECTS), np.linspace(*sizes, max(count, 1))
    # mix kinds and sizes
    extents = extents[np.random.default_rng((seed, 1)).permutation(len(extents))]
    chosen = {int(image): (kinds[k % len(kinds)], float(extents[k])) for k, image in enumerate(order[:count])}
    for i in range(n):
        rng = np.random.default_rng((seed, 2, i))
        defects = []
        if i in chosen:
            kind, extent = chosen[i]
            defects.append(PlateDefect(kind, *_place(extent, width, height, rng), extent, int(rng.integers(2**31))))
        image, mask = draw_plate(width, height, defects, rng)
        yield f"{chosen[i][0] if i in chosen else 'good'}/{i:03d}.jpg", image, mask


def _place(extent: float, width: int, height: int, rng: np.random.Generator) -> tuple[float, float]:
    """A random place on the plate away from holes."""
    holes = np.array(plate_holes(width, height))
    for _ in range(TRIES):
        x, y = (rng.uniform(0.6 * extent, side - 0.6 * extent) for side in (width, height))
        if (np.hypot(holes[:, 0] - x, holes[:, 1] - y) > 1.3 * holes[:, 2] + 0.7 * extent).all():
            return float(x), float(y)
    raise DrawnSetError(f"a defect of {extent:.0f} px does not fit between the holes of a plate of {width}x{height}")
