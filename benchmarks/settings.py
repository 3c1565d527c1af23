"""Settings of the benchmark; `codegraph_jax.core.settings.read_config` checks them."""

from dataclasses import dataclass, field

from codegraph_jax.config import DevicesConfig
from codegraph_jax.core.settings import at_least, choice

PARTS = ("kernel", "backbone", "end_to_end", "scaling", "residency", "inspect", "oecl")
"""What can be measured."""


@dataclass(frozen=True)
class KernelSettings:
    """Distances of one layer of drawn features."""

    images: int = field(default=12, metadata=at_least(3))
    """How many images N there are; the exact float64 scores are computed for all of them."""
    grid: int = field(default=37, metadata=at_least(5))
    """The side of the grid of patches: P = grid * grid."""
    channels: int = field(default=1024, metadata=at_least(8))
    """How many channels C a patch has."""
    degrees: tuple[int, ...] = field(default=(1, 3, 5), metadata=at_least(1))
    """The aggregation degrees."""
    kernels: tuple[str, ...] = field(default=("auto",), metadata=choice("auto", "reuse", "direct", "fused"))
    """The kernels to compare."""
    precisions: tuple[str, ...] = field(default=("float32", "bfloat16"), metadata=choice("float32", "tf32", "bfloat16"))
    """The precisions of the products to compare."""


@dataclass(frozen=True)
class BackboneSettings:
    """Backbones with random weights."""

    names: tuple[str, ...] = ("dinov2-small", "clip-vit-l14-336")
    """The presets to measure."""
    image_size: int = field(default=518, metadata=at_least(14))
    """The side of the images in pixels; each preset takes the largest multiple of its patch up to it."""
    dtypes: tuple[str, ...] = field(default=("float32", "bfloat16"), metadata=choice("float32", "bfloat16"))
    """The types of the products to compare."""
    batch_size: int = field(default=0, metadata=at_least(0))
    """How many images a call has; 0 means what a run takes on this platform."""


@dataclass(frozen=True)
class EndToEndSettings:
    """A whole detection of drawn images, with random weights."""

    images: int = field(default=160, metadata=at_least(3))
    """How many images are detected."""
    backbone: str = "dinov2-small"
    """The preset that is used."""
    image_size: int = field(default=448, metadata=at_least(14))
    """The side of the images in pixels."""
    blocks: tuple[int, ...] = field(default=(5, 8), metadata=at_least(0))
    """The blocks whose outputs are the layers."""


@dataclass(frozen=True)
class ScalingSettings:
    """The kernel on one device and on several."""

    devices: tuple[int, ...] = field(default=(), metadata=at_least(1))
    """The numbers of devices to compare; empty means 1, 2, 4 ... as many as there are."""
    images: int = field(default=32, metadata=at_least(3))
    """How many images N there are, the same for every number of devices."""


@dataclass(frozen=True)
class ResidencySettings:
    """Distances that stay on the device or go to the host, of made-up tokens with few channels."""

    images: tuple[int, ...] = field(default=(50, 200), metadata=at_least(20))
    """The numbers of images N to compare."""
    grid: int = field(default=24, metadata=at_least(5))
    """The side of the grid of patches: P = grid * grid."""
    channels: int = field(default=16, metadata=at_least(8))
    """How many channels C a patch has: few, since the host's work does not depend on them."""
    layers: int = field(default=2, metadata=at_least(1))
    """How many layers are compared."""
    degrees: tuple[int, ...] = field(default=(1, 3, 5), metadata=at_least(1))
    """The aggregation degrees."""
    devices: int = field(default=0, metadata=at_least(0))
    """How many devices keep the distances; 0 means all of this process."""


@dataclass(frozen=True)
class InspectSettings:
    """Single parts, drawn, judged by banks of drawn sets, with random weights."""

    parts: int = field(default=60, metadata=at_least(2))
    """How many parts are judged."""
    images: int = field(default=40, metadata=at_least(4))
    """How many images the set has that makes the banks."""
    references: int = field(default=32, metadata=at_least(2))
    """How many images the exact bank holds."""
    backbone: str = "dinov2-small"
    """The preset that is used."""
    image_size: int = field(default=448, metadata=at_least(14))
    """The side of the images in pixels."""
    blocks: tuple[int, ...] = field(default=(5, 8), metadata=at_least(0))
    """The blocks whose outputs are the layers."""
    precisions: tuple[str, ...] = field(default=("float32", "bfloat16"), metadata=choice("float32", "tf32", "bfloat16"))
    """The precisions of the banks' products to compare."""


@dataclass(frozen=True)
class OeclSettings:
    """Training with outlier exposure, on drawn images."""

    stem: str = field(default="cifar", metadata=choice("cifar", "imagenet"))
    """How the network begins."""
    width: int = field(default=16, metadata=at_least(1))
    """How many channels the first stage has; the published network has 64."""
    stored_size: int = field(default=32, metadata=at_least(8))
    """The side in pixels of the images that views are cut from."""
    image_size: int = field(default=16, metadata=at_least(8))
    """The side in pixels of a view."""
    batch_size: int = field(default=64, metadata=at_least(2))
    """How many normal images a step has."""
    dtypes: tuple[str, ...] = field(default=("float32", "bfloat16"), metadata=choice("float32", "tf32", "bfloat16"))
    """The types of the products to compare."""


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
    kernel: KernelSettings = field(default_factory=KernelSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    end_to_end: EndToEndSettings = field(default_factory=EndToEndSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    residency: ResidencySettings = field(default_factory=ResidencySettings)
    inspect: InspectSettings = field(default_factory=InspectSettings)
    oecl: OeclSettings = field(default_factory=OeclSettings)
    parallel: DevicesConfig = field(default_factory=DevicesConfig)
