"""The task `thresholds`: recall and false alarms of the threshold, for several distributions of scores.

Simulated sets: normal scores of several distributions, and anomalous scores four standard deviations above their mean
with a standard deviation of two. Real sets, if directories are given: mutual scoring of subsets with a chosen share of
anomalous images. Recall is compared with that of the best threshold at the same rate: the true quantile of the
distribution, or of all normal images of the real set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.config import Config, ThresholdConfig
from codegraph_jax.core.files import write_json
from codegraph_jax.core.settings import Settings, at_least, choice, no_flag, path_like, within
from codegraph_jax.core.tables import text_table
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.threshold import calibrate
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.host_tables import mean_over_layers, table_scores
from codegraph_jax.similarity.references import neighbour_count

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _two_variants(rng: np.random.Generator, n: int) -> Float[np.ndarray, " n"]:
    """Two varieties of good parts; 11% of the parts score four standard deviations above the others."""
    return np.where(rng.random(n) < 0.11, 4.0, 0.0) + rng.normal(size=n)


DISTRIBUTIONS: dict[str, Draw] = {
    "gumbel": lambda rng, n: rng.gumbel(size=n),
    "lognormal": lambda rng, n: np.exp(0.1 * rng.normal(size=n)),
    "gauss": lambda rng, n: rng.normal(size=n),
    "weibull": lambda rng, n: rng.weibull(2.2, size=n),
    "two variants": _two_variants,
    "gamma": lambda rng, n: rng.gamma(8.0, size=n),
    "logistic": lambda rng, n: rng.logistic(size=n),
    "student": lambda rng, n: rng.standard_t(10.0, size=n),
    "beta": lambda rng, n: rng.beta(3.0, 5.0, size=n),
    "skewed lognormal": lambda rng, n: np.exp(0.5 * rng.normal(size=n)),
    "skewed weibull": lambda rng, n: rng.weibull(1.5, size=n),
}
"""Distributions of normal scores, in any units. The gamma, logistic, Student's and beta distributions were used only
after all choices had been made."""
TWO_KINDS = "two variants"
MEAN, DEVIATION = 0.3, 0.03
"""Mean and standard deviation of normal scores, after scaling to the units of distances."""
ANOMALOUS_SHIFT, ANOMALOUS_DEVIATION = 4.0, 2.0
"""Mean of anomalous scores minus that of normal scores, and their standard deviation, in standard deviations of normal
scores."""
FALSE_ALARM_RATE = 0.01
"""The requested false-alarm rate."""
REAL_SHARES, REAL_REPEATS = (0.05, 0.1, 0.3), 10
"""Shares of anomalous images in subsets of real sets, and number of subsets of each set and share."""
DRAWN_SCORES = 400_000
"""Number of scores from which mean, standard deviation and quantile of a distribution are computed."""


@dataclass(frozen=True)
class ThresholdStudyConfig(Settings):
    """Simulated and real sets."""

    task: str = field(default="thresholds", metadata=choice("thresholds"))
    """The task that this config is for."""
    distributions: tuple[str, ...] = field(default=tuple(DISTRIBUTIONS), metadata=no_flag() | choice(*DISTRIBUTIONS))
    """The distributions of normal scores."""
    set_sizes: tuple[int, ...] = field(default=(6, 10, 20, 60, 200), metadata=at_least(2))
    """The numbers of images of a set."""
    shares: tuple[float, ...] = field(default=(0.0, 0.1, 0.3, 0.6), metadata=within(0.0, 0.9))
    """The shares of anomalous images."""
    repeats: int = field(default=100, metadata=at_least(1))
    """The number of sets drawn of each kind."""
    roots: tuple[str, ...] = field(default=(), metadata=path_like())
    """Directories in MVTec's form; every category is a set."""
    detect: Config = field(default_factory=Config)
    """The settings of detection for real sets."""


@dataclass(frozen=True)
class Row:
    """Results over all sets of one kind.

    Attributes:
        name: distribution of normal scores, or the name of a real set.
        images: number of images in a set.
        share: share of anomalous images.
        recall: share of the anomalous images that are flagged.
        best: recall at the true quantile.
        false_alarms: share of the normal images that are flagged.
    """

    name: str
    images: int
    share: float
    recall: float
    best: float
    false_alarms: float


def run(config: ThresholdStudyConfig, workdir: str) -> list[Row]:
    """Prints the comparison and writes it to study.json."""
    with locked(Path(workdir)):
        simulated = list(_simulated(config))
        real = list(_real(config)) if config.roots else []
        with written_to(Path(workdir)):
            write_json(Path(workdir) / "study.json", [vars(row) for row in (*simulated, *real)])
    headings = ["normal scores", "images", "anomalous", "recall", "best", "of the best", "false alarms"]
    print("percent\n" + text_table(headings, [_cells(row) for row in (*simulated, *real)]))
    headings = ["images", "of the best, mean", "worst", "false alarms", "two variants"]
    print(text_table(headings, _rows_by_size(simulated)))
    return [*simulated, *real]


