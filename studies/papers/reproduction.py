"""Published results beside measured ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.tables import text_table
from codegraph_jax.evaluation.metrics import METRIC_NAMES
from studies.sweeps.sweep import Sweep
from studies.sweeps.tables import markdown_table

MEAN = "mean"
"""Key of the mean over all groups of a published table."""

NAMES = METRIC_NAMES | {"auroc": "AUROC"}
"""Names of the metrics."""


@dataclass(frozen=True)
class Published:
    """A published table, and the settings that give it.

    Attributes:
        title: data set and method.
        config: config that the settings start from.
        changes: settings that differ from the config, by path.
        values: metrics in percent by category or class, `MEAN` for the mean; only numbers whose source was read.
        averaged_groups: the categories or classes over which the published mean is taken.
        source: where the numbers are from.
        data: where the data set comes from.
        note: what the source leaves open.
    """

    title: str
    config: str
    changes: Mapping[str, Any]
    values: Mapping[str, Mapping[str, float]]
    averaged_groups: Sequence[str]
    source: str
    data: str
    note: str = ""

    @property
    def groups(self) -> list[str]:
        """Categories or classes with a number of their own."""
        return [group for group in self.values if group != MEAN]

    def selected(self, groups: Sequence[str]) -> list[str]:
        """The categories or classes of the mean that are among `groups`; all of them if it is empty."""
        return [group for group in self.averaged_groups if not groups or group in groups]


def require_groups(groups: Sequence[str], tables: Sequence[Published]) -> None:
    """Checks the values of `--categories` or `--classes`.

    Raises:
        UserError: a category or class is in no table.
    """
    known = list(dict.fromkeys(group for table in tables for group in table.averaged_groups))
    if unknown := [group for group in groups if group not in known]:
        raise UserError(f"--categories: {unknown[0]!r} is none of {', '.join(known)}")


@dataclass(frozen=True)
class Reproduction:
    """A published table with what was measured here.

    Attributes:
        published: the table.
        sweep: the measurements; None: nothing could be measured.
        missing: what is not on this computer, and where it comes from.
    """

    published: Published
    sweep: Sweep | None = None
    missing: Sequence[str] = ()

    def rows(self) -> list[list[str]]:
        """Group, metric, published and measured value in percent, and their difference."""
        table, rows = self.published.values, []
        for group, metrics in table.items():
            if group != MEAN and self._value(group, next(iter(metrics))) is not None:
                rows += [
                    self._row(group, metric, value, self._value(group, metric)) for metric, value in metrics.items()
                ]
        done = [group for group in self.published.groups if group in self._groups]
        means = table.get(MEAN, {})
        if self.sweep and len(self._groups) == len(self.published.averaged_groups):
            values = {metric: self._mean(metric, self._groups) for metric in means}
            rows += [self._row(f"mean of {len(self._groups)}", m, value, values[m]) for m, value in means.items()]
        elif done and len(done) > 1:
            name = f"mean of {len(done)} of {len(self.published.averaged_groups)}"
            for metric in table[done[0]]:
                known = sum(table[group][metric] for group in done) / len(done)
                rows.append(self._row(name, metric, known, self._mean(metric, done)))
        elif not rows:
            rows += [
                self._row(f"mean of {len(self.published.averaged_groups)}", m, value, None)
                for m, value in means.items()
            ]
        return rows

    @property
    def _groups(self) -> list[str]:
        return list(self.sweep.groups) if self.sweep else []

    def _value(self, group: str, metric: str) -> float | None:
        return self._mean(metric, [group]) if group in self._groups else None

    def _mean(self, metric: str, groups: Sequence[str]) -> float | None:
        assert self.sweep
        cells = [cell for cell in self.sweep.cells if cell.group in groups]
        value, _ = Sweep(self.sweep.points, groups, cells, self.sweep.metrics).value(self.sweep.points[0], metric)
        return value

    def _row(self, group: str, metric: str, published: float, measured: float | None) -> list[str]:
        if measured is None:
            return [group, NAMES[metric], f"{published:.2f}", "-", "-"]
        percent = 100 * measured
        return [group, NAMES[metric], f"{published:.2f}", f"{percent:.2f}", f"{percent - published:+.2f}"]


HEADINGS = ("", "metric", "published", "measured", "difference")


def text(reproductions: Iterable[Reproduction]) -> str:
    """The tables for the terminal."""
    parts = []
    for one in reproductions:
        parts += ["", one.published.title, text_table(HEADINGS, one.rows())]
        parts += [f"missing: {line}" for line in one.missing]
        parts += [f"{name}: {problem}" for name, problem in (one.sweep.problems if one.sweep else {}).items()]
    return "\n".join(parts)


def page(paper: str, reproductions: Iterable[Reproduction], facts: Mapping[str, str]) -> str:
    """A Markdown page with all tables, their sources, and the facts of the run."""
    parts = [f"# {paper}: published and measured", "Percent; the difference is measured minus published."]
    for one in reproductions:
        published = one.published
        parts += [f"## {published.title}", markdown_table(HEADINGS, one.rows())]
        changes = ", ".join(f"`{path} = {value}`" for path, value in published.changes.items())
        lines = [
            f"- Settings: config `{published.config}`{f', with {changes}' if changes else ''}.",
            f"- Published numbers: {published.source}.",
            f"- Data: {published.data}.",
        ]
        lines += [f"- Note: {published.note}."] if published.note else []
        lines += [f"- **Not measured**: {line}." for line in one.missing]
        lines += [f"- {name}: {problem}" for name, problem in (one.sweep.problems if one.sweep else {}).items()]
        parts.append("\n".join(lines))
    parts += ["## This run", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    return "\n\n".join(parts) + "\n"
