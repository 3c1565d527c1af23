"""The table of several runs: modes against each other over classes and seeds.

    python -m contrastive_jax.compare --config=configs/cifar10_oecl.py:small --workdir=runs/small \
        --modes=simclr,oecl --classes=0,3,7 --seeds=0,1,2

`--classes=all` takes every class of the training set in turn, `--metric=fpr95` (or aupr_in, aupr_out) another number.

Every run has its own folder below the workdir, and one that is finished is not run again; so an interrupted table goes
on where it stopped. Any field of the config can be set as for main.py.
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.tables import text_table
from contrastive_jax.config import OeclConfig, read_oecl_config
from contrastive_jax.data.sources import read_source
from contrastive_jax.evaluation.metrics import METRICS
from contrastive_jax.evaluation.scores import SCORES
from contrastive_jax.trainer import train


def train_all(
    config: OeclConfig, workdir: Path, modes: Sequence[str], classes: Sequence[str], seeds: Sequence[int]
) -> None:
    """Trains what is not finished; all modes of a class and seed before the next, so that a partial table is fair."""
    for seed in seeds:
        for target in classes:
            for mode in modes:
                home = workdir / f"{mode}_{target}_{seed}"
                if (home / "results.json").exists():
                    continue
                print(f"== {home.name}", flush=True)
                train(
                    dataclasses.replace(
                        config,
                        seed=seed,
                        data=dataclasses.replace(config.data, target=target),
                        train=dataclasses.replace(config.train, mode=mode),
                    ),
                    home,
                )


def table(
    workdir: Path, modes: Sequence[str], classes: Sequence[str], seeds: Sequence[int], metric: str = "auroc"
) -> list[tuple[str, ...]]:
    """Rows of a metric in percent: each class (mean over seeds), the mean over classes, its spread over seeds.

    Args:
        workdir: of all runs.
        modes: in rows.
        classes: in columns.
        seeds: over which means are taken.
        metric: one of `evaluation.metrics.METRICS`, of the whole test set.
    """
    rows: list[tuple[str, ...]] = [("mode, score", *(f"class {c}" for c in classes), "mean", "sd of seeds")]
    for mode in modes:
        for score in SCORES:
            values = np.full((len(seeds), len(classes)), np.nan)
            for i, seed in enumerate(seeds):
                for j, target in enumerate(classes):
                    path = workdir / f"{mode}_{target}_{seed}" / "results.json"
                    if path.exists():
                        results = json.loads(path.read_text(encoding="utf-8"))
                        values[i, j] = 100 * _value(results, score, metric, path)
            means = values.mean(1)
            spread = f"{means.std(ddof=1):.1f}" if len(seeds) > 1 else "-"
            cells = [*(f"{v:.1f}" for v in values.mean(0)), f"{means.mean():.1f}", spread]
            rows.append((f"{mode}, {score}", *cells))
    return rows


def _value(results: Mapping[str, Any], score: str, metric: str, path: Path) -> float:
    if metric == "auroc":
        return float(results["auroc"][score]["pooled"])
    if "metrics" not in results:
        raise UserError(f"{path}: was written by an earlier version, which knew AUROC alone")
    return float(results["metrics"][score][metric]["value"])


def class_names(config: OeclConfig) -> list[str]:
    """The classes of the training set, each of which can be `data.target`."""
    data = config.data
    return list(read_source(data.train, data.train_split, data.stored_size).class_names)


def main(arguments: list[str]) -> int:
    """Runs what is left and prints the table."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    values = flags.FLAGS
    workdir, seeds = Path(values.workdir), [int(seed) for seed in values.seeds]
    try:
        config = read_oecl_config(values.config)
        classes = class_names(config) if values.classes == ["all"] else values.classes
        train_all(config, workdir, values.modes, classes, seeds)
        heading, *rows = table(workdir, values.modes, classes, seeds, values.metric)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{METRICS[values.metric]}, percent\n" + text_table(heading, rows))
    return 0


def define_flags() -> None:
    """Declared when the command runs and not on import: main.py has flags of the same names."""
    config_flags.DEFINE_config_file("config", None, "Experiment: a file of configs/, perhaps with `:variant`.")
    flags.DEFINE_string("workdir", None, "Directory of the runs.")
    flags.DEFINE_list("modes", ["simclr", "oecl"], "Training modes.")
    flags.DEFINE_list("classes", ["0"], "Values of data.target; `all` takes every class of the training set.")
    flags.DEFINE_enum("metric", "auroc", list(METRICS), "What the table shows.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")


if __name__ == "__main__":
    define_flags()
    jax.config.config_with_absl()
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
