"""How long a run should take on a machine, from counted work: what docs/performance.md tabulates.

Operations and bytes are counted; what share of a machine's speed they reach, and what the host takes for a unit of its
work, was measured on CPUs (BENCHMARKS.md). For accelerators the shares are assumptions, since none was at hand, and say
so in their names. `predict` adds up stages as if none ran beside another; `side_by_side` knows which do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax

from codegraph_jax.backbones import PRESETS
from codegraph_jax.backbones.backbone import image_flop
from codegraph_jax.config import BackboneConfig, Config
from codegraph_jax.core.arrays import CPU_THREADS
from codegraph_jax.core.environment import usable_cores
from codegraph_jax.core.peaks import copy_peak, product_peak
from codegraph_jax.data.batches import MOST_THREADS
from codegraph_jax.similarity.pairwise import schedule_length

STAGES = ("decoding", "backbone", "pairs", "scores", "consistency", "metrics and report")
"""What a run is made of, in order."""

BACKBONE, TILES = 0.85, 0.65
"""Shares of the speed of plain products that the two device stages reach on CPUs (BENCHMARKS.md: 87 and 71 %, 76 and
61 %)."""
ASSUMED_BACKBONE, ASSUMED_TILES = 0.5, 0.6
"""The same on accelerators: not measured."""
DECODING = 0.04
"""Core seconds of a photograph of a megapixel: decoding, resizing, normalising and its digest."""
SCORING, CONSISTENCY = 6.4e-9, 3.2e-8
"""Core seconds of a distance in the tables [n, p, references], where the host has them: its part in the scores, and in
all later stages."""
PASSES, STATISTICS = 34, 20
"""How often a device reads a table that stays there to score it (`similarity.order`, and once for the mean), and how
many order statistics of the mean the later stages want."""
FILTERED = 0.2
"""Share of the pairs that are computed, and scored, again where a tenth of the images lose patches."""
JUDGING, JUDGING_PAIRS = 1.5e-3, 5e-6
"""Seconds of the host in the later stages where tables stay on the device: of an image, and of two images
(BENCHMARKS.md, "What the host does")."""
MEASURING, REPORTING = 0.023, 0.019
"""Core seconds of an image in the metrics, and in maps and report."""


@dataclass(frozen=True)
class Machine:
    """What a machine can do.

    Attributes:
        name: as people call it.
        flop: operations a second of plain products, in the precision that is asked for.
        copied: bytes a second that its memory moves; infinite where tiles stay in a cache, as on CPUs.
        cores: of the host.
        accelerator: whether the shares of its speed are assumptions.
        kernels: that it has (docs/jobs.md).
    """

    name: str
    flop: float
    copied: float
    cores: int
    accelerator: bool = True
    kernels: tuple[str, ...] = ("reuse", "direct")


MACHINES = (
    Machine("2 cores, AMD EPYC (Zen 5)", 2 * 208e9, math.inf, 2, False, ("reuse",)),
    Machine("L4", 121e12, 0.30e12, 8),
    Machine("A100 80 GB", 312e12, 2.0e12, 12),
    Machine("H100 SXM", 989e12, 3.35e12, 16, kernels=("reuse", "direct", "fused")),
    Machine("H200", 989e12, 4.8e12, 16, kernels=("reuse", "direct", "fused")),
    Machine("TPU v5e", 197e12, 0.82e12, 24, kernels=("reuse", "direct", "fused")),
)
"""bfloat16 products: measured on the CPU, the vendors' data sheets otherwise; hosts as clouds rent them out."""


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        images: of each category.
        image_flop: of the backbone, for one image.
        patches, channels: of an image's features.
        layers, degrees: of the comparison.
        references: of each image; 0: all.
        products: of a tile for each pair and layer: 1 for `reuse`, one a degree for `direct` and `fused`.
        tiles_written: how often a tile goes to memory and comes back for each pair and layer; 0 for `fused`.
    """

    images: Sequence[int]
    image_flop: float
    patches: int
    channels: int
    layers: int
    degrees: int
    references: int = 0
    products: int = 1
    tiles_written: int = 1


def predict(machine: Machine, work: Work) -> dict[str, float]:
    """Seconds of each of `STAGES`, with one device, on which distances stay where it is an accelerator."""
    total = sum(work.images)
    references = [min(work.references or n, n) for n in work.images]
    pairs = work.layers * sum(schedule_length(n, r) for n, r in zip(work.images, references))
    distances = work.layers * work.degrees * work.patches * sum(n * r for n, r in zip(work.images, references))
    backbone, tiles = (ASSUMED_BACKBONE, ASSUMED_TILES) if machine.accelerator else (BACKBONE, TILES)
    product = 2.0 * work.patches**2 * work.channels * work.products
    moved = 2 * 4 * work.patches**2 * work.tiles_written / machine.copied
    threads = min(machine.cores, MOST_THREADS)
    seconds = {
        "decoding": DECODING * total / threads,
        "backbone": work.image_flop * total / (backbone * machine.flop),
        "pairs": pairs * (product / (tiles * machine.flop) + moved),
        "scores": SCORING * distances / min(machine.cores, CPU_THREADS),
        "consistency": CONSISTENCY * distances / min(machine.cores, CPU_THREADS),
        "metrics and report": (MEASURING + REPORTING) * total / threads,
    }
    if machine.accelerator:
        read = 4 * distances / machine.copied
        statistics = PASSES * STATISTICS * read / (work.layers * work.degrees)
        seconds["scores"] = PASSES * read
        seconds["consistency"] = _judging(work) + statistics + FILTERED * seconds["pairs"] + seconds["scores"]
    return seconds


def side_by_side(machine: Machine, work: Work) -> float:
    """Seconds of the whole where decoding, the device, the host's judging and the metrics run beside each other.

    They do with an accelerator and several categories; the report comes at the end. On a CPU they share its cores.
    """
    seconds = predict(machine, work)
    if not machine.accelerator:
        return sum(seconds.values())
    total, judging = sum(work.images), _judging(work)
    device = seconds["backbone"] + seconds["pairs"] + seconds["scores"] + seconds["consistency"] - judging
    metrics = MEASURING * total / min(CPU_THREADS, machine.cores)
    return max(seconds["decoding"], device, judging, metrics) + REPORTING * total / min(machine.cores, MOST_THREADS)


def _judging(work: Work) -> float:
    """Seconds of the host in the later stages where tables stay on the device."""
    return sum(JUDGING * n + JUDGING_PAIRS * n * n for n in work.images)


def work_of(config: Config, images: Sequence[int], kernel: str) -> Work:
    """The work of a run with square images and a known kernel.

    Args:
        config: of the run.
        images: of each category.
        kernel: `reuse`, `direct`, `fused` or `fused_gpu`.
    """
    preset = PRESETS[config.backbone.name]
    side = config.backbone.image_size // preset.patch_size
    degrees = len(config.features.degrees)
    return Work(
        images=images,
        image_flop=image_flop(preset.architecture, side, side),
        patches=side * side,
        channels=preset.width,
        layers=len(config.backbone.blocks or preset.blocks),
        degrees=degrees,
        references=config.similarity.references,
        products=1 if kernel == "reuse" else degrees,
        # `reuse` writes the tile and, degree by degree, its sums
        tiles_written=0 if kernel.startswith("fused") else degrees + (kernel == "reuse"),
    )


MVTEC_AD = (83, 150, 132, 117, 78, 110, 124, 115, 167, 160, 117, 42, 100, 79, 151)
"""Test images of the fifteen categories of MVTec AD (Bergmann et al. 2019)."""


SUBSPACE = 672
"""Channels of ViT-L's 1,024 in which `similarity.variance=0.998` would compare, were their share that of ViT-S on real
tokens: 64 % on average of eight sets (BENCHMARKS.md, "Fewer channels")."""


def published_run() -> dict[str, tuple[Machine, Work]]:
    """MVTec AD with ViT-L/14 at 518 px and four layers, on every machine by each of its kernels, and by the one that is
    fastest in fewer channels."""
    config = Config(backbone=BackboneConfig(name="clip-vit-l14-336", image_size=518, blocks=(5, 11, 17, 23)))
    found: dict[str, tuple[Machine, Work]] = {}
    for machine in MACHINES:
        works = {kernel: work_of(config, MVTEC_AD, kernel) for kernel in machine.kernels}
        found |= {f"{machine.name}, {kernel}": (machine, work) for kernel, work in works.items()}
        fewer = {kernel: (machine, replace(work, channels=SUBSPACE)) for kernel, work in works.items()}
        best = min(fewer, key=lambda kernel: side_by_side(*fewer[kernel]))
        found[f"{machine.name}, {best}, {SUBSPACE} channels"] = fewer[best]
    return found


def this_machine(precision: str) -> Machine:
    """What this machine can do by itself, measured, with one of its devices."""
    on_cpu, cores = jax.default_backend() == "cpu", usable_cores()
    # a CPU's speed is measured by the core
    flop, copied = (product_peak(precision) * cores, math.inf) if on_cpu else (product_peak(precision), copy_peak())
    return Machine("this machine", flop, copied, cores, accelerator=not on_cpu)


def markdown(works: Mapping[str, tuple[Machine, Work]]) -> str:
    """A table of predictions: a row for each, seconds of the stages and of the whole."""
    lines = [f"| | {' | '.join(STAGES)} | whole | side by side |", "|---" * (len(STAGES) + 3) + "|"]
    for name, (machine, work) in works.items():
        seconds = predict(machine, work)
        cells = [f"{value:.3g}" for value in (*seconds.values(), sum(seconds.values()), side_by_side(machine, work))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
