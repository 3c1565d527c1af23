"""Time of the inspection of single parts on a line, with exact and compact banks."""

import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image

from benchmarks.records import Record, record
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BackboneConfig, BankConfig, Config, ParallelConfig
from codegraph_jax.core.timing import Timing
from codegraph_jax.data.images import load_image
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import ReceivedPhoto


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Makes banks of drawn images with random weights, and inspects parts from files with each of them, one by one.

    Decoding, backbone and bank are also timed separately, in CPU seconds. `rest` is the remainder: statistics of the
    photo, regions of flagged parts, and the ledger. Medians over the parts.
    """
    drawn = list(draw_set(sizes.bank_images + sizes.inspected_parts, sizes.image_size, 0, 0.1, ()).images)
    found = []
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for number, image in enumerate(drawn[sizes.bank_images :]):
            files.append(str(Path(directory) / f"{number}.jpg"))
            Image.fromarray(image).save(files[-1], quality=92)
        for precision in config.precisions:
            comparison = None
            for kind in ("exact", "compact"):
                detector = CoDeGraph(
                    Config(
                        backbone=BackboneConfig(
                            name=sizes.backbone,
                            weights="random",
                            image_size=sizes.image_size,
                            blocks=sizes.blocks,
                        ),
                        precision=precision,
                        parallel=ParallelConfig(config.parallel.backend, 1),
                    )
                )
                comparison = comparison or detector.compare(drawn[: sizes.bank_images])
                photos = sizes.bank_references if kind == "exact" else None
                bank = detector.score(comparison, bank=BankConfig(kind=kind, photo_count=photos)).bank
                assert bank
                name = f"{kind}, {precision}, {bank.active_references}"
                found.append(_measure_bank(name, bank, files, Path(directory) / f"{kind}-{precision}"))
    return found


def _measure_bank(name: str, bank: ReferenceBank, files: list[str], workdir: Path) -> Record:
    workdir.mkdir()
    ledger = Ledger(workdir / LEDGER_FILE)
    begin = perf_counter()
    inspector = Inspector(bank, ledger, workdir)
    inspector.warm_up()
    ready = perf_counter() - begin
    extractor = bank.extractor()
    rows = []
    for number, file in enumerate(files):
        start, start_cpu = perf_counter(), process_time()
        inspector.inspect(ReceivedPhoto(f"{number}", file, file))
        whole = perf_counter() - start, process_time() - start_cpu
        start_cpu = process_time()
        picture = load_image(file)
        decoded = process_time()
        features = extractor.extract([Sample.of(picture, file)])
        extracted = process_time()
        bank.active_references.scores([layer[0] for layer in features.layers], features.placement.inspected[0])
        scored = process_time()
        rows.append([*whole, decoded - start_cpu, extracted - decoded, scored - extracted])
    ledger.close()
    times = np.array(rows)
    wall, cpu, decode, backbone, scores = np.median(times, axis=0)
    return record(
        "inspect",
        name,
        Timing(ready, float(wall), float(cpu)),
        1,
        "parts",
        median_ms=1e3 * float(wall),
        p99_ms=1e3 * float(np.quantile(times[:, 0], 0.99)),
        first_ms=1e3 * float(times[0, 0]),
        rate=len(times) / float(times[:, 0].sum()),
        cpu_ms=1e3 * float(cpu),
        decode_ms=1e3 * float(decode),
        backbone_ms=1e3 * float(backbone),
        bank_ms=1e3 * float(scores),
        rest_ms=1e3 * float(np.median(times[:, 1] - times[:, 2:].sum(axis=1))),
    )
