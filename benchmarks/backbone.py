"""Images per second of each backbone, with random weights, compared with the same network in PyTorch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peaks import product_peak
from benchmarks.records import TORCH, Record, record, speedup
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.backbones import PRESETS, PresetBackbone, load_backbone
from codegraph_jax.config import BackboneConfig
from codegraph_jax.core.timing import interleaved
from codegraph_jax.features.extraction import default_batch_size


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Measures each preset and type of the settings."""
    records = []
    for name in config.backbones:
        records += _measure_preset(name, config, sizes)
    return records


def _measure_preset(name: str, config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    batch = default_batch_size()
    patch = PRESETS[name].patch_size if name in PRESETS else 1
    side = sizes.backbone_size // patch * patch
    images = np.random.default_rng(0).normal(size=(batch, side, side, 3)).astype(np.float32)
    functions: dict[str, Callable[[], Any]] = {}
    backbones = {}
    for dtype in config.precisions:
        if dtype == "tf32":
            continue
        backbone = load_backbone(BackboneConfig(name=name, weights="random", image_size=side), dtype)
        backbones[dtype] = backbone
        functions[dtype] = _ours(backbone, images)
    first = next(iter(backbones.values()))
    exact = _torch(first, images, functions) if config.torch else None
    times = interleaved(functions, config.repeats)
    records = []
    for key, timing in times.items():
        error = None
        if exact is not None:
            error = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(timing.result, exact))
        ours = key in backbones
        records.append(
            record(
                "backbone",
                f"{name}, {key}",
                timing,
                batch,
                "images",
                flop=batch * first.flop(*2 * (side // patch,)),
                peak=product_peak(key) if ours else None,
                speedup=speedup(times, timing),
                error=error,
                image_size=side,
                batch=batch,
            )
        )
    return records


def _ours(backbone: PresetBackbone, images: np.ndarray) -> Callable[[], list[np.ndarray]]:
    run, placed = jax.jit(lambda own, x: own(x)[0]), jnp.asarray(images)
    return lambda: [np.asarray(block) for block in run(backbone, placed)]


def _torch(
    backbone: PresetBackbone, images: np.ndarray, functions: dict[str, Callable[[], Any]]
) -> list[np.ndarray] | None:
    """Adds the baseline to `functions` if torch is installed, and returns the float64 result; None without torch."""
    try:
        import torch

        from benchmarks import baseline
    except ImportError:
        return None
    baseline.use_all_cores()
    side = images.shape[1] // backbone.patch_size
    network = baseline.Vit(backbone, side, torch.float32)
    inputs = torch.from_numpy(images)
    functions[TORCH] = lambda: [block.numpy() for block in network(inputs)]
    return [block.numpy() for block in baseline.Vit(backbone, side, torch.float64)(inputs.double())]
