"""`codegraph sweep` with a trainer's config: every combination of varied settings, for several classes and seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem
from codegraph_jax.distributed.processes import is_first
from contrastive_jax.config import OeclConfig
from contrastive_jax.data.catalog import list_image_set
from contrastive_jax.data.protocols import find_class
from contrastive_jax.evaluation.metrics import METRICS
from contrastive_jax.objectives import DEFAULT_SCORE, SCORES
from contrastive_jax.trainer import train
from studies.sweeps.sweep import AS_GIVEN, Cell, CellStore, Sweep, read_points

SMALLER_IS_BETTER = frozenset({"fpr95"})
"""Metrics of which smaller values are better."""
FIXED = ("task", "seed")
"""Settings that cannot be varied; seeds have a flag of their own."""
REFUSED = {"subsets": "a training run has seeds; give --seeds=0,1,2"}
"""As in `studies.sweeps.detection`."""
ALL = "all"
"""In place of classes: every class of the training set."""


def run(
    config: OeclConfig,
    workdir: str,
    vary: Sequence[str] = (),
    groups: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Sweep:
    """Trains the unfinished runs, prints the table and writes it to the workdir.

    Each run has its own directory in `runs/`, and resumes from its newest checkpoint.

    Arguments as for `studies.sweeps.detection.run`; `groups` are values of `data.target`, or `all`, and `seeds` those
    of the runs (empty: that of the settings).

    Raises:
        ConfigError: a setting is invalid; nothing was computed.
    """
    directory = Path(workdir)
    points = read_points(vary, config, FIXED)
    targets = class_names(config) if list(groups) == [ALL] else list(groups) or [config.data.target]
    seeds = list(seeds) or [config.seed]
    cells: list[Cell] = []
    problems: dict[str, str] = {}
    # all runs of one seed and class first, so that a partial table compares the same runs
    for seed in seeds:
        for target in targets:
            for point in points:
                data = dataclasses.replace(point.config.data, target=target)
                training = dataclasses.replace(point.config, seed=seed, data=data)
                name = file_stem("_".join([*(f"{k}={v}" for k, v in point.values.items()), target, str(seed)]))
                try:
                    results = _trained(directory, name, training)
                except UserError as error:
                    problems[f"{point.name or AS_GIVEN}, class {target}, seed {seed}"] = str(error)
                else:
                    if results:
                        metrics = _metrics(results)
                        cells.append(Cell(dict(point.values), target, f"seed {seed}", metrics))
    missing = len(seeds) * len(targets) * len(points) - len(cells)
    sweep = Sweep(points, targets, cells, METRICS, missing, problems, SMALLER_IS_BETTER)
    if is_first():
        sweep.report(directory)
    return sweep


def _trained(directory: Path, name: str, config: OeclConfig) -> dict[str, Any] | None:
    """The results of a run, which is trained first if it is not finished; None while another process trains it."""
    workdir = directory / "runs" / name
    if is_first():
        print(f"== {name}", flush=True)
    if jax.process_count() > 1:
        return train(config, workdir)
    with CellStore(directory).claimed(name) as mine:
        if mine:
            return train(config, workdir)
    print("another process trains it", flush=True)
    return None


def _metrics(results: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of the default score, and AUROC of the others."""

    def value(score: str, metric: str) -> float | None:
        metrics = results["metrics"][score]
        return metrics[metric]["value"] if metrics else None

    others = {f"auroc_{score}": value(score, "auroc") for score in SCORES if score != DEFAULT_SCORE}
    return {metric: value(DEFAULT_SCORE, metric) for metric in METRICS} | others


def class_names(config: OeclConfig) -> list[str]:
    """The classes of the training set that `data.target` can name; no image is decoded.

    Raises:
        LayoutError: the source cannot be read.
        ProtocolError: a class of `data.classes` is missing.
    """
    data = config.data
    names = list_image_set(data.train, data.train_split, data.stored_size, data.min_box_side).class_names
    return [names[find_class(name, names, "config.data.classes")] for name in data.classes] or list(names)
