"""Reads everything that a detection run needs before its slow work: photos, answers, inspected area and weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from codegraph_jax.config import Config
from codegraph_jax.consistency.review import Review, find_review
from codegraph_jax.core.names import printable
from codegraph_jax.core.progress import Clock
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.roi import Roi
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import SkippedFiles, skipped_below
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed import processes
from codegraph_jax.report.archive import digest_of_photos
from codegraph_jax.tasks.agreement import check_agreement
from codegraph_jax.tasks.fallback import load_detector
from codegraph_jax.tasks.paths import BANK_SUFFIX
from codegraph_jax.tasks.sets import drawn_files_of_run, read_added, read_categories, require_one_product


@dataclass(frozen=True)
class Inputs:
    """Photos, settings and weights of a detection run.

    Attributes:
        config: settings of the run, with the backbone that is used.
        detector: detector of the run.
        categories: photos of each set.
        added: photos that are added to each set.
        skipped: files that are not read.
        review: a person's answers; None: none.
        roi: inspected area; None: everything.
    """

    config: Config
    detector: CoDeGraph
    categories: Mapping[str, list[Sample]]
    added: Mapping[str, list[Sample]]
    skipped: SkippedFiles
    review: Review | None
    roi: Roi | None

    @cached_property
    def all_samples(self) -> dict[str, list[Sample]]:
        """Photos of each set, then those that are added to it."""
        return {category: [*samples, *self.added[category]] for category, samples in self.categories.items()}

    def photos_digest(self, workdir: Path) -> str:
        """A digest of the photos, by which a run on the same ones is recognised."""
        drawn = drawn_files_of_run(self.config.data, workdir)
        return digest_of_photos(((s.name, s.path) for one in self.all_samples.values() for s in one), not drawn)


def read_inputs(workdir: Path, config: Config, clock: Clock) -> Inputs:
    """Reads the inputs, prints which are used, and compares them between processes.

    Raises:
        UserError: an input is missing or invalid, or differs between processes.
    """
    first = processes.is_first()
    with clock("data"), processes.errors_in_all_processes():
        if config.bank.save and not config.bank.save.endswith(BANK_SUFFIX):
            raise ConfigError(f"config.bank.save: {config.bank.save!r} does not end in {BANK_SUFFIX}")
        categories = read_categories(config.data, workdir)
        if not config.data.separate_products:
            require_one_product(config, categories)
        skipped = skipped_below([config.data.root, *config.data.add])
    with clock("weights"), processes.errors_in_all_processes():
        review, review_path = _read_review(config.review)
        roi = Roi.load(config.data.roi) if config.data.roi else None
        detector = load_detector(config)
        config = detector.config
        if review:
            review.check(detector.feature_identity, review_path)
    if config.data.separate_products:
        with clock("backbone"):
            categories = _by_product(detector, categories)
    with clock("data"), processes.errors_in_all_processes():
        require_one_product(config, categories)
        added = {category: read_added(config.data, category) for category in categories}
    inputs = Inputs(config, detector, categories, added, skipped, review, roi)
    if first:
        for line in skipped.lines(all_suffixes=config.data.layout == "folder"):
            print(line, flush=True)
    check_agreement(config, inputs.all_samples, detector.backbone.weights_name, review)
    if first:
        print(f"weights: {detector.backbone.weights_name}", flush=True)
        if detector.autotuning_note:
            print(detector.autotuning_note, flush=True)
    return inputs


def _read_review(setting: str) -> tuple[Review | None, str]:
    """The review in a file or a directory, and its path; None if the setting is empty."""
    if not setting:
        return None, ""
    path = find_review(setting)
    review = Review.load(path)
    if path != setting and processes.is_first():
        print(f"review: {path}", flush=True)
    return review, path


def _by_product(detector: CoDeGraph, categories: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Samples by category; a category with several products becomes `parts-1`, `parts-2`, one for each product."""
    divided: dict[str, list[Sample]] = {}
    for category, samples in categories.items():
        product_ids = detector.product_ids(samples, progress=processes.is_first())
        if not product_ids.any():
            divided[category] = samples
            continue
        groups = {f"{category}-{k + 1}": np.flatnonzero(product_ids == k) for k in range(product_ids.max() + 1)}
        for name, indices in groups.items():
            divided[name] = [replace(samples[i], category=name) for i in indices]
        if processes.is_first():
            listed = ", ".join(f"{printable(name)} ({len(indices)} photos)" for name, indices in groups.items())
            print(
                f"{printable(category)}: shows {len(groups)} products or views, each inspected separately: {listed}",
                flush=True,
            )
    return divided
