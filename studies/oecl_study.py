"""The task `oecl_study`: tables of several training runs, modes against each other over classes, seeds and one setting.

Every run has its own folder below the workdir, and one that is finished is not run again; so an interrupted table goes
on where it stopped.
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

from codegraph_jax.core.files import finite_or_none, write_json
from codegraph_jax.core.settings import ConfigError, at_least, choice, read_config
from codegraph_jax.core.tables import text_table
from codegraph_jax.core.written import note_written
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
"""What a table leaves beside its runs."""


Numbers = dict[tuple[str, str, str], Float[np.ndarray, "seeds classes"]]
"""A metric by value of the varied field, mode and score."""


@dataclass(frozen=True)
class StudyConfig:
    """Several training runs, and what their table shows."""

    task: str = field(default="oecl_study", metadata=choice("oecl_study"))
    """The task that this config is for."""
    modes: tuple[str, ...] = field(default=("simclr", "oecl"), metadata=choice(*OBJECTIVES))
    """The training modes that are compared."""
    classes: tuple[str, ...] = ("all",)
    """The values of `data.target`, one run for each; `all` takes every class of the training set."""
    seeds: tuple[int, ...] = field(default=(0,), metadata=at_least(0))
    """The seeds, one run for each."""
    metric: str = field(default="auroc", metadata=choice(*METRICS))
    """What the table shows."""
    vary: str = ""
    """The field of `run` that is varied, such as `oe.few_shot`; empty varies none."""
    values: tuple[str, ...] = ()
    """The values of that field, one run for each."""
    run: OeclConfig = field(default_factory=OeclConfig)
    """The settings that all runs share."""


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: of its folder.
        value: of the field that is varied, or "".
        mode, target, seed: its own.
        config: all its settings.
    """

    name: str
    value: str
    mode: str
    target: str
    seed: int
    config: OeclConfig


def read_study_config(values: Mapping[str, Any]) -> StudyConfig:
    """Reads and checks a study.

    Raises:
        ConfigError: naming the field.
    """
    config = read_config(StudyConfig, values)
    if not (config.modes and config.classes and config.seeds):
        raise ConfigError("config.modes, config.classes, config.seeds: each needs one value or more")
    if bool(config.vary) != bool(config.values):
        raise ConfigError("config.vary, config.values: a field and its values go together")
    # the first run of each mode and value says whether all can work
    list(_runs(config, config.classes[:1]))
    return config


def run(values: Mapping[str, Any], workdir: str) -> None:
    """`run_study` of a ConfigDict, see `StudyConfig`."""
    run_study(read_study_config(values), workdir)


def run_study(config: StudyConfig, workdir: str | Path) -> list[tuple[str, ...]]:
    """Trains what is not finished, prints the table and returns it; study.json and study.png go to the workdir.

    Raises:
        UserError: as `trainer.train`.
    """
    home = Path(workdir)
    targets = class_names(config.run) if config.classes == ("all",) else list(config.classes)
    runs = list(_runs(config, targets))
    for run in runs:
        # the same answer for all processes
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
    """All runs; those of a class and seed before the next, so that a partial table is fair."""
    for seed, target, value, mode in itertools.product(config.seeds, targets, config.values or ("",), config.modes):
        settings = dataclasses.asdict(config.run)
        settings["seed"], settings["data"]["target"], settings["train"]["mode"] = seed, target, mode
        prefix = ""
        if config.vary:
            _set(settings, config.vary, value)
            prefix = f"{config.vary}={value.replace('/', '_')}_"
        yield Run(f"{prefix}{mode}_{target}_{seed}", value, mode, target, seed, read_oecl_config(settings))


def _set(settings: dict[str, Any], path: str, value: str) -> None:
    """Puts a value, given as text, in the place of one of the same type."""
    place: Any = settings
    *groups, name = path.split(".")
    for group in groups:
        place = place.get(group) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place or isinstance(place[name], dict):
        raise ConfigError(f"config.vary: there is no field {path!r} of a training run")
    old = place[name]
    try:
        if isinstance(old, bool):
            place[name] = {"true": True, "false": False}[value.lower()]
        elif isinstance(old, tuple):
            place[name] = tuple(type(old[0])(part) if old else part for part in value.split(",") if part)
        else:
            place[name] = type(old)(value)
    except (ValueError, KeyError):
        raise ConfigError(f"config.values: {value!r} is no value of {path}") from None


def measured(config: StudyConfig, workdir: Path, targets: Sequence[str]) -> Numbers:
    """The metric in percent by value, mode and score, for each seed and class; NaN where a run is not finished."""
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
    """Rows of the metric in percent: each class (mean over seeds), the mean over classes, its spread over seeds.

    Where a field is varied, each value and mode is a row, by the default score; else each mode and score is.
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
    """The numbers of every run, and a curve where a field is varied, else the growth of norms."""
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
    """The tests along the way, their mean scores averaged over runs; none, where a run has made none."""
    logs = [[line for line in read_log(workdir / run.name / "metrics.jsonl") if "clean_normal" in line] for run in runs]
    epochs = [[line["epoch"] for line in log] for log in logs]
    if not epochs[0] or any(other != epochs[0] for other in epochs):
        return []

    def mean(name: str, lines: Sequence[dict[str, Any]]) -> float | None:
        values = [line[name] for line in lines]
        return None if None in values else float(np.mean(values))

    return [{"epoch": epoch, **{name: mean(name, lines) for name in CLEAN}} for epoch, *lines in zip(epochs[0], *logs)]
