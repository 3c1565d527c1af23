"""The task `recurring`: the gain from the consistency stages on each set, and the verdicts on its groups.

The upper bound is an oracle with the true groups: mutual scoring in which images of one recurring group are no
references of each other. For sets with labels but without names of groups, it is replaced by right verdicts: a group is
a defect if nearly all its images are anomalous, otherwise a variant.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.config import Config, DrawConfig
from codegraph_jax.consistency.pattern import PatternVerdict
from codegraph_jax.core.files import write_json
from codegraph_jax.core.settings import Settings, at_least, choice, no_flag, path_like, within
from codegraph_jax.core.tables import percent, text_table
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.synthetic import draw_set, replace_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.result import DetectionResult
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.references import choose_references
from studies.link_ratios import STATISTICS

RECURRING = "recurring"
"""Prefix of the kinds of defect that are recurring groups."""
COLUMNS = {
    "image_auroc": "image AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "pixel_aupro": "AUPRO",
    "group_precision": "group precision",
    "group_recall": "group recall",
    "patch_precision": "patch precision",
    "patch_recall": "patch recall",
    "false_alarms": "false alarms",
    "flagged_recall": "flagged",
    "added_time": "added time",
}
NEARLY_ALL = 0.95
"""Share of anomalous images from which the right verdict on a group is "defect"."""


@dataclass(frozen=True)
class RecurringStudyConfig(Settings):
    """Sets and link statistics to compare."""

    task: str = field(default="recurring", metadata=choice("recurring"))
    """The task that this config is for."""
    shares: tuple[float, ...] = field(default=(0.0, 0.05, 0.1, 0.2, 0.3, 0.4), metadata=within(0.0, 1.0))
    """The shares of the recurring defect in the drawn sets; empty draws none."""
    draw: DrawConfig = field(default_factory=lambda: DrawConfig(image_count=100, seed=1, one_off=0.15))
    """The settings of the drawn sets; `recurring` has no effect, since `shares` takes its place."""
    roots: tuple[str, ...] = field(default=(), metadata=path_like())
    """Directories in MVTec's form; every category is a set."""
    statistics: tuple[str, ...] = field(default=("f_test",), metadata=choice(*STATISTICS))
    """The link statistics to compare, as in benchmarks/log/recurring.md: the F-test of CoDeGraph, and two ratios."""
    references: tuple[int, ...] = field(default=(), metadata=at_least(2))
    """Further numbers of references, which are chosen as by `similarity.references`."""
    repeats: int = field(default=1, metadata=no_flag() | at_least(1))
    """The number of sets drawn for each share, with consecutive seeds."""
    detect: Config = field(default_factory=Config)
    """The settings of detection, the same for all sets."""


def run(config: RecurringStudyConfig, workdir: str) -> None:
    """Prints the comparison and writes it to study.json."""
    with locked(Path(workdir)):
        _run_in(Path(workdir), config)


def _run_in(workdir: Path, config: RecurringStudyConfig) -> None:
    """Runs the study in a locked workdir."""
    detector = CoDeGraph(config.detect)
    print(f"weights: {detector.backbone.weights_name}", flush=True)
    rows: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    for name, samples in _sets(config, workdir):
        comparison = detector.compare(samples, progress=True)
        for method, result in _results(detector, comparison, samples, config):
            row = {"set": name, "method": method} | _metrics(result, config)
            rows.append(row)
            print(_one_line(row), flush=True)
            if method in config.statistics:
                groups += [{"set": name, "method": method} | group for group in _groups(result, result.samples)]
    with written_to(workdir):
        write_json(workdir / "study.json", {"methods": rows, "groups": groups})
    print("\npercent\n" + text_table(["set", "method", *COLUMNS.values()], [_cells(row) for row in rows]))
    if groups:
        print("\n" + text_table(list(groups[0]), [[_text(value) for value in group.values()] for group in groups]))


