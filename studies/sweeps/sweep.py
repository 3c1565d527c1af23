"""Sweeps: every combination of varied settings on every group of the data, several times for error bars.

A finished cell is a file, so that a killed sweep resumes, and several hosts with a shared directory divide the work.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from codegraph_jax.core.bootstrap import DRAWS, Interval, LabelledScores, auroc_difference
from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.file_ownership import note_written
from codegraph_jax.core.files import finite_or_none, write_csv, write_json, write_text
from codegraph_jax.core.settings import ConfigError, Setting, parse_value, settings_of, with_settings
from codegraph_jax.core.tables import data_frame, text_table
from codegraph_jax.core.workdir import written_to
from studies.sweeps.tables import latex, markdown, markdown_table

CELLS, TABLE, DIFFERENCES, MARKDOWN, LATEX = "cells", "sweep.csv", "differences.csv", "table.md", "table.tex"
"""Directory of the finished cells, and files of a sweep, in its workdir."""
WHOLE, HALF = "whole", "half"
"""Names of repeats: the whole set, and random halves of it, which are numbered from 1."""
Z_95 = 1.96
"""Standard deviations on either side of a mean that cover 95% of a Gaussian distribution."""
IMAGE_AUROC = "image_auroc"
"""The metric whose differences are resampled over images."""

AS_GIVEN = "as given"
"""Name of a point without varied settings."""
DIFFERENCE = "paired differences to {}, with 95% intervals:"
"""Heading of the table of differences."""


@dataclass(frozen=True)
class Point:
    """One combination of the varied settings.

    Attributes:
        values: text of each value by the setting's path.
        config: all settings of the run.
    """

    values: Mapping[str, str]
    config: Any

    @property
    def name(self) -> str:
        """The values in one line."""
        return ", ".join(self.values.values())


@dataclass(frozen=True)
class Cell:
    """The results of one point, on one group of the data, once.

    Attributes:
        values: see `Point`.
        group: category or class.
        repeat: `whole`, a half, or a seed.
        metrics: fractions; None where undefined.
        images: number of images; None where they are not counted.
        seconds: wall time; None where it is not measured.
        scores: labels and scores of the images, if they are kept for paired differences.
    """

    values: Mapping[str, str]
    group: str
    repeat: str
    metrics: Mapping[str, float | None]
    images: int | None = None
    seconds: float | None = None
    scores: LabelledScores | None = None


def read_points(vary: Sequence[str], config: Any, fixed: Sequence[str] = ()) -> list[Point]:
    """All combinations of the values of `FIELD=VALUE,VALUE`; the last field changes fastest.

    The values of a setting that is a list are separated by `|`: `features.degrees=1|1,3|1,3,5`.

    Args:
        vary: the varied settings.
        config: the settings that are not varied.
        fixed: groups of settings that cannot be varied.

    Raises:
        ConfigError: a field does not exist or cannot be varied, or a value is invalid.
    """
    settings = {setting.path: setting for setting in settings_of(type(config), without_flag=True)}
    columns: list[tuple[str, list[str]]] = []
    for text in vary:
        path, equals, given = text.partition("=")
        path = path.removeprefix("config.")
        if path not in settings or path == "task":
            hint = did_you_mean(path, settings, "codegraph settings lists all")
            raise ConfigError(f"--vary={text}: there is no setting {path!r}; {hint}")
        if path.partition(".")[0] in fixed:
            raise ConfigError(f"--vary={text}: {path} cannot be varied: all combinations use the same photos")
        if path in dict(columns):
            raise ConfigError(f"--vary={text}: {path} is varied twice")
        texts = [word.strip() for word in given.split("|" if settings[path].is_tuple else ",")]
        if not equals or not all(texts) or len(set(texts)) < len(texts):
            raise ConfigError(f"--vary={text}: give different values, as --vary={path}=ONE,OTHER")
        columns.append((path, texts))
    points = []
    for chosen in itertools.product(*(texts for _, texts in columns)):
        values = dict(zip((path for path, _ in columns), chosen))
        typed = {path: _typed(settings[path], text) for path, text in values.items()}
        points.append(Point(values, with_settings(config, typed)))
    return points


def _typed(setting: Setting, text: str) -> Any:
    try:
        return parse_value(setting, text)
    except ValueError as error:
        raise ConfigError(f"--vary={setting.path}={text}: {error}") from None


class CellStore:
    """The finished cells of a sweep, one file each.

    Args:
        workdir: directory of the sweep, which several processes and hosts can share.
    """

    def __init__(self, workdir: Path):
        self.root = workdir / CELLS

    def find(self, identity: Mapping[str, Any]) -> Cell | None:
        """The cell with this identity; None if it is not finished, or its file is damaged."""
        try:
            stored = json.loads(self._path(identity).read_text(encoding="utf-8"))
            scores = stored["cell"].pop("scores")
            cell = Cell(**stored["cell"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if scores is None:
            return cell
        return Cell(**{**vars(cell), "scores": LabelledScores(scores["labels"], np.array(scores["values"]))})

    def keep(self, identity: Mapping[str, Any], cell: Cell) -> None:
        """Stores a finished cell."""
        values = asdict(cell)
        if cell.scores is not None:
            values["scores"] = {
                "labels": list(cell.scores.labels), "values": np.asarray(cell.scores.values, float).tolist()
            }  # fmt: skip
        write_json(self._path(identity), finite_or_none({"identity": identity, "cell": values}))

    @contextmanager
    def claimed(self, *work: Any) -> Iterator[bool]:
        """Yields whether this process may do a piece of work; false while another process does it.

        The claim ends with the process, also if it is killed.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{_digest(work)}.lock", timeout=0, mode=0o666, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _path(self, identity: Mapping[str, Any]) -> Path:
        return self.root / f"{_digest(identity)}.json"


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        points: the combinations of settings; the first is the one that differences are taken from.
        groups: categories or classes.
        cells: finished cells.
        metrics: metrics of the tables and their names.
        missing: number of cells that other processes have not finished yet.
        problems: why a point could not be run, by its name.
        smaller_is_better: metrics of which smaller values are better.
    """

    points: Sequence[Point]
    groups: Sequence[str]
    cells: Sequence[Cell]
    metrics: Mapping[str, str]
    missing: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)
    smaller_is_better: frozenset[str] = frozenset()

    def _values(self, point: Point, metric: str) -> dict[tuple[str, str], float]:
        """The values of a metric by group and repeat."""
        return {
            (cell.group, cell.repeat): value
            for cell in self.cells
            if cell.values == point.values and (value := cell.metrics.get(metric)) is not None
        }

    def _scores(self, point: Point) -> dict[str, LabelledScores]:
        """The image scores of the whole sets by group."""
        cells = [cell for cell in self.cells if cell.values == point.values and cell.repeat == WHOLE]
        return {cell.group: cell.scores for cell in cells if cell.scores}

    def means(self, point: Point, metric: str) -> dict[str, float]:
        """The mean over the groups, by repeat; only repeats for which every group has a value."""
        found: dict[str, list[float]] = {}
        for (_, repeat), value in self._values(point, metric).items():
            found.setdefault(repeat, []).append(value)
        return {repeat: float(np.mean(values)) for repeat, values in found.items() if len(values) == len(self.groups)}

    def value(self, point: Point, metric: str) -> tuple[float | None, float | None]:
        """The mean over the groups, and its standard deviation.

        With random halves: the value of the whole sets, and the standard deviation of the halves, which estimates that
        of the whole sets. With seeds: mean and standard deviation of the seeds.
        """
        means = self.means(point, metric)
        whole = means.pop(WHOLE, None)
        rest = list(means.values())
        value = whole if whole is not None else float(np.mean(rest)) if rest else None
        return value, float(np.std(rest, ddof=1)) if len(rest) > 1 else None

    def difference(self, point: Point, metric: str) -> Interval | None:
        """The paired difference to the first point, with a 95% interval; None if it cannot be told.

        Image AUROC of whole sets: a bootstrap over the images. Other metrics with random halves: the halves' standard
        deviation. With seeds: a bootstrap over pairs of group and seed.
        """
        both = point, self.points[0]
        if metric == IMAGE_AUROC:
            sides = [self._scores(one) for one in both]
            if all(set(side) == set(self.groups) for side in sides) and _same_images(*sides):
                return auroc_difference(*sides)
        means, others = (self.means(one, metric) for one in both)
        differences = {repeat: mean - others[repeat] for repeat, mean in means.items() if repeat in others}
        if WHOLE not in differences:
            values, others_values = (self._values(one, metric) for one in both)
            return mean_difference((value, others_values[key]) for key, value in values.items() if key in others_values)
        whole = differences.pop(WHOLE)
        halves = list(differences.values())
        # halves so small that both points agree on them say nothing about the whole sets
        if len(halves) < 2 or np.ptp(halves) == 0:
            return None
        around = Z_95 * float(np.std(halves, ddof=1))
        return Interval(whole, whole - around, whole + around)

    @property
    def measured(self) -> dict[str, str]:
        """The metrics that some cell has."""
        return {
            key: name
            for key, name in self.metrics.items()
            if any(cell.metrics.get(key) is not None for cell in self.cells)
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row for each finished cell: varied settings, group, repeat, all metrics as fractions, images, seconds."""
        keys = list(dict.fromkeys(key for cell in self.cells for key in cell.metrics))
        return [
            {**cell.values, "group": cell.group, "repeat": cell.repeat}
            | {key: cell.metrics.get(key) for key in keys}
            | {"images": cell.images, "seconds": cell.seconds and round(cell.seconds, 3)}
            for cell in self.cells
        ]

    def difference_rows(self) -> list[dict[str, Any]]:
        """A row for each point after the first and each metric: difference to the first, and interval, as fractions."""
        rows = []
        for point, metric in itertools.product(self.points[1:], self.measured):
            if found := self.difference(point, metric):
                rows.append({**point.values, "metric": metric} | found._asdict())
        return rows

    def to_frame(self) -> Any:
        """`rows` as a pandas DataFrame.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self.rows())

    def table(self) -> tuple[list[str], list[list[str]], list[list[bool]]]:
        """Headings, cells in percent, and which cells hold the best value of their column."""
        varied = list(self.points[0].values) or ["settings"]
        rows = [list(point.values.values()) or [AS_GIVEN] for point in self.points]
        best = [[False] * len(varied) for _ in rows]
        for key in self.measured:
            values = [self.value(point, key) for point in self.points]
            rounded = [None if value is None else round(100 * value, 1) for value, _ in values]
            choose = min if key in self.smaller_is_better else max
            record = choose((value for value in rounded if value is not None), default=None)
            for row, marks, value, found in zip(rows, best, values, rounded):
                row.append(_percent(*value))
                marks.append(len(rows) > 1 and found is not None and found == record)
        return [*varied, *self.measured.values()], rows, best

    def difference_table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of the paired differences to the first point, in points with their intervals."""
        rows = []
        for point in self.points[1:]:
            found = [self.difference(point, key) for key in self.measured]
            rows.append([*point.values.values(), *("-" if one is None else _interval(one) for one in found)])
        return [*self.points[0].values, *self.measured.values()], rows

    def by_group(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of a metric in percent: a row for each group, a column for each point."""
        rows = []
        for group in self.groups:
            one = replace(self, groups=[group], cells=[cell for cell in self.cells if cell.group == group])
            rows.append([group, *(_percent(*one.value(point, metric)) for point in self.points)])
        return ["", *(point.name or AS_GIVEN for point in self.points)], rows

    def text(self) -> str:
        """The table and the differences for the terminal."""
        best = "; * best" if len(self.points) > 1 else ""
        lines = [f"percent{best}{self._spread_note()}", self._marked(text_table, "*{}")]
        if len(self.points) > 1:
            lines += ["", DIFFERENCE.format(self.points[0].name), text_table(*self.difference_table())]
        lines += [f"{name}: {problem}" for name, problem in self.problems.items()]
        if self.missing:
            lines.append(f"unfinished cells: {self.missing}; start the same command again to compute them")
        return "\n".join(lines)

    def markdown(self) -> str:
        """The tables as Markdown, the best values in bold; problems come last."""
        parts = [f"Percent{self._spread_note()}.", self._marked(markdown_table, "**{}**")]
        if len(self.groups) > 1:
            for key, name in self.measured.items():
                parts += [f"{name}:", markdown_table(*self.by_group(key))]
        if len(self.points) > 1:
            heading = markdown(DIFFERENCE.format(self.points[0].name))
            parts += [heading, markdown_table(*self.difference_table())]
        parts += [markdown(f"{name}: {problem}") for name, problem in self.problems.items()]
        if self.missing:
            parts.append(f"Unfinished cells: {self.missing}.")
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """The table of means as a LaTeX tabular, the best values in bold."""
        columns = "l" * max(len(self.points[0].values), 1) + "r" * len(self.measured)

        def tabular(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
            first, *others = (" & ".join(row) + r" \\" for row in ([*map(latex, headings)], *rows))
            lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", first, r"\hline", *others]
            return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"

        return self._marked(tabular, r"\textbf{{{}}}", latex)

    def _marked(
        self, table: Callable[[list[str], list[list[str]]], str], best: str, escape: Callable[[str], str] = str
    ) -> str:
        """The table in some format, with its best cells formatted by `best`."""
        headings, rows, marks = self.table()
        cells = [[best.format(escape(c)) if m else escape(c) for c, m in zip(*pair)] for pair in zip(rows, marks)]
        return table(headings, cells)

    def report(self, workdir: Path) -> None:
        """Writes the tables and prints the most important ones."""
        with written_to(workdir):
            self.write(workdir)
        print(f"\n{self.text()}\ntables: {workdir / MARKDOWN}, {LATEX}, {TABLE}, {DIFFERENCES}", flush=True)

    def write(self, workdir: Path) -> None:
        """Writes sweep.csv, differences.csv, table.md and table.tex."""
        note_written(workdir, [TABLE, DIFFERENCES, MARKDOWN, LATEX])
        for name, rows in ((TABLE, self.rows()), (DIFFERENCES, self.difference_rows())):
            write_csv(workdir / name, rows, [*rows[0]] if rows else [])
        write_text(workdir / MARKDOWN, self.markdown())
        write_text(workdir / LATEX, self.latex())

    def _spread_note(self) -> str:
        repeats = {cell.repeat for cell in self.cells}
        kind = "random halves" if WHOLE in repeats else "seeds"
        count = len(repeats - {WHOLE})
        return f"; ± standard deviation over {count} {kind}" if count > 1 else ""


def repeat_names(half_count: int) -> list[str]:
    """The names of the repeats with this number of random halves."""
    return [WHOLE, *(f"{HALF} {number}" for number in range(1, half_count + 1))]


def halves(image_count: int, half_count: int, name: str) -> dict[str, np.ndarray]:
    """Indices of the whole set and of random halves, by repeat; a half depends on its number and the name only."""
    found = {WHOLE: np.arange(image_count)}
    for number, repeat in enumerate(repeat_names(half_count)[1:], 1):
        rng = np.random.default_rng([number, *name.encode()])
        found[repeat] = np.sort(rng.permutation(image_count)[: (image_count + 1) // 2])
    return found


def _same_images(one: Mapping[str, LabelledScores], other: Mapping[str, LabelledScores]) -> bool:
    return all(list(scores.labels) == list(other[name].labels) for name, scores in one.items())


def _percent(value: float | None, spread: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _interval(difference: Interval) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * number for number in difference))


def mean_difference(pairs: Iterable[tuple[float, float]]) -> Interval | None:
    """Mean of first minus second, by a bootstrap over the pairs; None for fewer than two pairs."""
    differences = np.array([one - other for one, other in pairs])
    if len(differences) < 2:
        return None
    rng = np.random.default_rng(0)
    return Interval.of(differences.mean(), rng.choice(differences, (DRAWS, len(differences))).mean(axis=1))
