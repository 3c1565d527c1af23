"""Compares two results or two runs on the same photos: ranks, flags, metrics and settings.

Photos are matched by category and name. The name of a photo in a run is its path below the run's `data.root`, so that
runs on copies of a folder can be compared.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import scipy

from codegraph_jax.core.bootstrap import Interval, LabelledScores, auroc_difference
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import read_json
from codegraph_jax.core.json_fields import JsonFields, flattened
from codegraph_jax.core.tables import text_table
from codegraph_jax.data.samples import LABELS
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.evaluation.metrics import METRIC_NAMES, Metrics
from codegraph_jax.result import DetectionResult

LISTED_PHOTOS = 10
"""Maximum number of photos of each kind in the text."""
KINDS = {
    "newly_flagged": "newly flagged",
    "no_longer_flagged": "no longer flagged",
    "most_moved": "largest changes of rank",
}
"""The properties of `ResultChanges` that list photos, and their headings in the text."""
SUMMARY_HEADINGS = [
    "category", "in both", "rank correlation", "flagged A", "flagged B", "newly flagged", "no longer flagged",
]  # fmt: skip
METRIC_HEADINGS = ["category", "metric (%)", "A", "B", "difference"]
PHOTO_HEADINGS = ["label", "rank A", "rank B", "score A", "score B", "verdict A", "verdict B"]
Key = tuple[str, str]
Run = DetectionResult | str | os.PathLike[str]


class RunError(UserError):
    """A directory is not the workdir of a finished run, or two runs have no photo in common."""


@dataclass(frozen=True)
class ScoredPhoto(JsonFields):
    """One photo of a result or run.

    Attributes:
        path: file, or name of an image without one.
        label, score, score_rescored, rank, flagged, verdict, group: the columns of scores.csv (docs/results.md).
    """

    path: str
    label: str | None
    score: float
    score_rescored: float
    rank: int
    flagged: bool
    verdict: str
    group: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ScoredPhoto":
        """The photo of a row of scores.csv; a malformed one raises KeyError, TypeError or ValueError."""
        return cls.from_json({field.name: row[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class PhotoChange:
    """One photo in both runs.

    Attributes:
        category, name: identity of the photo.
        before, after: the photo in each run.
        ranks: its rank in each run among the photos of its category that both have, 1 for the most anomalous.
    """

    category: str
    name: str
    before: ScoredPhoto
    after: ScoredPhoto
    ranks: tuple[int, int]

    @property
    def rank_gain(self) -> int:
        """Number of ranks by which the photo became more anomalous; negative: less."""
        return self.ranks[0] - self.ranks[1]

    @property
    def label(self) -> str | None:
        """The label, that of the later run where they differ."""
        return self.before.label if self.after.label is None else self.after.label


@dataclass(frozen=True)
class ResultChanges:
    """The differences between two results, (before, after) in each pair; print it for a summary.

    Attributes:
        names: names of both.
        photos: photos in both, in the order of the earlier one.
        missing: names of the photos that only one of them has.
        metrics: {category: {metric: values of both}}, only metrics that both have.
        settings: {setting: values of both} of the settings that differ; of results in memory only the weights and the
            settings of the features.
    """

    names: tuple[str, str]
    photos: tuple[PhotoChange, ...]
    missing: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    metrics: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def of_category(self, category: str) -> list[PhotoChange]:
        """The photos of a category."""
        return [photo for photo in self.photos if photo.category == category]

    @cached_property
    def categories(self) -> list[str]:
        """The categories with photos in both."""
        return list(dict.fromkeys(photo.category for photo in self.photos))

    @property
    def newly_flagged(self) -> list[PhotoChange]:
        """Photos that are flagged only after, the highest score first."""
        found = [photo for photo in self.photos if photo.after.flagged and not photo.before.flagged]
        return sorted(found, key=lambda photo: -photo.after.score)

    @property
    def no_longer_flagged(self) -> list[PhotoChange]:
        """Photos that were flagged only before, the highest score first."""
        found = [photo for photo in self.photos if photo.before.flagged and not photo.after.flagged]
        return sorted(found, key=lambda photo: -photo.before.score)

    @property
    def most_moved(self) -> list[PhotoChange]:
        """Photos whose rank differs, the largest difference first."""
        return sorted((p for p in self.photos if p.rank_gain), key=lambda p: (-abs(p.rank_gain), min(p.ranks)))

    def correlation(self, category: str = "") -> float | None:
        """Spearman's rank correlation of the scores of a category; None for fewer than two photos or equal scores."""
        photos = self.of_category(category)
        scores = np.array([(p.before.score, p.after.score) for p in photos]).reshape(-1, 2)
        if len(photos) < 2 or (np.ptp(scores, axis=0) == 0).any():
            return None
        return float(scipy.stats.spearmanr(scores[:, 0], scores[:, 1]).statistic)

    @cached_property
    def auroc_gain(self) -> Interval | None:
        """Image AUROC after minus before; None without labels of both classes."""
        scores: list[dict[str, LabelledScores]] = [{}, {}]
        for category in self.categories:
            photos = [p for p in self.of_category(category) if p.label is not None]
            labels = [int(p.label != LABELS[0]) for p in photos]
            for by_category, side in zip(scores, ("before", "after")):
                values = np.array([getattr(p, side).score_rescored for p in photos])
                by_category[category] = LabelledScores(labels, values)
        return auroc_difference(scores[1], scores[0])

    def __str__(self) -> str:
        lines = [f"A: {self.names[0]}", f"B: {self.names[1]}", ""]
        if self.settings:
            rows = [[name, *map(shortened, values)] for name, values in self.settings.items()]
            lines += [text_table(["setting", "A", "B"], rows), ""]
        only = [f"{len(names)} only in {run}" for run, names in zip("AB", self.missing) if names]
        lines += [", ".join([f"{len(self.photos)} photos in both", *only]), ""]
        lines += [text_table(SUMMARY_HEADINGS, self.summary()), ""]
        if rows := self.metric_rows():
            lines += [text_table(METRIC_HEADINGS, rows), _describe_gain(self.auroc_gain), ""]
        several = len(self.categories) > 1
        headings = ["photo", *(["category"] if several else []), *PHOTO_HEADINGS]
        for kind, photos in self.by_kind.items():
            rows = [
                [p.name, *([p.category] if several else []), p.label or "", *map(str, p.ranks),
                 f"{p.before.score:.4f}", f"{p.after.score:.4f}", p.before.verdict, p.after.verdict]
                for p in photos[:LISTED_PHOTOS]
            ]  # fmt: skip
            lines += [f"{KINDS[kind]}:", text_table(headings, rows)]
            lines += [f"and {len(photos) - LISTED_PHOTOS} more"] * (len(photos) > LISTED_PHOTOS) + [""]
        return "\n".join(lines).rstrip()

    @property
    def by_kind(self) -> dict[str, list[PhotoChange]]:
        """The photos that changed by the names in `KINDS`; only kinds with photos."""
        return {kind: photos for kind in KINDS if (photos := getattr(self, kind))}

    def summary(self) -> list[list[str]]:
        """A row for each category under `SUMMARY_HEADINGS`."""
        rows = []
        for category in self.categories:
            photos, correlation = self.of_category(category), self.correlation(category)
            flags = [(p.before.flagged, p.after.flagged) for p in photos]
            counts = [*map(sum, zip(*flags)), flags.count((False, True)), flags.count((True, False))]
            agreement = "-" if correlation is None else f"{correlation:.3f}"
            rows.append([category or "all", str(len(photos)), agreement, *map(str, counts)])
        return rows

    def metric_rows(self) -> list[list[str]]:
        """A row for each metric of each category under `METRIC_HEADINGS`, in percent."""
        return [
            [category or "all", METRIC_NAMES[name], *(f"{100 * value:.2f}" for value in values),
             f"{100 * (values[1] - values[0]):+.2f}"]
            for category, metrics in self.metrics.items()
            for name, values in metrics.items()
        ]  # fmt: skip


