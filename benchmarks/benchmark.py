"""The task `benchmark`: prints tables, and writes `benchmark.jsonl` and `machine.json` to the workdir."""

import importlib
import json
from contextlib import nullcontext
from pathlib import Path

import jax

from benchmarks.peaks import copy_peak, product_peak
from benchmarks.records import Record, table
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import SIZES, Sizes
from codegraph_jax.core.environment import device_summary, package_versions
from codegraph_jax.core.files import whole_file


def run(config: BenchmarkConfig, workdir: str, sizes: Sizes = SIZES) -> list[Record]:
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

    records: list[Record] = []
    for name in config.measurements:
        traced = jax.profiler.trace(str(out / "trace" / name)) if config.trace else nullcontext()
        with traced:
            found: list[Record] = importlib.import_module(f"benchmarks.{name}").measure(config, sizes)
        print(f"\n{name}\n{table(found)}", flush=True)
        records += found
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "machine.json") as file:
        Path(file).write_text(json.dumps(machine, indent=2))
    with whole_file(out / "benchmark.jsonl") as file:
        Path(file).write_text("".join(json.dumps(record) + "\n" for record in records))
    return records
