"""One process of several: `python -m tests.support.process_worker PORT PROCESSES PROCESS_ID DEVICES BACKEND OUT MODE`.

MODE `once` detects and writes the result; `forever` detects until it is killed, and prints `ready` after one round.
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

from codegraph_jax.config import Config, ParallelConfig, SimilarityConfig
from codegraph_jax.consistency.filtered_scores import filtered_scores
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed import processes
from codegraph_jax.similarity.removal import Exclusions, ReferenceMask, changes_by_removal
from tests.support.networks import random_backbone, shallow_backbone


def detector(backend: str = "shard_map", devices: int | None = None) -> CoDeGraph:
    return CoDeGraph(
        Config(
            backbone=random_backbone(image_size=70, fit="pad"),
            similarity=SimilarityConfig(references=9),
            parallel=ParallelConfig(backend=backend, devices=devices),
        )
    )


def images() -> list:
    """Fifteen drawn parts, an unreadable file, and copies: two of a distant image, and one of the image before it.

    Some images of one process are not square.
    """
    drawn = list(draw_set(15, 70, 0, 0.1, (0.3,)).images)
    drawn = [image[: 70 - 20 * (i > 10)] for i, image in enumerate(drawn)]
    return [*drawn[:4], "no such file.png", *drawn[4:], drawn[1], drawn[1], drawn[14]]


def stages(working: CoDeGraph) -> dict[str, np.ndarray]:
    """Distances, distances without a quarter of the patches of every third image, and the result of `detect`."""
    comparison = working.compare(images())
    tables = np.stack(comparison.tables)
    removed = np.random.default_rng(0).uniform(size=(tables.shape[2], tables.shape[4])) < 0.25
    removed[np.arange(len(removed)) % 3 > 0] = False
    reduced = tables.copy()
    how = removed, comparison.references, comparison.options, None, comparison.features.images_per_process
    for table, layer in zip(reduced, comparison.features.layers):
        for degree, changes in zip(table, changes_by_removal(table, layer, *how)):
            changes.apply(degree)
    subset = comparison.subset(0.3)
    mask = ReferenceMask(np.arange(3), np.random.default_rng(1).uniform(size=removed.shape) < 0.1)
    exclusions = dataclasses.replace(Exclusions.none(comparison.shape), removed=removed, masks=(mask,))
    result = working.score(comparison)
    return {
        "filtered": filtered_scores(comparison, subset, exclusions),
        "tables": tables,
        "reduced": reduced,
        "patch_scores": result.patch_scores,
        "scores": result.scores_rescored,
        "kept": result.kept,
        "skipped": np.array([i for i, _ in result.unreadable]),
    }


def main(port: str, count: str, process: str, devices: str, backend: str, out: str, mode: str) -> None:
    jax.config.update("jax_num_cpu_devices", int(devices))
    with shallow_backbone(), processes.connected(f"127.0.0.1:{port}", int(count), int(process)):
        working = detector(backend)
        while True:
            results = stages(working)
            if mode == "once":
                break
            print("ready", flush=True)
        np.savez(Path(out) / f"{process}.npz", **results)
        processes.barrier("written")


if __name__ == "__main__":
    main(*sys.argv[1:])
