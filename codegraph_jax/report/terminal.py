"""Lines for the terminal at the end of a run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from codegraph_jax.config import Config, InspectConfig
from codegraph_jax.core.names import printable
from codegraph_jax.core.tables import text_table
from codegraph_jax.report.outcome import Outcome
from codegraph_jax.report.recurring_patterns import recurring_patterns
from codegraph_jax.report.result_files import REPORT
from codegraph_jax.report.texts import text
from codegraph_jax.report.wording import describe_warning, few_photos, rarity_texts, tolerated_note

TOP = 10
"""Number of photos of each category in `photos_table`."""


def print_summary(workdir: Path, config: Config | InspectConfig, outcomes: Sequence[Outcome], table: str) -> None:
    """Prints a table, the recurring patterns, notices, and the line with the numbers of flagged photos."""
    for line in (table, *pattern_lines(outcomes), *notices(outcomes), closing_line(workdir, config, outcomes)):
        print(line)


def photos_table(outcomes: Sequence[Outcome]) -> str:
    """The photos of each category with the highest scores, flagged ones first, and the number of further photos."""
    several, rows, more = len(outcomes) > 1, [], 0
    for outcome in outcomes:
        result, category = outcome.result, [printable(outcome.category)] if several else []
        verdicts, rarities = result.verdicts, rarity_texts(result)
        order = sorted(range(len(verdicts)), key=lambda i: (verdicts[i] != "flagged", -result.scores[i]))
        for i in order[:TOP]:
            name, verdict = printable(outcome.samples[i].name), str(text(f"verdict_{verdicts[i]}"))
            rows.append([name, *category, f"{result.scores[i]:.4f}", rarities[i], verdict])
        more += len(order[TOP:])
    answered = any(outcome.result.calibrator().has_enough_answers for outcome in outcomes)
    rarity_heading = str(text("probability_column" if answered else "rarity_column"))
    table = text_table(["photo", *(["category"] if several else []), "score", rarity_heading, "verdict"], rows)
    return f"{table}\nand {more} more in scores.csv" if more else table


def pattern_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A line on each recurring pattern, and on each known pattern that was not found."""
    lines = []
    for pattern in recurring_patterns(outcomes):
        prefix = f"{printable(pattern.outcome.category)}: " if len(outcomes) > 1 else ""
        undecided = pattern.verdict == "undecided"
        # the label of a group without a name includes the verdict
        verdict = " (defect or variant?)" if undecided else f" ({pattern.verdict})" if pattern.name else ""
        count = f"{len(pattern.images)} of {len(pattern.outcome.samples)}"
        if last := pattern.previous:
            count += f", previous batch {last.member_count} of {last.image_count}"
        lines.append(f"{prefix}{pattern.label}{verdict}: {count}")
    return lines


def notices(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines for the terminal on the reliability of the verdicts, and what to do if it is low."""
    lines = []
    for outcome in outcomes:
        result, name = outcome.result, printable(outcome.category)
        if result.calibration.too_few_photos:
            lines.append(f"{name}: {few_photos(result.calibration, of_bank=not result.keys)}")
        elif result.calibration.warning:
            lines.append(f"{name}: {describe_warning(result.calibration.warning)}")
        elif result.calibration.decided_by == "rate" and result.keys:
            lines.append(
                f"{name}: provisional: answer for about eight photos in the report before you rely on the verdicts"
            )
        if note := tolerated_note(outcome.category, result):
            lines.append(str(note))
        if result.calibration.decided_by == "answers":
            estimate = result.calibrator().estimate
            mistakes = [
                f"about {count.expected:.0f} of {count.total:.0f} {kind} (at most {count.high})"
                for count, kind in (
                    (estimate.false_alarms, "good photos flagged by mistake"),
                    (estimate.misses, "defective photos missed"),
                )
            ]
            lines.append(f"{name}: by your answers {', '.join(mistakes)}")
    return lines


def closing_line(workdir: Path, config: Config | InspectConfig, outcomes: Sequence[Outcome]) -> str:
    """The numbers of flagged photos and of photos to check, flags by label, and the path of the report."""
    verdicts = [verdict for outcome in outcomes for verdict in outcome.result.verdicts]
    flagged, check, unknown = (verdicts.count(verdict) for verdict in ("flagged", "check", "unknown"))
    counts = sum((outcome.label_counts() for outcome in outcomes), Counter[str]())
    good, defective, caught = (counts[name] for name in ("good", "defective", "defective_flagged"))
    by_label = f" ({counts['false_alarms']} of {good} good, {caught} of {defective} defective by their labels)"
    details = by_label if good or defective else ""
    details += (f", {check} to check" if check else "") + (f", {unknown} unknown" if unknown else "")
    written = f"report: {workdir / REPORT}" if "page" in config.report.files else f"results: {workdir}"
    return f"{flagged} of {len(verdicts)} photos flagged{details}; {written}"
