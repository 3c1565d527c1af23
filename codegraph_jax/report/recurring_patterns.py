"""Writes recurring patterns: groups.json, the image graph, and a contact sheet for each pattern."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegraph_jax.consistency.groups import FoundPattern
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.texts import Text, text


@dataclass(frozen=True)
class RecurringPattern(FoundPattern):
    """A recurring pattern of a category (`outcome`)."""

    outcome: Outcome

    @property
    def stored(self) -> Pattern | None:
        """The pattern as review.json has it, for recognition in other sets; None if too few patches show it."""
        return self.for_other_sets(self.outcome.result.consistency.product, len(self.outcome.samples))

    @property
    def previous(self) -> Pattern | None:
        """`stored` with the counts of the previous batch; None if there was none."""
        return self.match.pattern if self.match and self.match.pattern.image_count else None

    @property
    def sheet(self) -> Path:
        """Path of the contact sheet below the workdir."""
        return Path("groups") / f"{file_stem(self.outcome.category)}-{self.number}.png"

    @property
    def label(self) -> str | Text:
        """The name, or a text with the verdict and the number."""
        return printable(self.name) or text(f"named_{self.verdict}", number=self.number)


def recurring_patterns(outcomes: Sequence[Outcome]) -> list[RecurringPattern]:
    """Recurring patterns of all categories, the strongest of each first, known ones without members last."""
    return [pattern for outcome in outcomes for pattern in _of_category(outcome)]


def _of_category(outcome: Outcome) -> list[RecurringPattern]:
    found = outcome.result.consistency.patterns
    patterns = [RecurringPattern(pattern.number, pattern.group, pattern.match, outcome) for pattern in found]
    return sorted(patterns, key=lambda pattern: not pattern.images)
