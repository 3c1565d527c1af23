"""The task `oecl_study`: compares training modes over classes, seeds and the values of one setting.

Every run has its own folder below the workdir. Finished runs are skipped, so that an interrupted study resumes.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.core.file_ownership import note_written
from codegraph_jax.core.files import finite_or_none, write_json
from codegraph_jax.core.settings import ConfigError, at_least, choice, read_config
from codegraph_jax.core.tables import text_table
from codegraph_jax.distributed.processes import gather, is_first
from contrastive_jax.config import OeclConfig, read_oecl_config
from contrastive_jax.data.sources import class_names
from contrastive_jax.evaluation.metrics import METRICS
from contrastive_jax.evaluation.scores import SCORES
from contrastive_jax.objectives import OBJECTIVES
from contrastive_jax.report.figures import CLEAN
from contrastive_jax.report.metrics_log import read_log
from contrastive_jax.trainer import train
from studies.oecl_figures import save_growth, save_study

TABLE, CURVE, GROWTH = "study.json", "study.png", "growth.png"
"""Files of a study in its workdir."""

Numbers = dict[tuple[str, str, str], Float[np.ndarray, "seeds classes"]]
"""A metric by value of the varied field, mode and score."""


@dataclass(frozen=True)
class StudyConfig:
    """Several training runs, and the metric of their table."""

    task: str = field(default="oecl_study", metadata=choice("oecl_study"))
    """The task that this config is for."""
    modes: tuple[str, ...] = field(default=("simclr", "oecl"), metadata=choice(*OBJECTIVES))
    """The training modes that are compared."""
    classes: tuple[str, ...] = ("all",)
    """The values of `data.target`, with one run for each; `all` runs every class of the training set."""
    seeds: tuple[int, ...] = field(default=(0,), metadata=at_least(0))
    """The seeds, with one run for each."""
    metric: str = field(default="auroc", metadata=choice(*METRICS))
    """The metric in the table."""
    vary: str = ""
    """The field of `run` that is varied, such as `oe.images`; empty varies none."""
    values: tuple[str, ...] = ()
    """The values of that field, with one run for each."""
    run: OeclConfig = field(default_factory=OeclConfig)
    """The settings that all runs share."""


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: name of its folder.
        value: value of the varied field, or "".
        mode, target, seed: training mode, class and seed.
        config: all settings.
    """

    name: str
    value: str
    mode: str
    target: str
    seed: int
    config: OeclConfig


def read_study_config(values: Mapping[str, Any]) -> StudyConfig:
    """Reads and checks the settings of a study.

    Raises:
        ConfigError: a field is invalid; the message names it.
    """
    config = read_config(StudyConfig, values)
    if not (config.modes and config.classes and config.seeds):
        raise ConfigError("config.modes, config.classes, config.seeds: each needs at least one value")
    if bool(config.vary) != bool(config.values):
        raise ConfigError("config.vary, config.values: give both the field and its values, or neither")
    # reading the first run of each mode and value checks the settings of all
    list(_runs(config, config.classes[:1]))
    return config


def run(values: Mapping[str, Any], workdir: str) -> None:
    """Runs `run_study` with a ConfigDict, see `StudyConfig`."""
    run_study(read_study_config(values), workdir)


def run_study(config: StudyConfig, workdir: str | Path) -> list[tuple[str, ...]]:
    """Trains the unfinished runs, writes study.json and figures to the workdir, prints the table and returns it.

    Raises:
        UserError: as for `trainer.train`.
    """
    home = Path(workdir)
    targets = class_names(config.run) if config.classes == ("all",) else list(config.classes)
    runs = list(_runs(config, targets))
    for run in runs:
        # process 0 decides for all processes
        if gather((home / run.name / "results.json").exists())[0]:
            continue
        if is_first():
            print(f"== {run.name}", flush=True)
        train(run.config, home / run.name)
    numbers = measured(config, home, targets)
    rows = table(config, numbers, targets)
    if is_first():
        note_written(home, [CURVE, GROWTH])
        _write(config, home, numbers, runs)
        print(f"\n{METRICS[config.metric]}, percent\n" + text_table(rows[0], rows[1:]), flush=True)
    return rows


def _runs(config: StudyConfig, targets: Sequence[str]) -> Iterator[Run]:
    """All runs; first all of one seed and class, so that a partial table compares the same runs."""
    for seed, target, value, mode in itertools.product(config.seeds, targets, config.values or ("",), config.modes):
        settings = dataclasses.asdict(config.run)
        settings["seed"], settings["data"]["target"], settings["train"]["mode"] = seed, target, mode
        prefix = ""
        if config.vary:
            _set(settings, config.vary, value)
            prefix = f"{config.vary}={value.replace('/', '_')}_"
        yield Run(f"{prefix}{mode}_{target}_{seed}", value, mode, target, seed, read_oecl_config(settings))


