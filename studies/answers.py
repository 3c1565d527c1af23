"""The task `answers`: accuracy of threshold and score after a few answers, which come from the labels of sets.

Each set is detected once. Its labels then answer the questions of `ActiveCalibrator`, for the standard score alone and
for all scores. Resampled sets (80% of the photos, drawn without replacement) measure the variation of the results;
sets with few of their defective photos measure false alarms and recall if defects are rare.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.config import Config, RecurringConfig
from codegraph_jax.core.files import write_json
from codegraph_jax.core.settings import Settings, at_least, choice, no_flag, path_like, within
from codegraph_jax.core.tables import percent, text_table
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.evaluation.metrics import image_metrics
from codegraph_jax.scoring.active_calibration import ActiveCalibrator
from codegraph_jax.scoring.scores import STANDARD

Scores = Mapping[str, Float[np.ndarray, " n"]]
RESAMPLED_SHARE = 0.8
"""Share of the photos in a resampled set."""
THRESHOLD_ANSWERS = 8
"""Number of answers after which the threshold of the standard score is measured."""
SCORE_ANSWERS = 12
"""Number of answers after which the choice of a score is measured, and F1 after two more."""
MAX_ANSWERS = 20
"""Greatest number of answers of a person."""


@dataclass(frozen=True)
class AnswersStudyConfig(Settings):
    """Sets and numbers of answers."""

    task: str = field(default="answers", metadata=choice("answers"))
    """The task that this config is for."""
    roots: tuple[str, ...] = field(default=(), metadata=path_like())
    """Directories in MVTec's form; every category is a set."""
    resample_count: int = field(default=10, metadata=no_flag() | at_least(0))
    """The number of times that each set is resampled."""
    shares: tuple[float, ...] = field(default=(0.0, 0.01, 0.05, 0.2), metadata=within(0.0, 0.9))
    """The shares of defective photos in sets with few defects."""
    detect: Config = field(default_factory=Config)
    """The settings of detection, such as the backbone."""


@dataclass(frozen=True)
class Row:
    """Results on one set, whole or resampled.

    Attributes:
        name, photos, defective: name of the set, and its numbers of photos and of defective photos.
        balanced_accuracy: balanced accuracy of the standard score after `THRESHOLD_ANSWERS` answers.
        best_balanced_accuracy: balanced accuracy at the best threshold.
        interval_coverage: share of the intervals that contain the true number.
        mutual_auroc, standard_auroc, chosen_auroc: image AUROC of mutual scoring, the full method, and
            the chosen score.
        score: name of the chosen score.
        f1: F1 after two more answers.
        best_f1: F1 of mutual scoring at its best threshold.
    """

    name: str
    photos: int
    defective: int
    balanced_accuracy: float
    best_balanced_accuracy: float
    interval_coverage: float
    mutual_auroc: float
    standard_auroc: float
    chosen_auroc: float
    score: str
    f1: float
    best_f1: float


@dataclass(frozen=True)
class RareDefects:
    """Results on sets with few defective photos.

    Attributes:
        name: name of the set.
        share: share of defective photos.
        false_alarms: mean share of flagged good photos.
        max_false_alarms: greatest share of flagged good photos over all draws.
        recall: mean share of flagged defective photos; None if there are none.
        missed, expected_missed: mean number of defective photos that are not flagged, and as estimated.
        within_limit: share of the draws with at most as many as the upper limit of the estimate.
        answers: mean number of answers until the calibrator needs no more.
    """

    name: str
    share: float
    false_alarms: float
    max_false_alarms: float
    recall: float | None
    missed: float
    expected_missed: float
    within_limit: float
    answers: float


