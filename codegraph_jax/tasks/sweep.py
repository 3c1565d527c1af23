"""`codegraph sweep`: detection with every combination of varied settings, and a table with error bars.

Features and distances are computed once for all points that differ only in scoring, and also serve random halves of the
images. Halves stand for seeds, which detection does not have. Several devices take a category each; several hosts start
the same command with a shared workdir.
"""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codegraph_jax.config import Config
from codegraph_jax.core.comparison import ImageScores
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import printable
from codegraph_jax.core.report_archive import photos_identity
from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.core.sweep import WHOLE, Cell, CellStore, Point, Sweep, halves, read_points
from codegraph_jax.core.user_code import user_code_digest
from codegraph_jax.core.workdir import written_to
from codegraph_jax.data.images import source_of
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.detector import CoDeGraph, TooFewImagesError
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.evaluation.metrics import Metrics
from codegraph_jax.report.wording import counted
from codegraph_jax.resume.state import SCORING
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.plan import plan_set
from codegraph_jax.tasks.categories import on_each_device, one_for_each_device
from codegraph_jax.tasks.sets import read_categories

TABLE_METRICS = {
    "image_auroc": "image AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1",
    "pixel_aupro": "AUPRO",
}
"""Metrics of the tables; sweep.csv has all of them."""
SCORING_ONLY = (*SCORING, "metrics")
"""Settings that need neither new features nor new distances."""
FIXED = ("task", "data", "report", "bank", "parallel", "storage", "state", "review", "csv")
"""Settings that cannot be varied, since the scores do not depend on them, or on other photos."""
MIN_IMAGES = 4
"""Least number of images of a category with halves."""
FEATURES = "features"
"""Directory in the workdir of features that several points share; removed when the sweep is complete."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Unit:
    """A category, and all points that share its distances."""

    category: str
    samples: Sequence[Sample]
    points: Sequence[tuple[Point, Config]]


def run(
    values: Mapping[str, Any],
    workdir: str,
    vary: Sequence[str] = (),
    groups: Sequence[str] = (),
    subsets: int = 0,
    seeds: Sequence[int] = (),
) -> Sweep:
    """Computes the cells that are not finished, prints the table and writes it to the workdir.

    Args:
        values: a ConfigDict, see `codegraph_jax.config.Config`.
        workdir: directory of the sweep.
        vary: settings and their values, as `scoring.score=standard,few`.
        groups: the categories; empty: as in the settings.
        subsets: number of random halves.
        seeds: not used by detection, and refused.

    Raises:
        ConfigError, LayoutError, TooFewImagesError: nothing was computed.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            "codegraph sweep: runs in one process on each host; start the same command on every host, without "
            "--coordinator and with a shared --out"
        )
    refuse_seeds(seeds)
    config = read_config(Config, values)
    if config.bank.save or config.review or config.data.add or config.data.split != "none":
        raise ConfigError("codegraph sweep: leave out bank.save, review, data.add and data.split")
    # another network would be measured under the name of the requested one
    config = replace(config, backbone=replace(config.backbone, fallback=""))
    if groups:
        config = replace(config, data=replace(config.data, categories=tuple(groups)))
    points = [
        (point, read_config(Config, point.settings)) for point in read_points(vary, Config, asdict(config), FIXED)
    ]
    home = Path(workdir)
    for _, one in points:
        user_code_digest(one.scoring.score, "config.scoring.score")
    categories = read_categories(config.data, home)
    for name, samples in categories.items():
        if subsets and len(samples) < MIN_IMAGES:
            raise TooFewImagesError(
                f"--subsets: category {name!r} has {len(samples)} images; halves need {MIN_IMAGES} or more"
            )
    sweeping = _Sweeping(config, home, points, categories, subsets)
    with written_to(home):
        home.mkdir(parents=True, exist_ok=True)
        sweep = sweeping.run()
        sweep.write(home)
    print(sweep.text())
    print(f"tables: {home / 'table.md'}, table.tex, sweep.csv, differences.csv")
    return sweep


def refuse_seeds(seeds: Sequence[int]) -> None:
    """Raises a ConfigError if there are seeds."""
    if seeds:
        raise ConfigError("--seeds: detection has no seed; give --subsets=5 for random halves of the images")


