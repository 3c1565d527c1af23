"""How long a run will take: the products that it needs, and how fast this machine computes products.

A rough figure, for a person to decide by before hours go into a run: what is beside the products is a share of them
that was measured once (benchmarks/log/speed.md, "Estimates").
"""

import logging
from dataclasses import dataclass

import jax

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import Config
from codegraph_jax.core.matmul import speed
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import Frame
from codegraph_jax.similarity.pairwise import derives_degrees, schedule_length
from codegraph_jax.similarity.windows import products_of_a_pair

logger = logging.getLogger(__name__)

BACKBONE, TILES, WINDOWS = 0.5, 0.5, 0.35
"""Shares of the speed of plain products that the three kinds of work reach, about."""
HOUR = 3600.0
LITTLE = 1e12
"""Floating-point operations that take less than a minute anywhere: for these the machine is not measured."""
AFFORDABLE, ON_ACCELERATORS = {"cpu": 5e14}, 5e17
"""Floating-point operations that whoever has chosen nothing waits for: an hour or so of two cores, or of one GPU."""


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated seconds of one category.

    Attributes:
        features, distances: of the two slow stages.
        references: images that each image is compared with.
    """

    features: float
    distances: float
    references: int

    @property
    def seconds(self) -> float:
        return self.features + self.distances

    def check(self, hours: float, radius: int) -> str:
        """What is wrong with a run that takes longer than that, and what would help; empty where nothing is.

        Args:
            hours: that it may take; 0: any time.
            radius: of the run.
        """
        if not hours or self.seconds <= hours * HOUR:
            return ""
        spare = hours * HOUR - self.features
        # pairs grow with the references nearly in proportion
        fewer = int(self.references * spare / self.distances) if spare > 0 else 0
        advice = [f"--config.similarity.references={fewer}"] if 1 < fewer < self.references else []
        if not radius:
            advice.append("--config.similarity.radius=8, if the parts lie alike in all photographs,")
        advice.append("a smaller --config.backbone.scale or image_size")
        return (
            f"config.storage.hours: the run would take {format_duration(self.seconds)} on this machine, and {hours:g} "
            f"hours are allowed; {' or '.join(advice)} may do, or --config.storage.hours=0"
        )

    def require(self, config: Config) -> None:
        """Refuses a run that takes too long by the settings.

        Raises:
            ConfigError: `config.storage.hours` is exceeded, and `config.storage.check` is `refuse`.
        """
        problem = self.check(config.storage.hours, config.similarity.radius)
        if problem and config.storage.check == "refuse":
            raise ConfigError(problem)
        if problem:
            logger.warning("%s", problem)

    def __str__(self) -> str:
        return (
            f"estimate of time: features {format_duration(self.features)}, distances {format_duration(self.distances)}"
        )


def estimate(config: Config, backbone: Backbone, images: int, frame: Frame, devices: int) -> TimeEstimate:
    """The time_estimate of a detection of so many images.

    Args:
        config: of the run.
        backbone: of the run.
        images: how many.
        frame: how they become grids of patches.
        devices: that share the work.
    """
    features, distances = _work(config, backbone, images, frame)
    references = min(config.similarity.references or images, images)
    if features + distances < LITTLE:
        return TimeEstimate(0.0, 0.0, references)
    return TimeEstimate(
        features / (speed(config.backbone.dtype) * devices),
        distances / (speed(config.similarity.precision) * devices),
        references,
    )


def is_affordable(config: Config, backbone: Backbone, images: int, frame: Frame) -> bool:
    """Whether a detection takes an hour or so at most on a usual machine of this kind.

    The machine is not measured: what is chosen by this must be the same at every start.
    """
    return sum(_work(config, backbone, images, frame)) <= AFFORDABLE.get(jax.default_backend(), ON_ACCELERATORS)


def _work(config: Config, backbone: Backbone, images: int, frame: Frame) -> tuple[float, float]:
    """Floating-point operations of the two slow stages, as many plain products as take the same time."""
    degrees, similarity = len(config.features.degrees), config.similarity
    if similarity.radius:
        radius = min(similarity.radius, max(frame.grid))
        products, share = float(degrees * products_of_a_pair(frame.grid, radius)), WINDOWS
    else:
        patches = frame.grid[0] * frame.grid[1]
        products, share = float((1 if derives_degrees(similarity) else degrees) * patches**2), TILES
    pairs = schedule_length(images, min(config.similarity.references or images, images)) * len(backbone.blocks)
    rows, columns = (min(frame.tile or cells, cells) for cells in frame.grid)
    features = images * len(frame.tiles()) * backbone.flop(rows, columns)
    return features / BACKBONE, 2.0 * backbone.preset.width * products * pairs / share


def format_duration(seconds: float) -> str:
    """A time as people say it: `about 3 minutes`."""
    for size, unit in ((HOUR, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return "about a minute" if seconds >= 45 else "less than a minute"