def run(config: AnswersStudyConfig, workdir: str) -> list[Row]:
    """Prints the tables and writes them to study.json."""
    with locked(Path(workdir)):
        rows: list[Row] = []
        resampled: list[Row] = []
        few_defects: list[RareDefects] = []
        for name, mutual, scores, labels in _sets(config):
            rows.append(simulate(name, mutual, scores, labels))
            rng = np.random.default_rng([0, *name.encode()])
            for _ in range(config.resample_count):
                chosen = np.sort(rng.choice(len(labels), int(RESAMPLED_SHARE * len(labels)), replace=False))
                part = {key: value[chosen] for key, value in scores.items()}
                resampled.append(simulate(name, mutual[chosen], part, labels[chosen]))
            few_defects += [
                rare_defects(name, scores, labels, share, config.resample_count, rng) for share in config.shares
            ]
            print(text_table(HEADINGS, [cells(rows[-1])]), flush=True)
        with written_to(Path(workdir)):
            study: dict[str, list[Any]] = {"sets": rows, "resampled": resampled, "few_defects": few_defects}
            plain = {name: [vars(row) for row in listed] for name, listed in study.items()}
            write_json(Path(workdir) / "study.json", plain)
    print(text_table(HEADINGS, [cells(row) for row in rows] + ([_mean_cells("mean", rows)] if rows else [])))
    if resampled:
        print(text_table(HEADINGS, [_mean_cells("resampled", resampled)]))
    headings = ["set", "defective", "false alarms", "at most", "recall", "missed", "estimated", "within", "answers"]
    print(text_table(headings, [_rare_defects_cells(row) for row in few_defects]))
    return rows


HEADINGS = ["set", "photos", "defective", "balanced", "best", "gap", "covered"]
HEADINGS += ["mutual", "full", "chosen", "score", "F1", "best F1"]


def simulate(
    name: str,
    mutual: Float[np.ndarray, " n"],
    scores: Scores,
    labels: Bool[np.ndarray, " n"],
) -> Row:
    """Results on one set after `THRESHOLD_ANSWERS` and `SCORE_ANSWERS` answers.

    Args:
        name: name of the set.
        mutual: scores of mutual scoring alone.
        scores: scores by name.
        labels: True for defective photos; the answers.
    """
    standard = scores[STANDARD.name]
    alone = ActiveCalibrator(standard)
    answer(alone, labels, THRESHOLD_ANSWERS)
    estimate, flagged = alone.estimate, alone.flagged
    true_counts = int((flagged & ~labels).sum()), int((~flagged & labels).sum())
    covered = [c.low <= count <= c.high for c, count in zip((estimate.false_alarms, estimate.misses), true_counts)]
    calibrator = ActiveCalibrator(scores)
    answer(calibrator, labels, SCORE_ANSWERS)
    chosen = calibrator.score_name
    answer(calibrator, labels, 2)
    found = calibrator.flagged
    return Row(
        name=name,
        photos=len(labels),
        defective=int(labels.sum()),
        balanced_accuracy=balanced_accuracy(flagged, labels),
        best_balanced_accuracy=best_balanced_accuracy(standard, labels),
        interval_coverage=float(np.mean(covered)),
        mutual_auroc=_auroc_percent(image_metrics(labels.astype(int), mutual)["image_auroc"]),
        standard_auroc=_auroc_percent(image_metrics(labels.astype(int), standard)["image_auroc"]),
        chosen_auroc=_auroc_percent(image_metrics(labels.astype(int), scores[chosen])["image_auroc"]),
        score=chosen,
        f1=f1(found, labels),
        best_f1=image_metrics(labels.astype(int), mutual)["image_f1_max"] or 0.0,
    )


def answer(calibrator: ActiveCalibrator, labels: Bool[np.ndarray, " n"], count: int) -> None:
    """Answers `count` questions by the labels, even if the calibrator needs no more."""
    for _ in range(count):
        gain = calibrator.information()
        if gain.max() < 0:
            return
        photo = int(gain.argmax())
        calibrator.answer(photo, "defective" if labels[photo] else "good")