def _sets(config: RecurringStudyConfig, workdir: Path) -> Iterator[tuple[str, list[Sample]]]:
    for share in config.shares:
        for repeat in range(config.repeats):
            draw = config.draw
            name = f"drawn-{round(100 * share):02d}-seed{draw.seed + repeat}"
            groups = (share,) if share else ()
            drawn = draw_set(draw.image_count, draw.size, draw.seed + repeat, draw.one_off, groups)
            replace_set(drawn, workdir, f"images/{name}")
            yield name, read_layout("mvtec", str(workdir / "images"), (name,))[name]
    for root in config.roots:
        yield from read_layout("mvtec", root).items()


def _results(
    detector: CoDeGraph, comparison: Comparison, samples: Sequence[Sample], config: RecurringStudyConfig
) -> Iterator[tuple[str, DetectionResult]]:
    """Mutual scoring, the oracle where there are groups, and the full method with each statistic."""
    off = dataclasses.replace(config.detect.recurring, defects="off")
    yield "mutual scoring", detector.score(comparison, off)
    # a comparison has each image once, even if it is listed several times
    if groups := true_groups([samples[i] for i in comparison.features.kept]):
        yield "oracle", detector.score(_without_own_group(comparison, groups.values()), off)
    for statistic in config.statistics:
        link_finder = STATISTICS[statistic]
        result = detector.score(comparison, link_finder=link_finder)
        yield statistic, result
        if verdicts := _right_verdicts(result, [samples[i] for i in result.kept]):
            review = result.review(patterns=verdicts)
            yield f"{statistic}, right verdicts", detector.score(comparison, review=review, link_finder=link_finder)
    for limit in config.references:
        fewer = _with_fewer_references(comparison, limit)
        yield f"mutual scoring, R = {limit}", detector.score(fewer, off)
        for statistic in config.statistics:
            yield f"{statistic}, R = {limit}", detector.score(fewer, link_finder=STATISTICS[statistic])


def _without_own_group(comparison: Comparison, groups: Iterable[Int[np.ndarray, " g"]]) -> Comparison:
    """The comparison in which images of one group are no references for each other: their distances are infinite."""
    excluded, tables = np.zeros(comparison.shape[:2], bool), comparison.tables.host()
    for members in groups:
        excluded[np.ix_(members, np.flatnonzero(np.isin(comparison.references, members)))] = True
    infinite = [np.where(excluded[:, :, None], np.float32(np.inf), table) for table in tables]
    return dataclasses.replace(comparison, tables=dataclasses.replace(tables, tables=infinite))


def _with_fewer_references(comparison: Comparison, limit: int) -> Comparison:
    """The comparison with `similarity.references = limit`, from the one with all references."""
    keys = [comparison.features.keys[i] for i in comparison.references]
    columns, tables = choose_references(keys, limit), comparison.tables.host()
    part, references = [table[:, :, columns] for table in tables], tables.references[columns]
    return dataclasses.replace(comparison, tables=dataclasses.replace(tables, tables=part, references=references))


