"""The images of a detection run: categories that are read or drawn, and images that are added to a category."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from codegraph_jax.config import Config, DataConfig, DrawConfig, PhotosConfig
from codegraph_jax.core.file_ownership import written_files
from codegraph_jax.core.names import printable
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import written_to
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.pages import with_pages
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import excluded_share
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError, find_images
from codegraph_jax.data.synthetic import draw_set, replace_set
from codegraph_jax.detector import TooFewImagesError
from codegraph_jax.distributed import processes
from codegraph_jax.tasks.paths import require_exists

logger = logging.getLogger(__name__)

DRAWN_SET = PurePosixPath("images/drawn")
"""The folder of the drawn set below the workdir."""


def read_categories(data: DataConfig, workdir: Path) -> dict[str, list[Sample]]:
    """The samples of each category, at least two; the layout `drawn` draws them into the workdir.

    Raises:
        ConfigError: `data.good` names folders of a drawn set.
        TooFewImagesError: there are fewer.
    """
    if data.layout == "drawn":
        if data.good:
            raise ConfigError("config.data.good: has no effect on the drawn set; leave it out")
        categories = _draw(data.draw, workdir)
    else:
        categories = read_files(data)
    require_two(data, categories)
    return categories


def require_two(data: PhotosConfig, categories: Mapping[str, list[Sample]]) -> None:
    """Checks that there are at least two images of each category.

    Raises:
        TooFewImagesError: there are fewer.
    """
    for category, samples in categories.items():
        if len(samples) < 2:
            raise TooFewImagesError(
                f"category {category!r} in {data.root!r} has one photo, and photos are compared with each other; give "
                "at least 12"
            )


def read_files(data: PhotosConfig) -> dict[str, list[Sample]]:
    """The samples on disk, one for each page that is inspected.

    Raises:
        ConfigError: `data.root` is empty or does not exist.
    """
    if not data.root:
        raise ConfigError("config.data.root: is empty; name the folder of the photos")
    if data.layout != "tfds":
        require_exists("config.data.root", data.root)
    categories = _without_roi(read_layout(data.layout, data.root, data.categories, data.good), data.roi)
    return {name: with_pages(name, samples, data.pages) for name, samples in categories.items()}


def _without_roi(categories: Mapping[str, list[Sample]], roi: str) -> dict[str, list[Sample]]:
    """The categories without the files of `config.data.roi`, which often lie among the photos."""
    if not roi:
        return dict(categories)
    excluded = Path(roi).resolve()

    def is_photo(sample: Sample) -> bool:
        path = Path(sample.path).resolve()
        return path != excluded and excluded not in path.parents

    left = {name: [sample for sample in samples if is_photo(sample)] for name, samples in categories.items()}
    return {name: samples for name, samples in left.items() if samples}


def print_excluded(category: str, roi: str, placement: Placement) -> None:
    """Prints the share of the photos that `config.data.roi` excludes, and warns if it excludes none."""
    if share := excluded_share(placement):
        print(f"{printable(category)}: {roi}: {share:.1%} of the photos' area is not inspected", flush=True)
    else:
        logger.warning("%s: %s has no black area, so the whole photo is inspected; only 0 is excluded", category, roi)


def warn_unreadable(category: str, image_count: int, unreadable: Sequence[tuple[int, str]]) -> None:
    """Warns about images that cannot be read, given by their index and the reason."""
    if unreadable:
        logger.warning(
            "%s: %d of %d photos cannot be read and were skipped; the first: %s",
            category, len(unreadable), image_count, unreadable[0][1],
        )  # fmt: skip


def require_one_product(config: Config, categories: Mapping[str, list[Sample]]) -> None:
    """Checks that there is a single category if a setting needs one.

    Raises:
        ConfigError: there are several categories.
    """
    for field, value in (("data.add", config.data.add), ("bank.save", config.bank.save)):
        if value and len(categories) > 1:
            raise ConfigError(
                f"config.{field}: needs a single product, but there are {len(categories)} categories; choose one with "
                "--config.data.categories=NAME, or put the photos of each product into a separate folder"
            )


def read_added(data: DataConfig, category: str) -> list[Sample]:
    """The images of `data.add`, unlabelled, with names below `added/`."""
    samples: dict[str, Sample] = {}
    for number, added in enumerate(data.add):
        require_exists("config.data.add", added)
        if Path(added).is_file():
            images = {Path(added).name: added}
        else:
            try:
                images = find_images(added)
            except LayoutError as error:
                raise ConfigError(f"config.data.add: {str(error).removeprefix('config.data.root: ')}") from None
        if not images:
            raise ConfigError(f"config.data.add: {added!r} contains no photos")
        for name, path in images.items():
            unique = f"added/{name}" if f"added/{name}" not in samples else f"added/{number}/{name}"
            samples[unique] = Sample(path, unique, category)
    return with_pages(category, list(samples.values()), data.pages)


def _draw(draw: DrawConfig, workdir: Path) -> dict[str, list[Sample]]:
    """Draws the demo set, prints what is drawn, and reads it back like any other data set."""
    if processes.is_first():
        groups = " and ".join(f"{share:.0%}" for share in draw.recurring) or "none"
        print(
            f"Drawing {draw.image_count} photos of a machined part: {draw.one_off:.0%} with a one-off defect, "
            f"{groups} with a recurring defect.\nDetection uses no labels. The table at the end shows how many defects "
            "were found; report.html shows where they are.",
            flush=True,
        )
        drawn = draw_set(draw.image_count, draw.size, draw.seed, draw.one_off, draw.recurring)
        with written_to(workdir):
            replace_set(drawn, workdir, str(DRAWN_SET))
    processes.barrier("set drawn")
    return read_layout("mvtec", str(workdir / DRAWN_SET.parent), (DRAWN_SET.name,))


def drawn_files_of_run(data: DataConfig, workdir: Path) -> list[str]:
    """POSIX paths below the workdir of the set that the run has drawn; empty for any other layout."""
    names = map(Path, written_files(workdir) if data.layout == "drawn" else ())
    return [name.as_posix() for name in names if name.is_relative_to(DRAWN_SET)]
