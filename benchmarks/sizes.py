"""Sizes of the inputs of the benchmark; they are arguments, not settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measured inputs; tests pass small ones.

    Attributes:
        kernel_images: images N of the distance kernel; their exact float64 scores are computed too.
        grid: side of the grid of patches: P = grid * grid.
        channels: channels C of a patch.
        degrees: aggregation degrees.
        backbone_size: side of the images of backbones in pixels; each takes the largest multiple of its patch up to it.
        detection_images: images of the whole detection.
        backbone: preset of the whole detection and of single parts, with random weights.
        image_size, blocks: input size and blocks of that preset.
        scaling_images: images N of the comparison on several devices.
        devices: numbers of devices to compare; empty: 1, 2, 4 ... as many as there are.
        host_images: numbers of images N of `host_time`, whose distances are kept on the device or on the host.
        host_grid, host_channels, host_layers, host_degrees: sizes of their tokens; few channels, since the work of the
            host does not depend on them.
        inspected_parts: single parts that banks score.
        bank_images: images of the set that makes the banks.
        bank_references: images in the exact bank.
        width, stored_size, view_size, batch_size: channels of the first stage, sides of image and view in pixels, and
            normal images of a training step of OECL.
    """

    kernel_images: int = 12
    grid: int = 37
    channels: int = 1024
    degrees: tuple[int, ...] = (1, 3, 5)
    backbone_size: int = 518
    detection_images: int = 160
    backbone: str = "dinov2-small"
    image_size: int = 448
    blocks: tuple[int, ...] = (5, 8)
    scaling_images: int = 32
    devices: tuple[int, ...] = ()
    host_images: tuple[int, ...] = (50, 200)
    host_grid: int = 24
    host_channels: int = 16
    host_layers: int = 2
    host_degrees: tuple[int, ...] = (1, 3, 5)
    inspected_parts: int = 40
    bank_images: int = 40
    bank_references: int = 32
    width: int = 16
    stored_size: int = 32
    view_size: int = 16
    batch_size: int = 64


SIZES = Sizes()
"""The sizes of every table in docs/benchmarks.md."""