def true_groups(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Image indices of every recurring defect, by the labels."""
    kinds = sorted({s.photo_type for s in samples if s.photo_type and s.photo_type.startswith(RECURRING)})
    return {kind: np.array([i for i, s in enumerate(samples) if s.photo_type == kind]) for kind in kinds}


def _right_verdicts(result: DetectionResult, samples: Sequence[Sample]) -> dict[int, PatternVerdict]:
    """Right verdicts by the labels, for the groups that have a signature."""
    recurring, verdicts = result.recurring, dict[int, PatternVerdict]()
    for number, group in enumerate(recurring.groups, 1):
        if group.signature:
            defect = anomalous_share(group.members, samples) >= NEARLY_ALL
            verdicts[number] = "defect" if defect else "variant"
    return verdicts


def anomalous_share(images: Sequence[int], samples: Sequence[Sample]) -> float:
    """Share of the given images with the label "anomalous"."""
    return float(np.mean([samples[i].label == 1 for i in images]))


def _groups(result: DetectionResult, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Verdict and evidence of every group."""
    groups = result.recurring.groups
    evidence = [dataclasses.asdict(group.evidence) if group.evidence else {} for group in groups]
    return [
        {
            "images": len(group.members),
            "anomalous": anomalous_share(group.members, samples),
            "verdict": group.verdict,
            "by chance": group.chance_p_value,
            **{
                name: values.get(name)
                for name in (
                    "score_p_value",
                    "repeat_distance_ratio",
                    "outside_distance_ratio",
                    "distance_inequality_ratio",
                )
            },
        }
        for group, values in zip(groups, evidence)
    ]


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _metrics(result: DetectionResult, config: RecurringStudyConfig) -> dict[str, float | None]:
    metrics, samples = evaluate(result, config.detect.metrics), result.samples
    seconds = result.seconds
    flagged, labels = result.flagged, np.array([sample.label for sample in samples])
    for name, label in (("false_alarms", 0), ("flagged_recall", 1)):
        if (labels == label).any():
            metrics = metrics | {name: float(flagged[labels == label].mean())}
    row = dict.fromkeys(COLUMNS) | {key: metrics[key] for key in COLUMNS if key in metrics}
    if "recurring" in seconds:
        groups = [group.members for group in result.recurring.groups]
        row |= group_agreement(groups, samples) | _patch_agreement(result, samples)
        row["added_time"] = seconds["recurring"] / (seconds["backbone"] + seconds["distances"] + seconds["scoring"])
    return row


def group_agreement(groups: Sequence[Sequence[int]], samples: Sequence[Sample]) -> dict[str, float | None]:
    """Precision and recall of the groups' members.

    A group is assigned to the true group of most of its members, or to the anomalous images if there is none.
    Precision: share of members in the assigned true group. Recall: share of the images of true groups that are members
    of a group of theirs.
    """
    true = true_groups(samples)
    right, caught = 0, set()
    for members in groups:
        shared = {kind: set(members) & set(group.tolist()) for kind, group in true.items()}
        kind = max(shared, key=lambda k: len(shared[k]), default=None)
        if kind is not None and shared[kind]:
            right += len(shared[kind])
            caught |= shared[kind]
        else:
            right += sum(samples[i].label == 1 for i in members)
    total = sum(map(len, groups))
    wanted = sum(map(len, true.values()))
    return {
        "group_precision": right / total if total else None,
        "group_recall": len(caught) / wanted if wanted else None,
    }


def _patch_agreement(result: DetectionResult, samples: Sequence[Sample]) -> dict[str, float | None]:
    """Precision: flagged patches that a mask touches. Recall: half covered patches of group images that are flagged."""
    flagged = result.recurring.defect_patches
    if not flagged.any():
        return {"patch_precision": None, "patch_recall": None}
    covered = _mask_shares(samples, result.placement)
    in_group = np.zeros(len(samples), bool)
    for members in true_groups(samples).values():
        in_group[members] = True
    wanted = (covered >= 0.5) & in_group[:, None, None]
    return {
        "patch_precision": float((flagged & (covered > 0)).sum() / flagged.sum()),
        "patch_recall": float((flagged & wanted).sum() / wanted.sum()) if wanted.any() else None,
    }


def _mask_shares(samples: Sequence[Sample], placement: Placement) -> np.ndarray:
    """Share of each patch that the mask covers [n, h, w]."""
    shares = np.zeros((len(samples), *placement.frame.grid))
    side = placement.frame.patch_size
    for own, sample, content in zip(shares, samples, placement.rects()):
        if isinstance(sample.mask, str):
            mask: Bool[np.ndarray, "a b"] = load_mask(sample.mask, (content.height * side, content.width * side))
            content.cut(own)[:] = mask.reshape(content.height, side, content.width, side).mean(axis=(1, 3))
    return shares


def _cells(row: Mapping[str, Any]) -> list[str]:
    numbers = [percent(row[key]) for key in COLUMNS]
    return [row["set"], row["method"], *numbers]


def _one_line(row: Mapping[str, Any]) -> str:
    values = (f"{title} {cell}" for title, cell in zip(COLUMNS.values(), _cells(row)[2:]))
    return f"{row['set']}, {row['method']}: " + ", ".join(values)