def rare_defects(
    name: str,
    scores: Scores,
    labels: Bool[np.ndarray, " n"],
    share: float,
    set_count: int,
    rng: np.random.Generator,
) -> RareDefects:
    """Results on sets of all good photos and a share of defective ones, answered until the calibrator needs no more."""
    good, bad = np.flatnonzero(~labels), np.flatnonzero(labels)
    count = min(int(np.ceil(share / (1 - share) * len(good))), len(bad))
    alarms: list[float] = []
    recalls: list[float] = []
    misses: list[tuple[int, float, bool]] = []
    answers: list[int] = []
    for _ in range(max(set_count, 1)):
        chosen = np.sort(np.concatenate([good, rng.choice(bad, count, replace=False)]))
        calibrator = ActiveCalibrator({key: value[chosen] for key, value in scores.items()})
        while (photo := calibrator.suggest()) is not None and calibrator.answer_count < MAX_ANSWERS:
            calibrator.answer(photo, "defective" if labels[chosen][photo] else "good")
        flagged, estimate = calibrator.flagged, calibrator.estimate.misses
        count_missed = int((~flagged & labels[chosen]).sum())
        misses.append((count_missed, estimate.expected, count_missed <= estimate.high))
        alarms.append(float(flagged[~labels[chosen]].mean()))
        recalls += [float(flagged[labels[chosen]].mean())] if count else []
        answers.append(calibrator.answer_count)
    recall = float(np.mean(recalls)) if recalls else None
    missed, expected, within_limit = np.mean(misses, axis=0).tolist()
    return RareDefects(
        name,
        share,
        float(np.mean(alarms)),
        max(alarms),
        recall,
        missed,
        expected,
        within_limit,
        float(np.mean(answers)),
    )


def _auroc_percent(share: float | None) -> float:
    """A share in percent; 50 if it is undefined, as the AUROC of a set without good or without defective photos."""
    return 50.0 if share is None else 100 * share


def balanced_accuracy(flagged: Bool[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Mean of the share of defective photos that are flagged and the share of good photos that are not."""
    return float((flagged[labels].mean() + (~flagged[~labels]).mean()) / 2)


def best_balanced_accuracy(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """The greatest balanced accuracy over all thresholds."""
    return max(balanced_accuracy(scores >= value, labels) for value in (*scores.tolist(), np.inf))


def f1(flagged: Bool[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Harmonic mean of precision and recall."""
    return float(2 * (flagged & labels).sum() / max(1, flagged.sum() + labels.sum()))


def _sets(config: AnswersStudyConfig) -> Iterator[tuple[str, np.ndarray, Scores, np.ndarray]]:
    """(name, scores of mutual scoring, scores of the full method, labels) of every category."""
    detector = CoDeGraph(config.detect)
    for root in config.roots:
        for name, samples in read_layout("mvtec", root).items():
            comparison = detector.compare(samples, progress=True)
            result = detector.score(comparison)
            alone = detector.score(comparison, RecurringConfig(defects="off"))
            labels = np.array([samples[i].label == 1 for i in comparison.features.kept])
            yield name, alone.scores_by_name[STANDARD.name], result.scores_by_name, labels


def cells(row: Row) -> list[str]:
    """A row of the table."""
    gap = row.best_balanced_accuracy - row.balanced_accuracy
    numbers = [f"{value:.3f}" for value in (row.balanced_accuracy, row.best_balanced_accuracy, gap)]
    aurocs = [f"{value:.1f}" for value in (row.mutual_auroc, row.standard_auroc, row.chosen_auroc)]
    counts = [str(row.photos), str(row.defective)]
    return [
        row.name,
        *counts,
        *numbers,
        f"{row.interval_coverage:.2f}",
        *aurocs,
        row.score,
        f"{row.f1:.3f}",
        f"{row.best_f1:.3f}",
    ]


def _mean_cells(name: str, rows: list[Row]) -> list[str]:
    measured = [entry.name for entry in fields(Row) if entry.type is float]
    numbers = {key: float(np.mean([getattr(row, key) for row in rows])) for key in measured}
    worst = max(row.best_balanced_accuracy - row.balanced_accuracy for row in rows)
    line = cells(Row(name, 0, 0, score="", **numbers))
    return [name, "", "", *line[3:5], f"{line[5]} (at most {worst:.3f})", *line[6:]]


def _rare_defects_cells(row: RareDefects) -> list[str]:
    rates = [f"{100 * value:.1f}" for value in (row.share, row.false_alarms, row.max_false_alarms)]
    misses = [f"{value:.1f}" for value in (row.missed, row.expected_missed)]
    return [row.name, *rates, percent(row.recall, 0), *misses, f"{row.within_limit:.2f}", f"{row.answers:.1f}"]
