"""Writes compare.html: what differs between two runs, with the maps of both for the photos that changed most.

The page has the style of the report and needs neither scripts nor other files.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import printable
from codegraph_jax.core.tensors import NPZ_ERRORS
from codegraph_jax.data.images import UnreadableImageError, load_image
from codegraph_jax.evaluation.changes import METRIC_HEADINGS, SIGNIFICANCE, SUMMARY, Change, ResultChanges, shortened
from codegraph_jax.report.heatmaps import Scale, overlay
from codegraph_jax.report.page import page_environment
from codegraph_jax.report.pictures import QUALITY, fit
from codegraph_jax.report.policy import content_policy, package_text

MOST = 20
"""Most photos in each section."""
SIDE = 248
"""Longest side of a picture in pixels, twice its size on the page."""
LARGEST_MAP = 2**24
"""Most pixels of a map that is read."""
GREY = (128, 128, 128)
"""Colour of a photo that cannot be read any more."""


def write_changes(path: Path, changes: ResultChanges, runs: tuple[Path, Path]) -> None:
    """Writes the page.

    Args:
        path: the file.
        changes: result of `compare_results` on the runs.
        runs: workdirs of both, whose maps.npz and photos are shown if they exist.
    """
    maps = [RunMaps(run) for run in runs]
    kinds = (("Newly flagged in B", changes.newly_flagged), ("No longer flagged in B", changes.no_longer_flagged),
             ("Largest changes of rank", changes.moved))  # fmt: skip
    sections = [
        (
            heading,
            changes.photo_rows(photos[:MOST]),
            [_pictures(photo, maps) for photo in photos[:MOST]],
            len(photos[MOST:]),
        )
        for heading, photos in kinds
        if photos
    ]
    style = package_text("page.css")
    html = (
        page_environment()
        .from_string(package_text("changes.html.j2"))
        .render(
            style=Markup(style),
            policy=content_policy(style),
            changes=changes,
            metrics=changes.metric_rows(),
            significance=SIGNIFICANCE[changes.better],
            settings=[[name, *map(shortened, pair)] for name, pair in changes.settings.items()],
            sections=sections,
            SUMMARY=SUMMARY,
            METRIC_HEADINGS=METRIC_HEADINGS,
        )
    )
    with whole_file(path) as name:
        Path(name).write_bytes(html.encode("utf-8"))


class RunMaps:
    """The anomaly maps of a finished run, read one by one from its maps.npz."""

    def __init__(self, workdir: Path):
        self._path = workdir / "maps.npz"
        self._scale: Scale | None = None
        try:
            values: Any = json.loads((workdir / "manifest.json").read_text(encoding="ascii"))["heatmap_scale"]
            low, high = float(values["low"]), float(values["high"])
            self._scale = Scale(low, high) if low < high else None
        except NPZ_ERRORS:
            # the page is shown without maps
            return

    def strength(self, category: str, place: int) -> Float[np.ndarray, "h w"] | None:
        """The map of an image as the run has drawn it, in [0, 1]; None if it is missing."""
        if self._scale is None:
            return None
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{printable(category)}.npy") as stream:
                np.lib.format.read_magic(stream)
                (count, height, width), _, dtype = np.lib.format.read_array_header_1_0(stream)
                size = height * width * 2
                if dtype != np.dtype("<f2") or not 0 <= place < count or not 0 < height * width <= LARGEST_MAP:
                    return None
                stream.seek(stream.tell() + place * size)
                values = np.frombuffer(stream.read(size), dtype).reshape(height, width)
        except NPZ_ERRORS:
            return None
        return self._scale.strength(np.nan_to_num(values.astype(np.float32)))


def _pictures(photo: Change, maps: Sequence[RunMaps]) -> list[bytes | None]:
    """The photo as JPEG with the map of each run over it; None without a map."""
    strengths = [own.strength(photo.category, side.place) for own, side in zip(maps, (photo.before, photo.after))]
    if all(strength is None for strength in strengths):
        return [None, None]
    image = _image(photo)
    pictures: list[bytes | None] = []
    for strength in strengths:
        if strength is None:
            pictures.append(None)
            continue
        height, width = strength.shape
        own = image or Image.new("RGB", (width, height), GREY)
        size = fit(*own.size, SIDE)
        stream = io.BytesIO()
        resized = np.clip(np.asarray(Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)), 0, 1)
        overlay(own, resized).save(stream, "JPEG", quality=QUALITY)
        pictures.append(stream.getvalue())
    return pictures


def _image(photo: Change) -> Image.Image | None:
    """The photo from the file of either run; None if it cannot be read any more."""
    for side in (photo.after, photo.before):
        try:
            return load_image(side.path)
        except UnreadableImageError:
            continue
    return None
