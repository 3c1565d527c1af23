"""What the machine reaches: the distance kernel, the backbones, a whole run, several devices, and OECL's training.

    codegraph benchmark               (all parts)
    codegraph benchmark --config=benchmark:kernel        (or backbone, end_to_end, scaling,
                                                               residency, inspect, oecl)

Prints tables and writes benchmark.jsonl and machine.json to the workdir; `--config.trace` adds a jax.profiler trace.
The first call, which compiles, is timed apart; of the rounds that follow the median counts. Speeds are from the
process's CPU time on CPUs and from wall time elsewhere. Shares are of a matrix product's speed in the same run, errors
are against float64. Where torch can be imported, the same work in PyTorch is timed in the same rounds. Results:
docs/benchmarks.md. `:oecl` times the step of the short runs on a CPU, augmentation and network apart;
`--config.published` that of the published network. All parts take about half an hour on two CPU cores; `:kernel` about
five minutes.
"""

from ml_collections import ConfigDict

from benchmarks.settings import PARTS, BenchmarkConfig
from codegraph_jax.config import to_config_dict


def get_config(part: str = "") -> ConfigDict:
    if part and part not in PARTS:
        raise ValueError(f"the variants are {', '.join(PARTS)}, not {part!r}")
    return to_config_dict(BenchmarkConfig(parts=(part,) if part else PARTS))