def _describe_gain(gain: Interval | None) -> str:
    if gain is None:
        return "image AUROC: one of the classes is absent"
    value, low, high = (100 * number for number in gain)
    significant = "significant" if gain.significant else "not significant"
    return f"image AUROC, B - A: {value:+.2f} points, 95% interval {low:+.2f} to {high:+.2f}; {significant}"


@dataclass(frozen=True)
class _Side:
    """One of two results or runs."""

    name: str
    photos: Mapping[Key, ScoredPhoto]
    metrics: Mapping[str, Metrics]
    settings: Mapping[str, Any]


def compare_results(before: Run, after: Run) -> ResultChanges:
    """Compares two results or finished runs.

    Args:
        before: a result, or the workdir of a finished run.
        after: the other one, on the same photos.

    Raises:
        RunError: a directory holds no finished run, or there is no photo in both.
    """
    return _changes(_side(before, "the first result"), _side(after, "the second result"))


def _changes(before: _Side, after: _Side) -> ResultChanges:
    both = [key for key in before.photos if key in after.photos]
    if not both:
        examples = " and ".join(repr(next(iter(side.photos), ("", "none"))[1]) for side in (before, after))
        raise RunError(
            f"{before.name} and {after.name} have no photo in common (such as {examples}); "
            "compare runs on the same photos"
        )
    ranks = [_ranks({key: side.photos[key] for key in both}) for side in (before, after)]
    photos = tuple(
        PhotoChange(*key, before.photos[key], after.photos[key], (ranks[0][key], ranks[1][key])) for key in both
    )
    missing = (
        tuple(name for category, name in before.photos if (category, name) not in after.photos),
        tuple(name for category, name in after.photos if (category, name) not in before.photos),
    )
    metrics = {
        category: found
        for category in before.metrics
        if (found := _in_both(before.metrics[category], after.metrics.get(category, {})))
    }
    names = sorted({*before.settings, *after.settings})
    pairs = {name: (before.settings.get(name, ""), after.settings.get(name, "")) for name in names}
    settings = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return ResultChanges((before.name, after.name), photos, missing, metrics, settings)


