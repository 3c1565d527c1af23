"""Settings of the benchmark."""

from dataclasses import dataclass, field

from codegraph_jax.config import DevicesConfig
from codegraph_jax.core.settings import Settings, at_least, choice, not_empty

MEASUREMENTS = ("kernel", "backbone", "end_to_end", "scaling", "host_time", "inspect", "oecl")
"""Names of the measurements; each is a module of this package with a function `measure`."""


@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """One run of the benchmark."""

    task: str = field(default="benchmark", metadata=choice("benchmark"))
    """The task that this config is for."""
    measurements: tuple[str, ...] = field(default=MEASUREMENTS, metadata=choice(*MEASUREMENTS))
    """Measurements to take, in this order."""
    repeats: int = field(default=5, metadata=at_least(1))
    """The number of timed rounds after the first call; the median is reported."""
    torch: bool = True
    """Also measure the PyTorch baseline, if torch is installed."""
    trace: bool = False
    """Write a `jax.profiler` trace of the timed rounds to the workdir."""
    kernels: tuple[str, ...] = field(default=("auto",), metadata=choice("auto", "reuse", "direct", "fused"))
    """The distance kernels to compare."""
    precisions: tuple[str, ...] = field(
        default=("float32", "bfloat16"), metadata=choice("float32", "tf32", "bfloat16") | not_empty()
    )
    """The precisions to compare, in every measurement; networks are not measured in `tf32`."""
    backbones: tuple[str, ...] = ("dinov2-small", "clip-vit-l14-336")
    """The presets whose speed is measured."""
    published: bool = False
    """Time OECL's step with the published network: width 64, 32 px, 256 normal images."""
    parallel: DevicesConfig = field(default_factory=DevicesConfig)
