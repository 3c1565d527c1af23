"""Speed of the machine: the distance kernel, the backbones, a whole run, several devices, and OECL's training.

    codegraph benchmark
    codegraph benchmark --config=benchmark:kernel

The first command makes all measurements, the second one of kernel, backbone, end_to_end, scaling, host_time, inspect
and oecl. Both print tables and write benchmark.jsonl and machine.json to the workdir; `--config.trace` adds a
jax.profiler trace. The first call, which compiles, is timed separately; the result is the median of the following
rounds. Speeds are from the CPU time of the process on CPUs, and from wall time on other devices. Shares are relative to
the speed of a matrix product in the same run, errors to float64. If torch is installed, the same work in PyTorch is
timed in the same rounds. Results: docs/benchmarks.md. `:oecl` times the training step of the short runs, its
augmentation and its network; `--config.published` times that of the published network. All measurements take about half
an hour on two CPU cores, `:kernel` about five minutes.
"""

from typing import Literal

from benchmarks.settings import MEASUREMENTS, BenchmarkConfig


def get_config(measurement: Literal["", *MEASUREMENTS] = "") -> BenchmarkConfig:
    """The settings of the run."""
    return BenchmarkConfig(measurements=(measurement,) if measurement else MEASUREMENTS)