def _in_both(one: Metrics, other: Metrics) -> dict[str, tuple[float, float]]:
    pairs = {name: (one.get(name), other.get(name)) for name in METRIC_NAMES}
    return {name: (a, b) for name, (a, b) in pairs.items() if a is not None and b is not None}


def _ranks(photos: Mapping[Key, ScoredPhoto]) -> dict[Key, int]:
    """The rank of each photo among these photos of its category."""
    ranks, counts = {}, dict[str, int]()
    for key in sorted(photos, key=lambda key: photos[key].rank):
        counts[key[0]] = ranks[key] = counts.get(key[0], 0) + 1
    return ranks


def _side(run: Run, name: str) -> _Side:
    if not isinstance(run, DetectionResult):
        return _of_directory(Path(run))
    photos = {(row["category"], own): ScoredPhoto.of(row) for row, own in zip(run.rows(), _unique_names(run))}
    labelled = any(sample.label is not None for sample in run.samples)
    metrics = {next(iter(photos))[0]: evaluate(run)} if labelled else {}
    return _Side(name, photos, metrics, flattened(run.feature_identity))


def _unique_names(result: DetectionResult) -> list[str]:
    """Names of the images; the path where names repeat, and a number where paths repeat too."""
    if not result.samples:
        return [f"image {index}" for index in result.kept]
    counts = Counter((sample.category, sample.name) for sample in result.samples)
    names, seen = [], Counter[tuple[str, str]]()
    for sample in result.samples:
        name = sample.name if counts[sample.category, sample.name] == 1 else sample.path
        seen[sample.category, name] += 1
        number = seen[sample.category, name]
        names.append(name if number == 1 else f"{name} ({number})")
    return names


def _of_directory(workdir: Path) -> _Side:
    manifest, rows, scored = (_read(workdir, file) for file in ("manifest.json", "scores.json", "metrics.json"))
    try:
        config, weights_name = manifest["config"], manifest["weights_name"]
        root = str(config["data"]["root"])
        scores = [(str(row["category"]), ScoredPhoto.of(row)) for row in rows]
        photos = {(category, _name(photo.path, root, workdir)): photo for category, photo in scores}
        metrics = {str(category): _checked_metrics(values) for category, values in scored["categories"].items()}
        return _Side(str(workdir), photos, metrics, flattened({**config, "weights_name": weights_name}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{str(workdir)!r}: its files are damaged or of another version ({type(error).__name__}: {error}); run the "
            "command again"
        ) from None


def _read(workdir: Path, name: str) -> Any:
    """The content of a file that a run has written."""
    path = workdir / name
    try:
        return read_json(path)
    except FileNotFoundError:
        raise RunError(
            f"{str(workdir)!r}: holds no {name}; give the directory of a finished run of codegraph detect or inspect"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{str(path)!r}: cannot be read ({error}); run the command again") from None


def _name(path: str, root: str, workdir: Path) -> str:
    for folder in (root, workdir):
        if folder and PurePath(path).is_relative_to(folder):
            return PurePath(path).relative_to(folder).as_posix()
    return path


def _checked_metrics(values: Mapping[str, Any]) -> Metrics:
    return {name: None if values.get(name) is None else float(values[name]) for name in METRIC_NAMES}


def shortened(value: Any) -> str:
    """The value of a setting as a short text."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else "default" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