def _simulated(config: ThresholdStudyConfig) -> Iterator[Row]:
    for name in config.distributions:
        mean, deviation, quantile = _moments(name)
        for images in config.set_sizes:
            for share in config.shares:
                bad = round(share * images)
                seeds = [0, images, round(100 * share), *name.encode()]
                rng = np.random.default_rng(seeds)
                sets = []
                for _ in range(config.repeats):
                    normal = (DISTRIBUTIONS[name](rng, images - bad) - mean) / deviation
                    anomalous = ANOMALOUS_SHIFT + ANOMALOUS_DEVIATION * rng.normal(size=bad)
                    scores = MEAN + DEVIATION * np.concatenate([normal, anomalous])
                    sets.append((scores, np.arange(images) >= images - bad, MEAN + DEVIATION * quantile))
                yield _row(name, images, share, sets)


def _moments(name: str) -> tuple[float, float, float]:
    """Mean, standard deviation, and standardised quantile of a distribution."""
    scores = DISTRIBUTIONS[name](np.random.default_rng(99), DRAWN_SCORES)
    mean, deviation = float(scores.mean()), float(scores.std())
    return mean, deviation, (float(np.quantile(scores, 1 - FALSE_ALARM_RATE)) - mean) / deviation


def _row(name: str, images: int, share: float, sets: list[tuple[np.ndarray, np.ndarray, float]]) -> Row:
    """Results over sets of (scores, whether each is anomalous, best threshold)."""
    counts = np.zeros(5)
    for scores, anomalous, best in sets:
        flagged = calibrate(scores, ThresholdConfig(f"rate:{FALSE_ALARM_RATE}")).flags(scores)
        counts += [
            (flagged & anomalous).sum(), ((scores >= best) & anomalous).sum(), anomalous.sum(),
            (flagged & ~anomalous).sum(), (~anomalous).sum(),
        ]  # fmt: skip
    found, possible, bad, alarms, good = (float(count) for count in counts)
    return Row(name, images, share, found / max(bad, 1), possible / max(bad, 1), alarms / max(good, 1))


def _real(config: ThresholdStudyConfig) -> Iterator[Row]:
    """Results on subsets of real sets, with mutual scoring alone."""
    detector = CoDeGraph(config.detect)
    for root in config.roots:
        for name, samples in read_layout("mvtec", root).items():
            comparison = detector.compare(samples, progress=True)
            comparison = replace(comparison, tables=comparison.tables.host())
            labels = np.array([samples[i].label for i in comparison.features.kept])
            good, bad = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
            for share in REAL_SHARES:
                count = min(round(share / (1 - share) * len(good)), len(bad))
                rng = np.random.default_rng([0, round(100 * share)])
                sets = []
                for _ in range(REAL_REPEATS):
                    images = np.concatenate([good, rng.choice(bad, count, replace=False)])
                    scores = _scores(comparison, np.sort(images), config.detect)
                    anomalous = labels[np.sort(images)] == 1
                    sets.append((scores, anomalous, float(np.quantile(scores[~anomalous], 1 - FALSE_ALARM_RATE))))
                yield _row(name, len(good) + count, share, sets)


def _scores(comparison: Comparison, images: Int[np.ndarray, " k"], config: Config) -> Float[np.ndarray, " k"]:
    """Raw scores of some images with these images as the only references."""
    columns = np.flatnonzero(np.isin(comparison.references, images))
    k = neighbour_count(len(columns), config.scoring.fraction)
    scores = mean_over_layers([table_scores(table[:, images], k, columns) for table in comparison.tables.host()])
    placement = comparison.features.placement.select(images)
    maps = np.maximum(scores, 0).reshape(-1, *comparison.options.grid)
    return image_scores(maps, placement.frame.size, placement.rects())


def _cells(row: Row) -> list[str]:
    of_best = f"{100 * row.recall / row.best:.0f}" if row.best else "-"
    recall, best = (f"{100 * value:.0f}" if row.share else "-" for value in (row.recall, row.best))
    return [row.name, str(row.images), f"{100 * row.share:.0f}", recall, best, of_best, f"{100 * row.false_alarms:.2f}"]


def _rows_by_size(rows: list[Row]) -> list[list[str]]:
    """Rows for each size: recall relative to the best, with up to 30% anomalous images, and false alarms."""
    lines = []
    for images in dict.fromkeys(row.images for row in rows):
        one = [row for row in rows if row.images == images and row.name != TWO_KINDS]
        two = [row.false_alarms for row in rows if row.images == images and row.name == TWO_KINDS]
        of_best = {
            name: float(np.mean([row.recall / row.best for row in one if row.name == name and 0 < row.share <= 0.3]))
            for name in dict.fromkeys(row.name for row in one if row.best and row.share <= 0.3)
        }
        values = list(of_best.values())
        recall = [f"{100 * value:.0f}" for value in (np.mean(values), min(values))] if values else ["-", "-"]
        alarms = [f"{100 * np.mean(values):.2f}" if values else "-" for values in ([r.false_alarms for r in one], two)]
        lines.append([str(images), *recall, *alarms])
    return lines
