"""Chooses the frame of a set by the sizes of its photos (`config.backbone.fit=auto`)."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median_low

from codegraph_jax.data.frame import MAX_TILED_SIDE, Frame

LONG_ASPECT, LARGE_SCALE, MIN_TILED_SCALE = 1.5, 3.0, 1.5
"""The aspect ratio, reached by a quarter of the photos, at which a square distorts too much; the size, in multiples of
the backbone's input, from which tiling is tried; and the size below which tiling gains too little
(benchmarks/log/accuracy.md, "Large photographs")."""
SCALE_STEP = 0.8
"""Factor between the scales that are tried."""


def choose_frame(
    sizes: Sequence[tuple[int, int]],
    image_size: int,
    patch_size: int,
    scale: float | None,
    affordable: Callable[[Frame], bool],
) -> tuple[Frame, str]:
    """The frame for photos of these sizes, and the reason for messages; empty for a plain square.

    `affordable` tells whether the run time with a frame is acceptable; for the other parameters see `Frame.of`.
    """

    def frame_by(fit: str, scale: float | None = None) -> Frame:
        return Frame.of(fit, sizes, image_size, patch_size, scale)

    if not sizes:
        return frame_by("squeeze"), ""
    median_side = median_low([max(size) for size in sizes])
    aspect = sorted(max(size) / min(size) for size in sizes)[3 * len(sizes) // 4]
    costly = ""
    if median_side >= LARGE_SCALE * image_size:
        for tiled in (frame_by("tile", s) for s in ([scale] if scale else _tried_scales(median_side, image_size))):
            if affordable(tiled):
                return tiled, f"the photos are {median_side / image_size:.1f} times as large as the network's input"
        costly = "tiles would show smaller defects but take long for so many photos: --fit tile"
    padded = frame_by("pad")
    if aspect >= LONG_ASPECT and affordable(padded):
        reason = f"the photos are {aspect:.1f} times as long as they are wide"
        return padded, f"{reason}; {costly}" if costly else reason
    return frame_by("squeeze"), costly


def _tried_scales(median_side: int, image_size: int) -> Iterator[float]:
    """Falling scales of tiled photos, as shares of their original size."""
    side = float(min(median_side, MAX_TILED_SIDE))
    while side >= MIN_TILED_SCALE * image_size:
        yield side / median_side
        side *= SCALE_STEP
