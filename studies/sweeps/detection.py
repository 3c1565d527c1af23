"""`codegraph sweep`: detection with every combination of varied settings, and a table with error bars.

Features and distances are computed once for all points that differ only in scoring, and also serve random halves of the
images. Halves stand for seeds, which detection does not have. Several devices take a category each; several hosts start
the same command with a shared workdir.
"""

import copy
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from codegraph_jax.backbones.loading import with_defaults
from codegraph_jax.config import Config
from codegraph_jax.core.bootstrap import LabelledScores
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import printable
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.user_code import user_code_digest
from codegraph_jax.core.workdir import written_to
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.detector import CoDeGraph, TooFewImagesError
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.evaluation.metrics import METRIC_NAMES
from codegraph_jax.report.archive import digest_of_photos
from codegraph_jax.report.wording import counted
from codegraph_jax.resume.state import SCORING
from codegraph_jax.scoring.scores import score_of
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import HostTables
from codegraph_jax.similarity.plan import plan_set
from codegraph_jax.tasks.scheduling import on_each_device, one_for_each_device
from codegraph_jax.tasks.sets import read_categories
from studies.sweeps.sweep import AS_GIVEN, WHOLE, Cell, CellStore, Point, Sweep, halves, read_points, repeat_names

TABLE_METRICS = {name: METRIC_NAMES[name] for name in ("image_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro")}
"""Metrics of the tables; sweep.csv has all of them."""
SCORING_ONLY = (*SCORING, "metrics")
"""Settings that need neither new features nor new distances."""
FIXED = ("task", "data", "report", "bank", "parallel", "resources", "resume_data", "review", "csv")
"""Settings that cannot be varied, since the scores do not depend on them, or on other photos."""
REFUSED = {"seeds": "detection has no seed; give --subsets=5 for random halves of the images"}
"""Flags of other sweeps, with the reason why there is no such argument."""
MIN_IMAGES = 4
"""Least number of images of a category with halves."""
FEATURES = "features"
"""Directory in the workdir of features that several points share; removed when the sweep is complete."""

logger = logging.getLogger(__name__)


