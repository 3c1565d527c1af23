"""Settings of the benchmark, which `codegraph_jax.core.settings.read_config` checks, and the sizes that it measures."""

from dataclasses import dataclass, field

from codegraph_jax.config import DevicesConfig
from codegraph_jax.core.settings import at_least, choice

PARTS = ("kernel", "backbone", "end_to_end", "scaling", "residency", "inspect", "oecl")
"""What can be measured."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """One run of the benchmark."""

    task: str = field(default="benchmark", metadata=choice("benchmark"))
    """The task that this config is for."""
    parts: tuple[str, ...] = field(default=PARTS, metadata=choice(*PARTS))
    """Which parts are measured."""
    repeats: int = field(default=5, metadata=at_least(1))
    """How many timed rounds follow the first call; the median is reported."""
    torch: bool = True
    """Whether the PyTorch baseline is measured too, where torch can be imported."""
    trace: bool = False
    """Whether a `jax.profiler` trace of the timed rounds is written to the workdir."""
    kernels: tuple[str, ...] = field(default=("auto",), metadata=choice("auto", "reuse", "direct", "fused"))
    """The distance kernels to compare."""
    precisions: tuple[str, ...] = field(
        default=("float32", "bfloat16"), metadata=choice("float32", "tf32", "bfloat16") | {"some": True}
    )
    """The precisions to compare, in every part; backbones have no `tf32`."""
    backbones: tuple[str, ...] = ("dinov2-small", "clip-vit-l14-336")
    """The presets whose speed is measured."""
    published: bool = False
    """Whether OECL's step is that of the published network: width 64, 32 px, 256 normal images."""
    parallel: DevicesConfig = field(default_factory=DevicesConfig)


@dataclass(frozen=True)
class Sizes:
    """Sizes that are measured; tests pass small ones.

    Attributes:
        images: images N of the distance kernel; their exact float64 scores are computed too.
        grid: side of the grid of patches: P = grid * grid.
        channels: channels C of a patch.
        degrees: aggregation degrees.
        backbone_size: side of the images of backbones in pixels; each takes the largest multiple of its patch up to it.
        detected: images of the whole detection.
        backbone: preset of the whole detection and of single parts, with random weights.
        image_size, blocks: of that preset.
        scaled: images N that one device and several compare.
        devices: numbers of devices to compare; empty: 1, 2, 4 ... as many as there are.
        resident: numbers of images N whose distances stay on the device or go to the host.
        resident_grid, resident_channels, resident_layers, resident_degrees: of their tokens; few channels, since the
            work of the host does not depend on them.
        inspected: single parts that banks score.
        bank_images: images of the set that makes the banks.
        bank_references: images in the exact bank.
        width, stored_size, view_size, batch_size: of OECL's step: channels of the first stage, pixels of an image and
            of a view, and normal images.
    """

    images: int = 12
    grid: int = 37
    channels: int = 1024
    degrees: tuple[int, ...] = (1, 3, 5)
    backbone_size: int = 518
    detected: int = 160
    backbone: str = "dinov2-small"
    image_size: int = 448
    blocks: tuple[int, ...] = (5, 8)
    scaled: int = 32
    devices: tuple[int, ...] = ()
    resident: tuple[int, ...] = (50, 200)
    resident_grid: int = 24
    resident_channels: int = 16
    resident_layers: int = 2
    resident_degrees: tuple[int, ...] = (1, 3, 5)
    inspected: int = 40
    bank_images: int = 40
    bank_references: int = 32
    width: int = 16
    stored_size: int = 32
    view_size: int = 16
    batch_size: int = 64


SIZES = Sizes()
"""The sizes of every table in docs/benchmarks.md."""
