"""The task `detect`: the categories of a data set in, results in the workdir out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax import processes
from codegraph_jax.config import Config, ConfigError, DataConfig, DrawConfig, MetricsConfig, read_config
from codegraph_jax.data.images import source_of
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.samples import LayoutError, Sample, find_images
from codegraph_jax.data.synthetic import draw_set, write_set
from codegraph_jax.detector import CoDeGraph, DetectionResult, TooFewImages
from codegraph_jax.evaluation import evaluate, where_measured
from codegraph_jax.metrics import mean_metrics
from codegraph_jax.progress import Clock
from codegraph_jax.report.law_figure import law_diagnostic
from codegraph_jax.report.names import shown
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.results import closing_line, write_results
from codegraph_jax.report.tables import metrics_table, text_table
from codegraph_jax.storage import plan_run

logger = logging.getLogger(__name__)

TOP = 10
"""Images that the closing table shows where no labels are known."""


def run(values: Mapping[str, Any], workdir: str) -> list[Outcome]:
    """Runs every category and writes the results.

    Args:
        values: a ConfigDict, see `codegraph_jax.config.Config`.
        workdir: directory of the results; made when there is something to write.

    Raises:
        ConfigError, LayoutError, TooFewImages, UnreadableImage, CheckpointError: with nothing written.
    """
    config = read_config(Config, values)
    clock = Clock()
    with clock("data"):
        categories = _categories(config, workdir)
    with clock("weights"):
        detector = CoDeGraph(config)
    if processes.is_first():
        print(f"weights: {detector.backbone.weights}", flush=True)

    outcomes = []
    for category, samples in categories.items():
        if processes.is_first():
            plan = plan_run(config, detector.backbone, len(samples))
            print(f"{shown(category)}: {len(samples)} images; {plan}", flush=True)
        further = _added(config.data, category)
        result = detector.detect(
            [source_of(sample) for sample in samples],
            progress=processes.is_first(),
            added=[source_of(sample) for sample in further],
            bank=config.bank.references if config.bank.save else 0,
        )
        samples = [*samples, *further]
        if config.data.cache and processes.is_first():
            print(f"features: {result.from_cache} of {len(result.kept)} from the cache", flush=True)
        _warn_skipped(category, samples, result)
        kept = [samples[i] for i in result.kept]
        with clock("metrics"):
            metrics = evaluate(result, kept, config.metrics)
        for stage, seconds in result.seconds.items():
            clock.seconds[stage] += seconds
        law = result.consistency.law
        outcomes.append(Outcome(category, kept, result, metrics, (law_diagnostic(law),) if law else ()))

    if processes.is_first():
        write_results(Path(workdir), config, outcomes, clock)
        if bank := outcomes[0].result.bank:
            bank.save(config.bank.save, config.bank.dtype)
            print(f"reference bank: {config.bank.save}")
        print(_closing_table(outcomes, config.metrics))
        print(closing_line(Path(workdir), config, outcomes))
    processes.wait("results written")
    return outcomes


def _categories(config: Config, workdir: str) -> dict[str, list[Sample]]:
    """The samples to run, checked before anything slow begins."""
    data = config.data
    if data.layout == "drawn":
        categories = _draw(data.draw, Path(workdir) / "images")
    else:
        if not data.root:
            raise ConfigError("config.data.root: is empty; give the directory of the images, --config.data.root=DIR")
        categories = read_layout(data.layout, data.root, data.categories, data.normal)
    for field, value in (("data.add", data.add), ("bank.save", config.bank.save)):
        if value and len(categories) > 1:
            raise ConfigError(
                f"config.{field}: goes with one product, and there are {len(categories)} categories; choose one with "
                "--config.data.categories=NAME"
            )
    if config.bank.save and not config.bank.save.endswith(".safetensors"):
        raise ConfigError(f"config.bank.save: {config.bank.save!r} does not end in .safetensors")
    for category, samples in categories.items():
        if len(samples) < 2:
            raise TooFewImages(
                f"category {category!r} in {data.root!r} has one image; each is judged by the others, so two are needed"
            )
    return categories


def _added(data: DataConfig, category: str) -> list[Sample]:
    """The images of `data.add`, without labels, below `added/` in the category."""
    samples: dict[str, Sample] = {}
    for number, place in enumerate(data.add):
        if Path(place).is_file():
            images = {Path(place).name: place}
        else:
            try:
                images = find_images(place)
            except LayoutError as error:
                raise ConfigError(f"config.data.add: {str(error).removeprefix('data.root: ')}") from None
        if not images:
            raise ConfigError(f"config.data.add: no image below {place!r}")
        for name, path in images.items():
            unique = f"added/{name}" if f"added/{name}" not in samples else f"added/{number}/{name}"
            samples[unique] = Sample(path, unique, category)
    return list(samples.values())


def _draw(draw: DrawConfig, root: Path) -> dict[str, list[Sample]]:
    """Draws the demo set and reads it back as anybody's data would be."""
    if processes.is_first():
        groups = " and ".join(f"{share:.0%}" for share in draw.recurring) or "none"
        print(
            f"Drawing {draw.count} photographs of a machined part: {draw.one_off:.0%} with a defect of their own, "
            f"{groups} with one that recurs.\nNo label is used to find them; the table at the end tells how well it "
            "went, report.html where they are.",
            flush=True,
        )
        write_set(draw_set(draw.count, draw.size, draw.seed, draw.one_off, draw.recurring), str(root / "drawn"))
    processes.wait("set drawn")
    return read_layout("mvtec", str(root), ("drawn",))


def _warn_skipped(category: str, samples: Sequence[Sample], result: DetectionResult) -> None:
    if result.skipped:
        index, reason = result.skipped[0]
        logger.warning(
            "%s: %d of %d images cannot be read and were left out; the first: %s",
            category, len(result.skipped), len(samples), reason,
        )  # fmt: skip


def _closing_table(outcomes: Sequence[Outcome], config: MetricsConfig) -> str:
    """Metrics where labels are known, else the most anomalous images of each category."""
    if any(value is not None for outcome in outcomes for value in outcome.metrics.values()):
        metrics = {outcome.category: outcome.metrics for outcome in outcomes}
        heading = f"percent; pixels at {where_measured(config)}\n"
        return heading + metrics_table(metrics, mean_metrics(list(metrics.values())))
    several = len(outcomes) > 1
    rows = []
    for outcome in outcomes:
        result, home = outcome.result, [outcome.category] if several else []
        for i in np.argsort(result.ranks, kind="stable")[:TOP]:
            calibration = result.calibration
            numbers = [str(result.ranks[i]), f"{result.scores_raw[i]:.4f}", f"{calibration.p_values[i]:.2g}"]
            rows.append([outcome.samples[i].name, *home, *numbers, "yes" if calibration.flagged[i] else ""])
    headings = ["most anomalous", *(["category"] if several else []), "rank", "raw score", "p-value", "flagged"]
    return text_table(headings, rows)
