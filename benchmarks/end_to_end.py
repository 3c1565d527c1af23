"""A whole detection of drawn images, and its time relative to backbone and distances."""

import tempfile
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.records import Record, record
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.config import BackboneConfig, Config, DataConfig, DrawConfig, ParallelConfig
from codegraph_jax.core.timing import Timing
from codegraph_jax.tasks import detect


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Runs the task `detect` from drawn files to the report, twice; the first run compiles.

    Args:
        config: devices.
        sizes: number and size of the images, and the backbone.
    """
    detection = Config(
        data=DataConfig(layout="drawn", draw=DrawConfig(image_count=sizes.detection_images, size=sizes.image_size)),
        backbone=BackboneConfig(
            name=sizes.backbone, weights="random", image_size=sizes.image_size, blocks=sizes.blocks
        ),
        parallel=ParallelConfig(config.parallel.backend, config.parallel.devices),
    )
    seconds, cpu = [], []
    with tempfile.TemporaryDirectory() as workdir:
        for k in range(2):
            begin, begin_cpu = perf_counter(), process_time()
            outcomes = detect.run(detection, str(Path(workdir) / str(k)))
            seconds.append(perf_counter() - begin)
            cpu.append(process_time() - begin_cpu)
    stages = outcomes[0].result.seconds
    compute = stages["backbone"] + stages["distances"]
    return [
        record(
            "end_to_end",
            f"{sizes.backbone}, {sizes.image_size} px, N = {sizes.detection_images}",
            Timing(seconds[0], seconds[1], cpu[1]),
            sizes.detection_images,
            "images",
            stages=stages,
            total_over_compute=seconds[1] / compute,
        )
    ]