def _set(settings: dict[str, Any], path: str, value: str) -> None:
    """Replaces a setting by a value that is given as text, converted to the type of the old value."""
    fields: Any = settings
    *groups, name = path.split(".")
    for group in groups:
        fields = fields.get(group) if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or name not in fields or isinstance(fields[name], dict):
        raise ConfigError(f"config.vary: there is no field {path!r} of a training run")
    old = fields[name]
    try:
        if isinstance(old, bool):
            fields[name] = {"true": True, "false": False}[value.lower()]
        elif isinstance(old, tuple):
            fields[name] = tuple(type(old[0])(part) if old else part for part in value.split(",") if part)
        else:
            fields[name] = type(old)(value)
    except (ValueError, KeyError):
        raise ConfigError(f"config.values: {value!r} is not a value of {path}") from None


def measured(config: StudyConfig, workdir: Path, targets: Sequence[str]) -> Numbers:
    """The metric in percent by value, mode and score, for each seed and class; NaN for unfinished runs."""
    shape = len(config.seeds), len(targets)
    keys = itertools.product(config.values or ("",), config.modes, SCORES)
    numbers = {key: np.full(shape, np.nan) for key in keys}
    for run in _runs(config, targets):
        path = workdir / run.name / "results.json"
        if path.exists():
            results = json.loads(path.read_text(encoding="utf-8"))
            place = config.seeds.index(run.seed), list(targets).index(run.target)
            for score in SCORES:
                numbers[run.value, run.mode, score][place] = 100 * _metric(results, score, config.metric, path)
    return numbers


def table(config: StudyConfig, numbers: Numbers, targets: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of the metric in percent: each class (mean over seeds), the mean, and its standard deviation over seeds.

    If a field is varied, a row is a value and a mode with the default score; otherwise it is a mode and a score.
    """
    first = (config.vary, "mode") if config.vary else ("mode, score",)
    rows: list[tuple[str, ...]] = [(*first, *(f"class {c}" for c in targets), "mean", "sd of seeds")]
    for (value, mode, score), values in numbers.items():
        if config.vary and score != SCORES[0]:
            continue
        means = values.mean(1)
        spread = f"{means.std(ddof=1):.1f}" if len(config.seeds) > 1 else "-"
        heading = (value, mode) if config.vary else (f"{mode}, {score}",)
        rows.append((*heading, *(f"{v:.1f}" for v in values.mean(0)), f"{means.mean():.1f}", spread))
    return rows


def _metric(results: Mapping[str, Any], score: str, metric: str, path: Path) -> float:
    if metric == "auroc":
        return float(results["auroc"][score]["pooled"])
    return float(results["metrics"][score][metric]["value"])


def _write(config: StudyConfig, workdir: Path, numbers: Numbers, runs: Sequence[Run]) -> None:
    """Writes the numbers of all runs, and draws a curve of the varied field, or else the growth of norms."""
    targets = list(dict.fromkeys(run.target for run in runs))
    kept = [
        {
            **({config.vary: value} if config.vary else {}),
            **{"mode": mode, "target": target, "seed": seed, "score": score, config.metric: float(values[i, j])},
        }
        for (value, mode, score), values in numbers.items()
        for i, seed in enumerate(config.seeds)
        for j, target in enumerate(targets)
    ]
    write_json(workdir / TABLE, finite_or_none({"vary": config.vary, "metric": config.metric, "runs": kept}))
    if config.vary:
        curves = {
            mode: np.stack([numbers[value, mode, SCORES[0]].mean(1) for value in config.values])
            for mode in config.modes
        }
        save_study(workdir / CURVE, config.vary, list(config.values), curves, f"{METRICS[config.metric]}, percent")
        return
    grown = {mode: _grown(workdir, [run for run in runs if run.mode == mode]) for mode in config.modes}
    if all(grown.values()):
        save_growth(workdir / GROWTH, grown)


def _grown(workdir: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean scores of the tests during training, averaged over runs; empty if runs have no or different tests."""
    logs = [[line for line in read_log(workdir / run.name / "metrics.jsonl") if "clean_normal" in line] for run in runs]
    epochs = [[line["epoch"] for line in log] for log in logs]
    if not epochs[0] or any(other != epochs[0] for other in epochs):
        return []

    def mean(name: str, lines: Sequence[dict[str, Any]]) -> float | None:
        values = [line[name] for line in lines]
        return None if None in values else float(np.mean(values))

    return [{"epoch": epoch, **{name: mean(name, lines) for name in CLEAN}} for epoch, *lines in zip(epochs[0], *logs)]
