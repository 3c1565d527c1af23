"""Sweeps: every combination of varied settings on every group of the data, several times for error bars.

A finished cell is a file, so that a killed sweep goes on, and several hosts with a shared directory divide the work.
"""

import importlib.util
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from codegraph_jax.core.comparison import Difference, ImageScores, auroc_difference, mean_difference
from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.file_ownership import note_written
from codegraph_jax.core.files import finite_or_none, write_csv, write_json, write_text
from codegraph_jax.core.settings import ConfigError, Setting, settings_of
from codegraph_jax.core.tables import text_table

CELLS, TABLE, DIFFERENCES, MARKDOWN, LATEX = "cells", "sweep.csv", "differences.csv", "table.md", "table.tex"
"""Directory of the finished cells, and files of a sweep, in its workdir."""
WHOLE, HALF = "whole", "half"
"""Names of repeats: the whole set, and random halves of it, which are numbered from 1."""
NORMAL = 1.96
"""Standard deviations on either side of a mean that cover 95 % of a Gaussian distribution."""
OF_IMAGES = "image_auroc"
"""The metric whose differences are resampled over images."""

DIFFERENCE = "paired differences to {}, with 95 % intervals:"
"""Heading of the table of differences."""


@dataclass(frozen=True)
class Point:
    """One combination of the varied settings.

    Attributes:
        values: text of each value by the setting's path.
        settings: all settings of the run, as nested mappings.
    """

    values: Mapping[str, str]
    settings: Mapping[str, Any]

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
        images: number of images.
        seconds: wall time.
        scores: labels and scores of the images, if they are kept for paired differences.
    """

    values: Mapping[str, str]
    group: str
    repeat: str
    metrics: Mapping[str, float | None]
    images: int = 0
    seconds: float = 0.0
    scores: ImageScores | None = None


def read_points(vary: Sequence[str], cls: type, settings: Mapping[str, Any], fixed: Sequence[str] = ()) -> list[Point]:
    """All combinations of the values of `FIELD=VALUE,VALUE`; the last field changes fastest.

    The values of a setting that is a list are separated by `|`: `features.degrees=1|1,3|1,3,5`.

    Args:
        vary: the varied settings.
        cls: the dataclass of all settings.
        settings: their values, as nested mappings.
        fixed: groups of settings that cannot be varied.

    Raises:
        ConfigError: a field does not exist or cannot be varied, or a value does not have its type.
    """
    known = {setting.path: setting for setting in settings_of(cls, without_flag=True)}
    columns: list[tuple[str, list[str]]] = []
    for text in vary:
        path, equals, given = text.partition("=")
        path = path.removeprefix("config.")
        if path not in known or path == "task":
            hint = did_you_mean(path, known, "codegraph settings lists all")
            raise ConfigError(f"--vary={text}: there is no setting {path!r}; {hint}")
        if path.partition(".")[0] in fixed:
            raise ConfigError(f"--vary={text}: {path} cannot be varied: all combinations use the same photos")
        if path in dict(columns):
            raise ConfigError(f"--vary={text}: {path} is varied twice")
        texts = [part.strip() for part in given.split("|" if known[path].several else ",")]
        if not equals or not all(texts) or len(set(texts)) < len(texts):
            raise ConfigError(f"--vary={text}: give different values, as --vary={path}=ONE,OTHER")
        columns.append((path, texts))
    points = []
    for chosen in itertools.product(*(texts for _, texts in columns)):
        values, changed = dict(zip((path for path, _ in columns), chosen)), json.loads(json.dumps(settings))
        for path, text in values.items():
            *groups, name = path.split(".")
            place = changed
            for group in groups:
                place = place[group]
            place[name] = _typed(known[path], text)
        points.append(Point(values, changed))
    return points


def _typed(setting: Setting, text: str) -> Any:
    """The value of a text in the type of a setting."""
    parts = [part for part in text.split(",") if part] if setting.several else [text]
    try:
        if setting.element is bool:
            values: list[Any] = [{"true": True, "false": False}[part.lower()] for part in parts]
        else:
            values = [setting.element(part) for part in parts] if setting.element in (int, float) else list(parts)
    except (ValueError, KeyError):
        raise ConfigError(f"--vary={setting.path}={text}: {text!r} is not a value of this setting") from None
    return values if setting.several else values[0]


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
        return Cell(**{**vars(cell), "scores": ImageScores(scores["labels"], np.array(scores["values"]))})

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
        smaller: metrics of which smaller values are better.
    """

    points: Sequence[Point]
    groups: Sequence[str]
    cells: Sequence[Cell]
    metrics: Mapping[str, str]
    missing: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)
    smaller: frozenset[str] = frozenset()

    def means(self, point: Point, metric: str) -> dict[str, float]:
        """The mean over the groups, by repeat; only repeats for which every group has a value."""
        found: dict[str, list[float]] = {}
        for cell in self.cells:
            value = cell.metrics.get(metric)
            if cell.values == point.values and value is not None:
                found.setdefault(cell.repeat, []).append(value)
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

    def difference(self, point: Point, metric: str) -> Difference | None:
        """The paired difference to the first point, with a 95 % interval; None if it cannot be told.

        Image AUROC of whole sets: a bootstrap over the images. Other metrics with random halves: the halves' standard
        deviation. With seeds: a bootstrap over pairs of group and seed.
        """
        if metric == OF_IMAGES:
            sides = [self._scores(one) for one in (point, self.points[0])]
            if all(set(side) == set(self.groups) for side in sides) and _same_images(*sides):
                return auroc_difference(*sides)
        means = [self.means(one, metric) for one in (point, self.points[0])]
        common = [repeat for repeat in means[0] if repeat in means[1]]
        if WHOLE not in common:
            values = [self._by_cell(one, metric) for one in (point, self.points[0])]
            return mean_difference((values[0][key], values[1][key]) for key in values[0] if key in values[1])
        differences = {repeat: means[0][repeat] - means[1][repeat] for repeat in common}
        whole = differences.pop(WHOLE)
        # halves so small that both points agree on them say nothing about the whole sets
        if len(differences) < 2 or np.ptp(list(differences.values())) == 0:
            return None
        around = NORMAL * float(np.std(list(differences.values()), ddof=1))
        return Difference(whole, whole - around, whole + around)

    def _scores(self, point: Point) -> dict[str, ImageScores]:
        return {
            cell.group: cell.scores
            for cell in self.cells
            if cell.values == point.values and cell.repeat == WHOLE and cell.scores
        }

    def _by_cell(self, point: Point, metric: str) -> dict[tuple[str, str], float]:
        found = {}
        for cell in self.cells:
            value = cell.metrics.get(metric)
            if cell.values == point.values and value is not None:
                found[cell.group, cell.repeat] = value
        return found

    @property
    def shown(self) -> dict[str, str]:
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
            | {"images": cell.images, "seconds": round(cell.seconds, 3)}
            for cell in self.cells
        ]

    def difference_rows(self) -> list[dict[str, Any]]:
        """A row for each point after the first and each metric: difference to the first, and interval, as fractions."""
        rows = []
        for point, metric in itertools.product(self.points[1:], self.shown):
            if found := self.difference(point, metric):
                rows.append({**point.values, "metric": metric} | found._asdict())
        return rows

    def to_frame(self) -> Any:
        """`rows` as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed; `pandas.read_csv` reads sweep.csv elsewhere.
        """
        if importlib.util.find_spec("pandas") is None:
            raise ImportError(f"to_frame needs pandas: pip install pandas; or read {TABLE} with any other program")
        return importlib.import_module("pandas").DataFrame(self.rows())

    def table(self) -> tuple[list[str], list[list[str]], list[list[bool]]]:
        """Headings, cells in percent, and which cells hold the best value of their column; problems come last."""
        varied = list(self.points[0].values)
        headings = [*(varied or ["settings"]), *self.shown.values()]
        values = {(i, key): self.value(point, key) for i, point in enumerate(self.points) for key in self.shown}
        best = {}
        for key in self.shown:
            known = [round(100 * v[0], 1) for i in range(len(self.points)) if (v := values[i, key])[0] is not None]
            best[key] = (min if key in self.smaller else max)(known, default=None)
        rows, bold = [], []
        for i, point in enumerate(self.points):
            own = [values[i, key] for key in self.shown]
            rows.append([*(point.values.values() if varied else ["as given"]), *(_percent(*value) for value in own)])
            several = len(self.points) > 1
            marked = [
                several and value is not None and round(100 * value, 1) == best[key]
                for (value, _), key in zip(own, self.shown)
            ]
            bold.append([False] * (len(headings) - len(marked)) + marked)
        return headings, rows, bold

    def difference_table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of the paired differences to the first point, in points with their intervals."""
        rows = []
        for point in self.points[1:]:
            found = [self.difference(point, key) for key in self.shown]
            rows.append([*point.values.values(), *("-" if one is None else _interval(one) for one in found)])
        return [*self.points[0].values, *self.shown.values()], rows

    def by_group(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of a metric in percent: a row for each group, a column for each point."""
        rows = []
        for group in self.groups:
            one = Sweep(self.points, [group], [cell for cell in self.cells if cell.group == group], self.metrics)
            rows.append([group, *(_percent(*one.value(point, metric)) for point in self.points)])
        return ["", *(point.name or "as given" for point in self.points)], rows

    def text(self) -> str:
        """The table and the differences for the terminal."""
        headings, rows, bold = self.table()
        marked = [[f"*{cell}" if best else cell for cell, best in zip(*pair)] for pair in zip(rows, bold)]
        lines = ["percent" + ("; * best" if len(rows) > 1 else "") + self._spread_note(), text_table(headings, marked)]
        if len(self.points) > 1:
            lines += ["", DIFFERENCE.format(self.points[0].name), text_table(*self.difference_table())]
        lines += [f"{name}: {problem}" for name, problem in self.problems.items()]
        if self.missing:
            lines.append(f"unfinished cells: {self.missing}; the same command goes on with them")
        return "\n".join(lines)

    def markdown(self) -> str:
        """The tables as Markdown, the best values in bold."""
        headings, rows, bold = self.table()
        marked = [[f"**{cell}**" if best else cell for cell, best in zip(*pair)] for pair in zip(rows, bold)]
        parts = [f"Percent{self._spread_note()}.", markdown_table(headings, marked)]
        if len(self.groups) > 1:
            for key, name in self.shown.items():
                columns, lines = self.by_group(key)
                parts += [f"{name}:", markdown_table(columns, lines)]
        if len(self.points) > 1:
            parts += [_plain(DIFFERENCE.format(self.points[0].name)), markdown_table(*self.difference_table())]
        parts += [f"{_plain(name)}: {_plain(problem)}" for name, problem in self.problems.items()]
        if self.missing:
            parts.append(f"Unfinished cells: {self.missing}.")
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """The table of means as a LaTeX tabular, the best values in bold."""
        headings, rows, bold = self.table()
        texts = len(headings) - len(self.shown)
        lines = [r"\begin{tabular}{" + "l" * texts + "r" * len(self.shown) + "}", r"\hline"]
        lines += [" & ".join(map(_latex, headings)) + r" \\", r"\hline"]
        for row, best in zip(rows, bold):
            cells = (rf"\textbf{{{_latex(cell)}}}" if marked else _latex(cell) for cell, marked in zip(row, best))
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"

    def write(self, workdir: Path) -> None:
        """Writes sweep.csv, differences.csv, table.md and table.tex."""
        note_written(workdir, [TABLE, DIFFERENCES, MARKDOWN, LATEX])
        for name, rows in ((TABLE, self.rows()), (DIFFERENCES, self.difference_rows())):
            write_csv(workdir / name, rows, [*rows[0]] if rows else [])
        write_text(workdir / MARKDOWN, self.markdown())
        write_text(workdir / LATEX, self.latex())

    def _spread_note(self) -> str:
        repeats = dict.fromkeys(cell.repeat for cell in self.cells)
        halves = sum(repeat != WHOLE for repeat in repeats)
        if WHOLE in repeats:
            return f"; ± standard deviation over {halves} random halves" if halves > 1 else ""
        return f"; ± standard deviation over {halves} seeds" if halves > 1 else ""


def halves(images: int, count: int, name: str) -> dict[str, np.ndarray]:
    """Indices of the whole set and of random halves, by repeat; a half depends on its number and the name only."""
    found = {WHOLE: np.arange(images)}
    for number in range(1, count + 1):
        rng = np.random.default_rng([number, *name.encode()])
        found[f"{HALF} {number}"] = np.sort(rng.permutation(images)[: (images + 1) // 2])
    return found


def _same_images(one: Mapping[str, ImageScores], other: Mapping[str, ImageScores]) -> bool:
    return all(list(scores.labels) == list(other[name].labels) for name, scores in one.items())


def _percent(value: float | None, spread: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _interval(difference: Difference) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * number for number in difference))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    first, *others = ("| " + " | ".join(map(_plain, row)) + " |" for row in (headings, *rows))
    return "\n".join([first, "|" + "---|" * len(headings), *others])


def _plain(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