def run(
    config: Config,
    workdir: str,
    vary: Sequence[str] = (),
    groups: Sequence[str] = (),
    subsets: int = 0,
) -> Sweep:
    """Computes the cells that are not finished, prints the table and writes it to the workdir.

    Args:
        config: settings of every run, of which `vary` replaces some.
        workdir: directory of the sweep.
        vary: settings and their values, as `scoring.score=standard,few`.
        groups: the categories; empty: as in the settings.
        subsets: number of random halves.

    Raises:
        ConfigError, LayoutError, TooFewImagesError: nothing was computed.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            "codegraph sweep: runs in one process on each host; start the same command on every host, without "
            "--coordinator and with a shared --out"
        )
    if config.bank.save or config.review or config.data.add or config.data.separate_products:
        raise ConfigError("codegraph sweep: leave out bank.save, review, data.add and data.separate_products")
    # another network would be measured under the name of the requested one
    config = replace(config, backbone=replace(config.backbone, fallback=""))
    if groups:
        config = replace(config, data=replace(config.data, categories=tuple(groups)))
    points = read_points(vary, config, FIXED)
    for point in points:
        score_of(point.config.scoring.score)
    directory = Path(workdir)
    categories = read_categories(config.data, directory)
    for name, samples in categories.items():
        if subsets and len(samples) < MIN_IMAGES:
            raise TooFewImagesError(
                f"--subsets: category {name!r} has {len(samples)} images; halves need {MIN_IMAGES} or more"
            )
    running = _RunningSweep(directory, points, categories, subsets, config.data.layout != "drawn")
    with written_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        sweep = running.run()
    sweep.report(directory)
    return sweep


class _RunningSweep:
    """A sweep while it runs.

    Args:
        directory: directory of the sweep.
        points: all combinations of settings.
        categories: photos by category.
        subsets: number of random halves.
        with_times: see `digest_of_photos`.
    """

    def __init__(
        self,
        directory: Path,
        points: Sequence[Point],
        categories: Mapping[str, list[Sample]],
        subsets: int,
        with_times: bool,
    ):
        self.directory, self.points, self.categories = directory, points, categories
        self.subsets, self.store = subsets, CellStore(directory)
        self.problems: dict[str, str] = {}
        self.photos_digests = {
            name: digest_of_photos(((s.name, s.path) for s in samples), with_times)
            for name, samples in categories.items()
        }

    def run(self) -> Sweep:
        """Computes the unfinished cells that no other process is computing."""
        repeats = repeat_names(self.subsets)
        count = len(self.points) * len(self.categories) * len(repeats)
        print(
            f"{counted(count, 'cell')}: {counted(len(self.points), 'combination of settings')}, "
            f"categories: {len(self.categories)}, {counted(len(repeats), 'set of images each')}",
            flush=True,
        )
        # points with the same features and distances
        by_features: dict[str, list[Point]] = {}
        for point in self.points:
            values = {name: value for name, value in asdict(point.config).items() if name not in SCORING_ONLY}
            by_features.setdefault(json.dumps(values, sort_keys=True), []).append(point)
        backbones = [points[0].config.backbone for points in by_features.values()]
        for points in by_features.values():
            self._run_points(points, cached=backbones.count(points[0].config.backbone) > 1)
        cells = [
            # an earlier run of the sweep may have varied other settings
            replace(cell, values=dict(point.values))
            for point in self.points
            for category in self.categories
            for repeat in repeats
            if (cell := self.store.find(self._identity(point.config, category, repeat)))
        ]
        if len(cells) == count:
            shutil.rmtree(self.directory / FEATURES, ignore_errors=True)
        return Sweep(
            self.points,
            list(self.categories),
            cells,
            TABLE_METRICS,
            count - len(cells),
            self.problems,
        )

    def _run_points(self, points: Sequence[Point], cached: bool) -> None:
        """Computes the cells of points that share features and distances."""
        categories = [category for category in self.categories if self._unfinished(points, category)]
        if not categories:
            return
        config: Config = points[0].config
        if cached and not config.data.cache:
            config = replace(config, data=replace(config.data, cache=str(self.directory / FEATURES)))
        try:
            detector = CoDeGraph(config)
            several = len(categories) > 1 and len(detector.mesh.devices) > 1
            detectors = one_for_each_device(detector, len(categories)) if several else [detector]
            on_each_device(detectors, partial(self._run_category, points), categories)
        except (UserError, MemoryError) as error:
            # the others can still be compared
            for point in points:
                self.problems[point.name or AS_GIVEN] = str(error) or "not enough memory"
                logger.warning("%s: %s", point.name or AS_GIVEN, error)

    def _unfinished(self, points: Sequence[Point], category: str) -> dict[str, list[Point]]:
        """The points that are not finished, by repeat."""
        found = {
            repeat: [
                point for point in points if self.store.find(self._identity(point.config, category, repeat)) is None
            ]
            for repeat in repeat_names(self.subsets)
        }
        return {repeat: missing for repeat, missing in found.items() if missing}

    def _run_category(self, points: Sequence[Point], detector: CoDeGraph, category: str) -> None:
        samples = self.categories[category]
        with self.store.claimed(asdict(points[0].config), category) as mine:
            if not mine:
                print(f"{printable(category)}: another process computes it", flush=True)
                return
            unfinished = self._unfinished(points, category)
            if not unfinished:
                return
            began = time.perf_counter()
            comparison = _compare(detector, samples)
            comparison_seconds = time.perf_counter() - began
            images = halves(comparison.set_size, self.subsets, category)
            for repeat, missing in unfinished.items():
                some = comparison if repeat == WHOLE else _among(comparison, images[repeat])
                for point in missing:
                    started = time.perf_counter()
                    result = _scoring_by(detector, point.config).score(some)
                    metrics = evaluate(result, point.config.metrics)
                    labels = [sample.label for sample in result.samples]
                    scores = LabelledScores(labels, np.asarray(result.scores_rescored)) if repeat == WHOLE else None
                    seconds = comparison_seconds + time.perf_counter() - started
                    cell = Cell(dict(point.values), category, repeat, metrics, len(result.kept), seconds, scores)
                    self.store.keep(self._identity(point.config, category, repeat), cell)
            print(
                f"{printable(category)}: {counted(comparison.set_size, 'photo')}, features and distances in "
                f"{comparison_seconds:.0f} s, {counted(sum(map(len, unfinished.values())), 'cell')} in all in "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )

    def _identity(self, config: Config, category: str, repeat: str) -> dict[str, Any]:
        """Everything that the result of a cell depends on."""
        values = asdict(config)
        settings = {name: value for name, value in values.items() if name not in FIXED}
        names = ("layout", "unreadable", "range", "no_data", "draw", "roi", "pages")
        data = {name: values["data"][name] for name in names}
        return {
            "settings": settings,
            "data": data,
            "score": user_code_digest(config.scoring.score, "config.scoring.score"),
            "backbone": user_code_digest(config.backbone.name, "config.backbone.name"),
            "photos": self.photos_digests[category],
            "category": category,
            "repeat": repeat,
        }


def _scoring_by(detector: CoDeGraph, config: Config) -> CoDeGraph:
    """A copy of a detector that scores by the scoring, consistency and threshold of other settings."""
    other, config = copy.copy(detector), with_defaults(config, detector.backbone)
    changed = {name: getattr(config, name) for name in ("scoring", "recurring", "threshold", "metrics")}
    other.config, other.chosen_score = replace(detector.config, **changed), score_of(config.scoring.score)
    return other


def _compare(detector: CoDeGraph, samples: Sequence[Sample]) -> Comparison:
    config = detector.config
    areas = Roi.load(config.data.roi).areas_of([sample.name for sample in samples]) if config.data.roi else []
    plan = plan_set(config, detector.backbone, detector.mesh, samples, detector.frame_of(samples), (), areas)
    plan.check(config.resources.check)
    return replace(detector.compare_set(plan), samples=samples)


def _among(comparison: Comparison, images: Int[np.ndarray, " k"]) -> Comparison:
    """The comparison of some images of the set with those of them that are references, with tables on the host.

    Its scores are those of a comparison of these images alone, except if only some images are references. The indices
    are in ascending order, and the run has a single process.
    """
    host, features = comparison.tables.host(), comparison.features.select(images)
    columns = np.flatnonzero(np.isin(comparison.references, images))
    references = np.searchsorted(images, comparison.references[columns])
    tables = [np.ascontiguousarray(table[:, images][:, :, columns]) for table in host]
    return replace(
        comparison,
        features=features,
        tables=HostTables(tables, features.layers, features.images_per_process, references, host.options),
        added_count=0,
        product_ids=None if comparison.product_ids is None else comparison.product_ids[images],
    )
