"""Estimates the time of a run before it starts, from the matrix products that it needs and their speed on this machine.

The estimate is rough: all other work is a measured share of the products (benchmarks/log/speed.md, "Estimates").
"""

from dataclasses import dataclass, replace

import jax

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.matmul import measured_flop_rate
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.memory import feature_type, refuse_or_warn
from codegraph_jax.similarity.kernels import derives_degrees
from codegraph_jax.similarity.references import pair_count
from codegraph_jax.similarity.windows import products_of_a_pair

BACKBONE_EFFICIENCY, MATRIX_EFFICIENCY, WINDOW_EFFICIENCY = 0.5, 0.5, 0.35
"""Approximate speed of the three kinds of work relative to plain products."""
ALWAYS_FULL_SHARE = 0.05
"""Share of the acceptable work below which a comparison is always made in full: about a minute."""
USUAL_RADIUS, USUAL_REFERENCES = 4, 64
"""Radius, and number of references, that the estimate assumes where the program chooses them."""
HOUR = 3600.0
MAX_SECONDS = 24 * HOUR
"""Estimated time above which a run is refused: more is usually a mistake in the settings."""
NEGLIGIBLE_WORK = 1e12
"""Floating-point operations that take less than a minute anywhere; the speed is not measured for fewer."""
AFFORDABLE_WORK, AFFORDABLE_ON_ACCELERATORS = {"cpu": 2e14}, 2e17
"""Floating-point operations that are acceptable by default: about 25 minutes on two cores, or on one GPU."""


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated seconds of one category, in which each image is compared with `reference_count` images.

    Those of the features are None if the operations of the backbone are not known.
    """

    feature_seconds: float | None
    distance_seconds: float
    reference_count: int

    @property
    def seconds(self) -> float:
        """Seconds of both stages."""
        return (self.feature_seconds or 0.0) + self.distance_seconds

    def problem(self, radius: int | str) -> str:
        """The reason why the run takes more than `MAX_SECONDS`, with settings that help; empty if it does not."""
        if self.seconds <= MAX_SECONDS:
            return ""
        spare = MAX_SECONDS - (self.feature_seconds or 0.0)
        # the number of pairs is nearly proportional to the number of references
        fewer = int(self.reference_count * spare / self.distance_seconds) if spare > 0 else 0
        advice = [f"--config.similarity.references={fewer}"] if 1 < fewer < self.reference_count else []
        if radius == "all":
            advice.append("--config.similarity.radius=8 (if the parts are in the same position in all photos)")
        advice.append("a smaller --config.backbone.scale or input size (--size)")
        return (
            f"the run would take {format_duration(self.seconds)} on this machine, more than "
            f"{MAX_SECONDS / HOUR:g} hours; try {' or '.join(advice)}"
        )

    def require(self, config: Config) -> None:
        """Refuses a run that takes too long, or warns about it, as set by `config.resources.check`.

        Raises:
            ConfigError: it takes longer than `MAX_SECONDS`, and `config.resources.check` is `refuse`.
        """
        refuse_or_warn(self.problem(config.similarity.radius), config.resources.check)

    def __str__(self) -> str:
        without = " without the network, whose time is unknown" if self.feature_seconds is None else ""
        return f"{format_duration(self.seconds)}{without}"


def estimate(
    config: Config, backbone: LoadedBackbone, image_count: int, frame: Frame, device_count: int
) -> TimeEstimate:
    """Estimates the time of a detection run of this number of images on devices that share the work."""
    features, distances = _work(config, backbone, image_count, frame)
    references = min(config.similarity.reference_count or image_count, image_count)
    if features + distances < NEGLIGIBLE_WORK:
        return TimeEstimate(0.0 if features else None, 0.0, references)
    return TimeEstimate(
        features / (measured_flop_rate(feature_type(config.precision).name) * device_count) if features else None,
        distances / (measured_flop_rate(config.precision) * device_count),
        references,
    )


def is_affordable(config: Config, backbone: LoadedBackbone, image_count: int, frame: Frame) -> bool:
    """Whether a detection run takes at most about 25 minutes on a typical machine of this kind.

    The speed is not measured, since choices that depend on the result must be the same at every start.
    """
    return sum(_work(config, backbone, image_count, frame)) <= affordable_work()


def affordable_work() -> float:
    """Floating-point operations that are acceptable by default on this platform."""
    return AFFORDABLE_WORK.get(jax.default_backend(), AFFORDABLE_ON_ACCELERATORS)


def _work(config: Config, backbone: LoadedBackbone, image_count: int, frame: Frame) -> tuple[float, float]:
    """Floating-point operations of features and distances, in plain products that take the same time."""
    rows, columns = (min(frame.tile or side, side) for side in frame.grid)
    features = image_count * len(frame.tiles()) * backbone.flop(rows, columns)
    similarity = config.similarity
    if similarity.is_open and not compares_everything(config, backbone, image_count, frame.grid):
        # the choice needs the features (`similarity.comparison_scope`)
        if similarity.radius == "auto":
            similarity = replace(similarity, radius=USUAL_RADIUS)
        else:
            similarity = replace(similarity, references=USUAL_REFERENCES)
        config = replace(config, similarity=similarity)
    return features / BACKBONE_EFFICIENCY, comparison_work(config, backbone, image_count, frame.grid)


def compares_everything(config: Config, backbone: LoadedBackbone, image_count: int, grid: tuple[int, int]) -> bool:
    """Whether `auto` compares everything, because the full comparison is quick."""
    return comparison_work(config, backbone, image_count, grid) <= ALWAYS_FULL_SHARE * affordable_work()


def comparison_work(config: Config, backbone: LoadedBackbone, image_count: int, grid: tuple[int, int]) -> float:
    """Floating-point operations of the distances, in plain products that take the same time; `auto` counts as all."""
    degrees, similarity = len(config.features.distance_degrees), config.similarity
    efficiency = WINDOW_EFFICIENCY if similarity.radius_patches else MATRIX_EFFICIENCY
    if similarity.radius_patches:
        products = float(degrees * products_of_a_pair(grid, min(similarity.radius_patches, max(grid))))
    else:
        products = float((1 if derives_degrees(similarity, config.precision) else degrees) * (grid[0] * grid[1]) ** 2)
    pairs = pair_count(image_count, min(similarity.reference_count or image_count, image_count)) * len(backbone.blocks)
    return 2.0 * backbone.width * products * pairs / efficiency


def format_duration(seconds: float) -> str:
    """A rounded duration: `about 3 minutes`."""
    for size, unit in ((HOUR, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return "about a minute" if seconds >= 45 else "less than a minute"
