"""Writes compare.html: what differs between two runs, with the maps of both for the photos that changed most.

The page has the style and the languages of the report, and needs no other files.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import printable
from codegraph_jax.core.tensors import NPZ_ERRORS
from codegraph_jax.data.images import UnreadableImageError, load_image
from codegraph_jax.evaluation.changes import METRIC_HEADINGS, SUMMARY, Change, ResultChanges, shortened
from codegraph_jax.report.heatmaps import Scale, overlay
from codegraph_jax.report.page import render_page
from codegraph_jax.report.pictures import QUALITY, fit
from codegraph_jax.report.texts import Text, package_text, shared_script, text

PHOTOS_IN_SECTION = 20
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
    sections = {
        kind: ([(photo, _pictures(photo, maps)) for photo in photos[:PHOTOS_IN_SECTION]], len(photos))
        for kind, photos in changes.kinds.items()
    }
    html = render_page(
        "changes.html.j2",
        package_text("page.css"),
        shared_script(),
        changes=changes,
        gain=_gain(changes),
        settings=[[name, *map(shortened, pair)] for name, pair in changes.settings.items()],
        sections=sections,
        SUMMARY=SUMMARY,
        METRIC_HEADINGS=METRIC_HEADINGS,
    )
    with whole_file(path) as name:
        Path(name).write_bytes(html.encode("utf-8"))


def _gain(changes: ResultChanges) -> Text:
    if changes.auroc_gain is None:
        return text("gain_absent")
    value, low, high = (round(100 * number, 2) for number in changes.auroc_gain)
    key = "gain_significant" if changes.auroc_gain.significant else "gain_not_significant"
    return text(key, value=value, low=low, high=high)


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

    def strength(self, category: str, index: int) -> Float[np.ndarray, "h w"] | None:
        """The map of an image as the run has drawn it, in [0, 1]; None if it is missing."""
        if self._scale is None:
            return None
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(f"{printable(category)}.npy") as stream:
                np.lib.format.read_magic(stream)
                (count, height, width), _, dtype = np.lib.format.read_array_header_1_0(stream)
                size = height * width * 2
                if dtype != np.dtype("<f2") or not 0 <= index < count or not 0 < height * width <= LARGEST_MAP:
                    return None
                stream.seek(stream.tell() + index * size)
                values = np.frombuffer(stream.read(size), dtype).reshape(height, width)
        except NPZ_ERRORS:
            return None
        return self._scale.strength(np.nan_to_num(values.astype(np.float32)))


def _pictures(photo: Change, maps: Sequence[RunMaps]) -> list[bytes | None]:
    """The photo as JPEG with the map of each run over it; None without a map."""
    strengths = [run.strength(photo.category, side.index) for run, side in zip(maps, (photo.before, photo.after))]
    image = None if all(strength is None for strength in strengths) else _image(photo)
    return [None if strength is None else _overlaid(image, strength) for strength in strengths]


def _overlaid(image: Image.Image | None, strength: Float[np.ndarray, "h w"]) -> bytes:
    """A map over its photo, or over grey."""
    image = image or Image.new("RGB", strength.shape[::-1], GREY)
    size = fit(*image.size, SIDE)
    resized = np.clip(np.asarray(Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)), 0, 1)
    stream = io.BytesIO()
    overlay(image, resized).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _image(photo: Change) -> Image.Image | None:
    """The photo from the file of either run; None if it cannot be read any more."""
    for side in (photo.after, photo.before):
        try:
            return load_image(side.path)
        except UnreadableImageError:
            continue
    return None