class _Sweeping:
    """A sweep while it runs."""

    def __init__(
        self,
        config: Config,
        home: Path,
        points: Sequence[tuple[Point, Config]],
        categories: Mapping[str, list[Sample]],
        subsets: int,
    ):
        self.config, self.home, self.points, self.categories = config, home, points, categories
        self.subsets, self.store = subsets, CellStore(home)
        self.problems: dict[str, str] = {}
        with_times = config.data.layout != "drawn"
        self.files = {
            name: photos_identity(((s.name, s.path) for s in samples), with_times)
            for name, samples in categories.items()
        }

    def run(self) -> Sweep:
        """Computes the unfinished cells that no other process is computing."""
        repeats = [WHOLE, *(repeat for repeat in halves(2, self.subsets, "") if repeat != WHOLE)]
        count = len(self.points) * len(self.categories) * len(repeats)
        print(
            f"{counted(count, 'cell')}: {counted(len(self.points), 'combination of settings')}, "
            f"categories: {len(self.categories)}, {counted(len(repeats), 'set of images each')}",
            flush=True,
        )
        slow: dict[str, list[tuple[Point, Config]]] = {}
        for point, config in self.points:
            values = {name: value for name, value in asdict(config).items() if name not in SCORING_ONLY}
            slow.setdefault(json.dumps(values, sort_keys=True), []).append((point, config))
        backbones = [json.dumps(asdict(alike[0][1].backbone), sort_keys=True) for alike in slow.values()]
        for alike in slow.values():
            own = json.dumps(asdict(alike[0][1].backbone), sort_keys=True)
            self._run_alike(alike, cached=backbones.count(own) > 1)
        cells = {
            (i, category, repeat): self.store.find(self._identity(config, category, repeat))
            for i, (_, config) in enumerate(self.points)
            for category in self.categories
            for repeat in repeats
        }
        # an earlier run of the sweep may have varied other settings
        finished = [replace(cell, values=dict(self.points[i][0].values)) for (i, *_), cell in cells.items() if cell]
        missing = len(cells) - len(finished)
        if not missing:
            shutil.rmtree(self.home / FEATURES, ignore_errors=True)
        points = [point for point, _ in self.points]
        return Sweep(points, list(self.categories), finished, TABLE_METRICS, missing, self.problems)

    def _run_alike(self, alike: Sequence[tuple[Point, Config]], cached: bool) -> None:
        """Computes the cells of points that share features and distances."""
        units = [_Unit(category, samples, alike) for category, samples in self.categories.items()]
        units = [unit for unit in units if any(self._unfinished(unit).values())]
        if not units:
            return
        config = alike[0][1]
        if cached and not config.data.cache:
            config = replace(config, data=replace(config.data, cache=str(self.home / FEATURES)))
        try:
            detector = CoDeGraph(config)
            several = len(units) > 1 and len(detector.mesh.devices) > 1
            detectors = one_for_each_device(detector, len(units)) if several else [detector]
            on_each_device(detectors, self._run_unit, units)
        except (UserError, MemoryError) as error:
            # the others can still be compared
            for point, _ in alike:
                self.problems[point.name or "as given"] = str(error) or "not enough memory"
                logger.warning("%s: %s", point.name or "as given", error)

    def _unfinished(self, unit: _Unit) -> dict[int, list[str]]:
        """The repeats that are not finished, by the place of the point."""
        repeats = halves(len(unit.samples), self.subsets, unit.category)
        return {
            i: [r for r in repeats if self.store.find(self._identity(config, unit.category, r)) is None]
            for i, (_, config) in enumerate(unit.points)
        }

    def _run_unit(self, detector: CoDeGraph, unit: _Unit) -> None:
        with ExitStack() as stack:
            if not stack.enter_context(self.store.claimed(asdict(unit.points[0][1]), unit.category)):
                print(f"{printable(unit.category)}: another process computes it", flush=True)
                return
            todo = self._unfinished(unit)
            if not any(todo.values()):
                return
            began = time.perf_counter()
            comparison = self._compare(detector, unit.samples)
            slow = time.perf_counter() - began
            chosen = halves(comparison.set_size, self.subsets, unit.category)
            for repeat, images in chosen.items():
                needed = [i for i, repeats in todo.items() if repeat in repeats]
                some = comparison if repeat == WHOLE or not needed else comparison.of_images(images)
                for i in needed:
                    point, config = unit.points[i]
                    cell = self._cell(detector, some, unit, point, config, repeat, slow)
                    self.store.keep(self._identity(config, unit.category, repeat), cell)
            done = counted(sum(map(len, todo.values())), "cell")
            print(
                f"{printable(unit.category)}: {counted(comparison.set_size, 'photo')}, features and distances in "
                f"{slow:.0f} s, {done} in all in {time.perf_counter() - began:.0f} s",
                flush=True,
            )

    def _compare(self, detector: CoDeGraph, samples: Sequence[Sample]) -> Comparison:
        config, images = detector.config, [source_of(sample) for sample in samples]
        roi = Roi.load(config.data.roi) if config.data.roi else None
        inspected = roi.each([sample.name for sample in samples]) if roi else []
        frame = detector.frame_of(images)
        plan = plan_set(config, detector.backbone, detector.mesh, images, frame, (), inspected)
        plan.check(config.storage.check)
        return detector.compare_set(plan)

    def _cell(
        self,
        detector: CoDeGraph,
        comparison: Comparison,
        unit: _Unit,
        point: Point,
        config: Config,
        repeat: str,
        slow: float,
    ) -> Cell:
        began = time.perf_counter()
        result = detector.with_scoring(config).score(comparison)
        kept = [unit.samples[i] for i in result.kept]
        metrics: Metrics = evaluate(result, kept, config.metrics)
        scores = (
            ImageScores([sample.label for sample in kept], np.asarray(result.scores_rescored))
            if repeat == WHOLE
            else None
        )
        seconds = slow + time.perf_counter() - began
        return Cell(dict(point.values), unit.category, repeat, metrics, len(kept), seconds, scores)

    def _identity(self, config: Config, category: str, repeat: str) -> dict[str, Any]:
        """Everything that the result of a cell depends on."""
        values = asdict(config)
        settings = {name: value for name, value in values.items() if name not in FIXED}
        data = {name: values["data"][name] for name in ("layout", "unreadable", "range", "draw", "roi", "pages")}
        return {
            "settings": settings,
            "data": data,
            "score": user_code_digest(config.scoring.score, "config.scoring.score"),
            "backbone": user_code_digest(config.backbone.name, "config.backbone.name"),
            "photos": self.files[category],
            "category": category,
            "repeat": repeat,
        }
