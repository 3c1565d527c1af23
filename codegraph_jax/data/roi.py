"""The inspected area of the photos: one mask for all, a directory with a mask for each photo, or polygons.

Black pixels of a mask are not inspected. Masks are read by `codegraph_jax.data.masks.load_mask` and stretched over the
photos. A directory holds one mask for each photo, by name (`a/1.png`, `a/1_mask.png` or `1.png` for `a/1.jpg`).
Polygons are JSON, in pixels of the upright photos:

    {"polygons": [[[40, 30], [900, 30], [900, 700], [40, 700]]], "size": [1000, 750]}

for all photos, scaled from the given width and height (without `size`: pixels of each photo), or
`{"a/1.jpg": {"polygons": [...]}, ...}`. The union of the polygons is inspected. Polygons under `excluded` are not;
without `polygons`, everything else is.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from codegraph_jax.core.files import read_json
from codegraph_jax.core.json_fields import MALFORMED, JsonFields, optional_in_json
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.masks import load_mask, mask_index, stem
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import ValueRange

Polygon = tuple[tuple[float, float], ...]
"""Corners of a polygon."""
InspectedArea = Callable[[int, int], Bool[np.ndarray, "h w"]]
"""A function that returns the inspected pixels of a photo of (width, height)."""

WHERE = "config.data.roi"
MAX_ROI_SIDE = 2048
"""Longest side in pixels of the area that is stored in a bank."""
MIN_INSPECTED = 127
"""A patch is inspected if at least this share (of 255) of its pixels is."""


@dataclass(frozen=True)
class Polygons(JsonFields):
    """Polygons of (x, y) in pixels of a photo of `size` (width, height); without a size, of each photo.

    Attributes:
        polygons: polygons that are inspected; empty: everything is.
        excluded: polygons that are not inspected.
        size: width and height.
    """

    polygons: tuple[Polygon, ...] = field(default=(), metadata=optional_in_json())
    excluded: tuple[Polygon, ...] = field(default=(), metadata=optional_in_json())
    size: tuple[float, float] | None = field(default=None, metadata=optional_in_json())

    def __post_init__(self) -> None:
        every = self.polygons + self.excluded
        if not every or any(len(ring) < 3 for ring in every) or not np.isfinite(np.concatenate(every)).all():
            raise ValueError("a polygon needs at least three corners")
        if self.size and min(self.size) <= 0:
            raise ValueError("a size must be positive")

    def __call__(self, width: int, height: int) -> Bool[np.ndarray, "h w"]:
        """The inspected pixels of a photo of this size."""
        across, down = (width / self.size[0], height / self.size[1]) if self.size else (1.0, 1.0)
        inspected = np.full((height, width), not self.polygons)
        for rings, value in ((self.polygons, True), (self.excluded, False)):
            for ring in rings:
                _fill(inspected, np.array(ring) * (across, down), value)
        return inspected


def _fill(mask: Bool[np.ndarray, "h w"], ring: Float[np.ndarray, "k 2"], value: bool) -> None:
    """Sets the pixels whose centres are inside a polygon of (x, y); Pillow would set all that an edge touches."""
    ends = np.roll(ring, -1, axis=0)
    first, last = (int(np.clip(np.ceil(y - 0.5), 0, len(mask))) for y in (ring[:, 1].min(), ring[:, 1].max()))
    for row in range(first, last):
        crossing = (ring[:, 1] <= row + 0.5) != (ends[:, 1] <= row + 0.5)
        (x, y), (next_x, next_y) = ring[crossing].T, ends[crossing].T
        edges = np.sort(x + (row + 0.5 - y) * (next_x - x) / (next_y - y))
        for left, right in np.clip(np.ceil(edges - 0.5), 0, mask.shape[1]).astype(int).reshape(-1, 2):
            mask[row, left:right] = value


def mask_area(source: str | np.ndarray) -> InspectedArea:
    """The area of a mask array, a mask file, or a directory of mask files whose union is used."""
    return lambda width, height: load_mask(source, (height, width))


def _with_data(sample: Sample, value_range: ValueRange | None, area: InspectedArea) -> InspectedArea:
    """The pixels of a photo inside an area that have data, see `codegraph_jax.data.value_range`."""

    def with_data(width: int, height: int) -> Bool[np.ndarray, "h w"]:
        has_data = load_image(sample, value_range).info.get("has_data")
        inspected = area(width, height)
        return inspected if has_data is None else inspected & load_mask(has_data, (height, width))

    return with_data


def areas_with_data(
    samples: Sequence[Sample],
    value_range: ValueRange | None,
    areas: Sequence[InspectedArea],
    incomplete: Collection[int],
) -> list[InspectedArea]:
    """The areas without pixels that have no data, which only the photos `incomplete` can have."""
    return [_with_data(samples[i], value_range, area) if i in incomplete else area for i, area in enumerate(areas)]


def everything(width: int, height: int) -> Bool[np.ndarray, "h w"]:
    """All pixels of a photo."""
    return np.broadcast_to(True, (height, width))


@dataclass(frozen=True)
class Roi:
    """The inspected area of each photo of a set, from a file or directory: shared, or by the `stem` of its name."""

    path: str
    shared: InspectedArea | None = None
    by_stem: Mapping[str, InspectedArea] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str) -> "Roi":
        """Reads the file or directory of `config.data.roi`.

        Raises:
            ConfigError: the file does not exist, is invalid, or excludes everything.
        """
        file = Path(path)
        if file.is_dir():
            by_stem = {name: mask_area(mask) for name, mask in mask_index(path).items()}
            if not by_stem:
                raise ConfigError(f"{WHERE}: {path!r} contains no images")
            return cls(path, by_stem=by_stem)
        if not file.is_file():
            raise ConfigError(f"{WHERE}: {path!r} does not exist")
        if file.suffix.lower() == ".json":
            return _polygons(path)
        try:
            inspected = load_mask(path, None)
        except UnreadableImageError as error:
            raise ConfigError(f"{WHERE}: {error}") from None
        if not inspected.any():
            raise ConfigError(f"{WHERE}: {path!r} is all black, so nothing would be inspected")
        return cls(path, mask_area(path))

    @classmethod
    def of(cls, roi: "str | np.ndarray") -> "Roi":
        """An area from an array [h, w], 0 where nothing is inspected, or from a path as for `load`."""
        return cls.load(roi) if isinstance(roi, str) else cls("array", mask_area(np.asarray(roi) != 0))

    def areas_of(self, names: Sequence[str]) -> list[InspectedArea]:
        """The inspected areas of the photos with these names.

        Raises:
            ConfigError: a photo has no area.
        """
        if self.shared:
            return [self.shared] * len(names)
        areas = [next((self.by_stem[key] for key in _keys(name) if key in self.by_stem), None) for name in names]
        if None in areas:
            missing = [name for name, area in zip(names, areas) if area is None]
            raise ConfigError(
                f"{WHERE}: {self.path!r} has no area for {len(missing)} of {len(names)} photos; the first: "
                f"{missing[0]!r}"
            )
        return [area for area in areas if area]

    @property
    def identity(self) -> str:
        """Digest of the file, or of the names, sizes and times of the files of a directory."""
        path = Path(self.path)
        if path.is_file():
            return blake2b(path.read_bytes(), digest_size=16).hexdigest()
        stats = ((str(p.relative_to(path)), p.stat()) for p in sorted(path.rglob("*")) if p.is_file())
        listed = [[name, status.st_size, status.st_mtime_ns] for name, status in stats]
        return blake2b(json.dumps(listed).encode(), digest_size=16).hexdigest()


def inspected_patches(
    placement: Placement, areas: Sequence[InspectedArea], names: Sequence[str]
) -> Bool[np.ndarray, "n p"]:
    """The inspected patches of photos: those with at least half of their pixels inspected; `names` are for messages.

    Raises:
        ConfigError: nothing of a photo is inspected.
    """
    patches = np.zeros((len(areas), *placement.frame.grid), bool)
    # computed once for photos with the same area and size
    computed: dict[tuple[InspectedArea, int, int], np.ndarray] = {}
    for photo_patches, (width, height), area, name in zip(patches, placement.sizes.tolist(), areas, names):
        rect = placement.frame.rect(width, height)
        key = (area, width, height)
        if key not in computed:
            try:
                picture = Image.fromarray(area(width, height).astype(np.uint8) * 255)
            except UnreadableImageError as error:
                raise ConfigError(f"{WHERE}: {error}") from None
            shares = picture.resize((rect.width, rect.height), Image.Resampling.BOX)
            computed[key] = np.asarray(shares) >= MIN_INSPECTED
        if not computed[key].any():
            raise ConfigError(f"{WHERE}: nothing of {name!r} would be inspected, since black pixels are excluded")
        rect.cut(photo_patches)[:] = computed[key]
    height, width = placement.frame.grid
    return patches.reshape(len(patches), height * width)


def shared_area(areas: Sequence[InspectedArea], placement: Placement) -> Bool[np.ndarray, "a b"] | None:
    """The common area of all photos at the size of the first, up to `MAX_ROI_SIDE` pixels.

    None if the areas differ, or everything is inspected.
    """
    if areas[0] is everything or any(area is not areas[0] for area in areas):
        return None
    width, height = placement.sizes[0].tolist()
    pixels = areas[0](width, height)
    step = -(-max(width, height) // MAX_ROI_SIDE)
    return pixels[::step, ::step]


def excluded_share(placement: Placement) -> float:
    """The share of the patches of all photos that are not inspected."""
    covered = placement.frame.covered(placement.rects())
    return 1 - int(placement.inspected.sum()) / max(1, int(covered.sum()))


def _keys(name: str) -> list[str]:
    """Keys under which a photo may be listed: its path, with and without leading directories."""
    parts = stem(name).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _polygons(path: str) -> Roi:
    try:
        values = read_json(path)
        if {"polygons", "excluded"} & values.keys():
            return Roi(path, Polygons.from_json(values))
        by_stem = {stem(name): Polygons.from_json(area) for name, area in values.items()}
        if not by_stem:
            raise ValueError("it is empty")
    except (OSError, *MALFORMED) as e:
        raise ConfigError(
            f'{WHERE}: {path!r} is not a file of polygons, {{"polygons": [[[x, y], ...], ...]}} '
            f"({type(e).__name__}: {e})"
        ) from None
    return Roi(path, by_stem=by_stem)
