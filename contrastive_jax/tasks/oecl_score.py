"""The task `oecl_score`: scores a folder of images with a trained network."""

import logging
from pathlib import Path

import numpy as np

from codegraph_jax.core.file_ownership import replace_written
from codegraph_jax.core.files import write_csv
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tables import text_table
from codegraph_jax.core.workdir import WorkdirError, locked
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.search import find_images
from codegraph_jax.data.value_range import given_range
from contrastive_jax.config import OeclDataConfig, ScoreConfig
from contrastive_jax.data.image_set import Images, square
from contrastive_jax.model import OECL
from contrastive_jax.objectives import DEFAULT_SCORE, SCORES
from contrastive_jax.report.result_files import SCORES_CSV

logger = logging.getLogger(__name__)

TABLE_ROWS = 10
"""Number of images in the printed table."""
LOADED_IMAGES = 4096
"""Number of images in memory at once."""


def run(config: ScoreConfig, workdir: str) -> None:
    """Writes scores.csv (path, three scores, rank; rank 1 is the least normal image) into the workdir.

    Raises:
        ConfigError, LayoutError, CheckpointError, UnreadableImageError: the input is invalid; nothing is written.
    """
    for field, value in (("run", config.run), ("images", config.images)):
        if not value:
            raise ConfigError(f"config.{field}: is empty; name a directory")
    model = OECL.load(config.run)
    files = find_images(config.images)
    if not files:
        raise ConfigError(f"config.images: no image below {config.images!r}")
    names: list[str] = []
    parts: list[dict[str, np.ndarray]] = []
    listed = list(files.items())
    for start in range(0, len(listed), LOADED_IMAGES):
        kept, images = _read(listed[start : start + LOADED_IMAGES], model.config.data)
        if kept:
            names += kept
            parts.append(model.scores(images, config.views))
    if not names:
        raise UnreadableImageError(config.images, f"none of the {len(files)} images below can be read")
    if skipped := len(files) - len(names):
        logger.warning("%d of %d images cannot be read and have no score", skipped, len(files))
    _write(Path(workdir), names, {name: np.concatenate([batch[name] for batch in parts]) for name in SCORES})


def _write(workdir: Path, names: list[str], scores: dict[str, np.ndarray]) -> None:
    """Writes scores.csv and prints the least normal images."""
    ranks = np.empty(len(names), int)
    order = np.argsort(scores[DEFAULT_SCORE], kind="stable")
    ranks[order] = np.arange(1, len(names) + 1)
    rows = (
        {"path": names[row], **{name: f"{scores[name][row]:.7g}" for name in SCORES}, "rank": int(ranks[row])}
        for row in range(len(names))
    )
    with locked(workdir):
        if (workdir / "checkpoints").is_dir():
            raise WorkdirError(f"{workdir}: holds a training run, with scores of its own; choose another --out")
        replace_written(workdir, [SCORES_CSV])
        write_csv(workdir / SCORES_CSV, rows, ["path", *SCORES, "rank"])
    print(f"{len(names)} images scored; the least normal ones:")
    shown = [[names[row], *(f"{scores[name][row]:.4g}" for name in SCORES)] for row in order[:TABLE_ROWS]]
    print(text_table(["path", *SCORES], shown))
    print(f"\nall scores in {workdir / 'scores.csv'}", flush=True)


def _read(files: list[tuple[str, str]], data: OeclDataConfig) -> tuple[list[str], Images]:
    """The images that can be decoded, with their names."""
    names, images, size = [], [], data.stored_size
    value_range = given_range(data.range, data.no_data)
    for name, path in files:
        try:
            images.append(square(load_image(path, value_range), size))
        except UnreadableImageError as error:
            logger.warning("%s", error)
        else:
            names.append(name)
    return names, np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
