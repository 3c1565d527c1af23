"""The task `benchmark`: prints tables, and writes `benchmark.jsonl` and `machine.json` to the workdir."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import jax

from benchmarks import backbone, end_to_end, inspect, kernel, residency, scaling, training
from benchmarks.measurements import Measurement, measurement, table
from benchmarks.peaks import copy_peak, product_peak
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import SIZES, Sizes
from codegraph_jax.core.environment import device_summary, package_versions
from codegraph_jax.core.files import whole_file
from codegraph_jax.tasks import detect
from contrastive_jax.config import ModelConfig, OeclDataConfig, TrainConfig

MEASURES: dict[str, Callable[[BenchmarkConfig, Sizes], list[Measurement]]] = {
    "kernel": kernel.measure,
    "backbone": backbone.measure,
    "end_to_end": partial(end_to_end.measure, run=detect.run),
    "scaling": scaling.measure,
    "residency": residency.measure,
    "inspect": inspect.measure,
    "oecl": lambda config, sizes: measure_training(config, sizes),
}
"""The function of each of `BenchmarkConfig.measurements`."""


def measure_training(config: BenchmarkConfig, sizes: Sizes) -> list[Measurement]:
    """Measures training steps of OECL."""
    if config.published:
        model, data, batch = ModelConfig(), OeclDataConfig(), TrainConfig().batch_size
    else:
        model, batch = ModelConfig(width=sizes.width), sizes.batch_size
        data = OeclDataConfig(stored_size=sizes.stored_size, image_size=sizes.view_size)
    found = training.measure(model, data, batch, config.precisions, config.repeats, config.torch)
    baseline = next((work.timing for work in found if work.name == "network, torch float32"), None)
    records = []
    for work in found:
        compared = baseline if work.name.startswith("network") else None
        records.append(
            measurement(
                "oecl",
                work.name,
                work.timing,
                work.items,
                work.unit,
                flop=work.flop or None,
                peak=product_peak(work.precision) if work.precision else None,
                devices=work.devices,
                speedup=compared.seconds / work.timing.seconds if compared else None,
            )
        )
    return records


def run(config: BenchmarkConfig, workdir: str, sizes: Sizes = SIZES) -> list[Measurement]:
    """Takes the measurements of the settings.

    Args:
        config: the settings.
        workdir: directory of the results.
        sizes: sizes of the measured inputs.
    """
    out = Path(workdir)
    machine = {
        **device_summary(),
        **package_versions(),
        "product_flop_per_s": {precision: product_peak(precision) for precision in config.precisions},
        "copy_bytes_per_s": copy_peak(),
    }
    peaks = ", ".join(f"{name} {speed / 1e9:.0f} GFLOP/s" for name, speed in machine["product_flop_per_s"].items())
    print(f"{machine['kind']}: matrix product {peaks}; copy {machine['copy_bytes_per_s'] / 1e9:.1f} GB/s", flush=True)

    records: list[Measurement] = []
    for part in config.measurements:
        traced = jax.profiler.trace(str(out / "trace" / part)) if config.trace else nullcontext()
        with traced:
            found = MEASURES[part](config, sizes)
        print(f"\n{part}\n{table(found)}", flush=True)
        records += found
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "machine.json") as file:
        Path(file).write_text(json.dumps(machine, indent=2))
    with whole_file(out / "benchmark.jsonl") as file:
        Path(file).write_text("".join(json.dumps(record) + "\n" for record in records))
    return records
