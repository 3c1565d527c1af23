"""What of the photographs is to be inspected: an image for all, a directory with one for each, or polygons.

In images black is not inspected; they are read as masks are (`codegraph_jax.data.masks.load_mask`) and stretched over
the photographs. A directory holds one for each photograph, under its name (`a/1.png` or `a/1_mask.png` or `1.png` for
`a/1.jpg`). A file of polygons is JSON, in pixels of the photographs as they are shown, upright:

    {"polygons": [[[40, 30], [900, 30], [900, 700], [40, 700]]], "size": [1000, 750]}

for all photographs, stretched from the stated width and height (without `size` it means pixels of each photograph), or
`{"a/1.jpg": {"polygons": [...]}, ...}`. What lies in any of the polygons is inspected.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.images import Source, UnreadableImage, load_image
from codegraph_jax.data.masks import load_mask, mask_index, stem
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.value_range import ValueRange

Inspected = Callable[[int, int], Bool[np.ndarray, "h w"]]
"""Gives which pixels of a photograph of some (width, height) are inspected."""

WHERE = "config.data.roi"
LARGEST_ROI = 2048
"""Longest side of what is kept for the photographs to come."""
HALF = 127
"""Of 255: how much of a patch must be inspected for it to count."""


@dataclass(frozen=True)
class Polygons:
    """Areas as rings of (x, y), in pixels of a photograph of `size` (width, height), or of whatever photograph."""

    rings: tuple[tuple[tuple[float, float], ...], ...]
    size: tuple[float, float] | None

    @classmethod
    def from_json(cls, values: Any) -> "Polygons":
        """
        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        rings = tuple(tuple((float(x), float(y)) for x, y in ring) for ring in values["polygons"])
        if not rings or any(len(ring) < 3 for ring in rings) or not np.isfinite(np.concatenate(rings)).all():
            raise ValueError("a polygon has three corners at least")
        size = values.get("size")
        if size is not None:
            size = float(size[0]), float(size[1])
            if min(size) <= 0:
                raise ValueError("a size is positive")
        return cls(rings, size)

    def __call__(self, width: int, height: int) -> Bool[np.ndarray, "h w"]:
        across, down = (width / self.size[0], height / self.size[1]) if self.size else (1.0, 1.0)
        picture = Image.new("1", (width, height))
        draw = ImageDraw.Draw(picture)
        for ring in self.rings:
            # corners are edges of pixels, and Pillow counts from the centres
            draw.polygon([(x * across - 0.5, y * down - 0.5) for x, y in ring], fill=1)
        return np.asarray(picture)


@dataclass(frozen=True)
class MaskFile:
    """An image file, or a directory of some whose union counts."""

    path: str

    def __call__(self, width: int, height: int) -> Bool[np.ndarray, "h w"]:
        return load_mask(self.path, (height, width))


@dataclass(frozen=True, eq=False)
class MaskArray:
    """An array for photographs of any size."""

    pixels: Bool[np.ndarray, "a b"]

    def __call__(self, width: int, height: int) -> Bool[np.ndarray, "h w"]:
        return load_mask(self.pixels, (height, width))


@dataclass(frozen=True, eq=False)
class WithData:
    """Of what is inspected of a photo the pixels that have data, see `codegraph_jax.data.value_range`."""

    source: Source
    value_range: ValueRange | None
    within: Inspected

    def __call__(self, width: int, height: int) -> Bool[np.ndarray, "h w"]:
        has_data = load_image(self.source, self.value_range).info.get("has_data")
        inspected = self.within(width, height)
        return inspected if has_data is None else inspected & load_mask(has_data, (height, width))


def where_data(
    sources: Sequence[Source],
    value_range: ValueRange | None,
    inspected: Sequence[Inspected],
    incomplete: Collection[int],
) -> list[Inspected]:
    """What is inspected of each photo, without the pixels that have no data.

    Args:
        sources: the photos.
        value_range: with which they are read.
        inspected: what else is inspected of each; empty: everything.
        incomplete: which of them may lack data in places.
    """
    whole = inspected or [everything] * len(sources)
    return [
        WithData(source, value_range, within) if i in incomplete else within
        for i, (source, within) in enumerate(zip(sources, whole))
    ]


def everything(width: int, height: int) -> Bool[np.ndarray, "h w"]:
    """All pixels of a photo."""
    return np.ones((height, width), bool)


@dataclass(frozen=True)
class Roi:
    """What is inspected of each photograph of a set.

    Attributes:
        place: where it came from.
        shared: for all photographs; None: each has its own.
        own: by the name of the photograph, as `stem` gives it.
    """

    place: str
    shared: Inspected | None = None
    own: Mapping[str, Inspected] | None = None

    @classmethod
    def load(cls, place: str) -> "Roi":
        """Reads what `config.data.roi` names.

        Raises:
            ConfigError: there is no such file, or it is no image, no such JSON, or inspects nothing.
        """
        path = Path(place)
        if path.is_dir():
            own = {name: MaskFile(found) for name, found in mask_index(place).items()}
            if not own:
                raise ConfigError(f"{WHERE}: no image below {place!r}")
            return cls(place, own=own)
        if not path.is_file():
            raise ConfigError(f"{WHERE}: there is no {place!r}")
        if path.suffix.lower() == ".json":
            return _polygons(place)
        try:
            inspected = load_mask(place, None)
        except UnreadableImage as error:
            raise ConfigError(f"{WHERE}: {error}") from None
        if not inspected.any():
            raise ConfigError(f"{WHERE}: {place!r} is black all over; black is not inspected")
        return cls(place, MaskFile(place))

    @classmethod
    def of(cls, roi: "str | np.ndarray") -> "Roi":
        """One for all as an array [h, w], 0 where nothing is inspected, or a place as for `load`."""
        return cls.load(roi) if isinstance(roi, str) else cls("array", MaskArray(np.asarray(roi) != 0))

    def each(self, names: Sequence[str]) -> list[Inspected]:
        """What is inspected of the photographs of these names.

        Raises:
            ConfigError: there is nothing for one of them.
        """
        if self.shared:
            return [self.shared] * len(names)
        assert self.own is not None
        found = [next((self.own[key] for key in _keys(name) if key in self.own), None) for name in names]
        if None in found:
            missing = [name for name, one in zip(names, found) if one is None]
            raise ConfigError(
                f"{WHERE}: {self.place!r} has nothing for {len(missing)} of {len(names)} photographs; the first: "
                f"{missing[0]!r}"
            )
        return [one for one in found if one]

    @property
    def identity(self) -> str:
        """Digest of what it says, or for a directory of its files' names, sizes and times."""
        path = Path(self.place)
        if path.is_file():
            return blake2b(path.read_bytes(), digest_size=16).hexdigest()
        stats = ((str(p.relative_to(path)), p.stat()) for p in sorted(path.rglob("*")) if p.is_file())
        listed = [[name, status.st_size, status.st_mtime_ns] for name, status in stats]
        return blake2b(json.dumps(listed).encode(), digest_size=16).hexdigest()


def inspected_patches(
    placement: Placement, inspected: Sequence[Inspected], names: Sequence[str]
) -> Bool[np.ndarray, "n p"]:
    """Which patches are inspected: those of which half is at least.

    Args:
        placement: of n photographs.
        inspected: pixels of each.
        names: for messages.

    Raises:
        ConfigError: nothing of a photograph is inspected.
    """
    patches = np.zeros((len(inspected), *placement.frame.grid), bool)
    # photographs that share what is inspected share the work
    known: dict[tuple[Inspected, int, int], np.ndarray] = {}
    for own, (width, height), pixels, name in zip(patches, placement.sizes.tolist(), inspected, names):
        content = placement.frame.content(width, height)
        key = (pixels, width, height)
        if key not in known:
            try:
                picture = Image.fromarray(pixels(width, height).astype(np.uint8) * 255)
            except UnreadableImage as error:
                raise ConfigError(f"{WHERE}: {error}") from None
            shares = picture.resize((content.width, content.height), Image.Resampling.BOX)
            known[key] = np.asarray(shares) >= HALF
        if not known[key].any():
            raise ConfigError(f"{WHERE}: nothing of {name!r} would be inspected; black is not")
        content.cut(own)[:] = known[key]
    return patches.reshape(len(patches), -1)


def shared_roi(inspected: Sequence[Inspected], placement: Placement) -> Bool[np.ndarray, "a b"] | None:
    """What is inspected where it is the same of all photographs, at the size of the first or `LARGEST_ROI` pixels."""
    if not inspected or any(one is not inspected[0] for one in inspected):
        return None
    width, height = placement.sizes[0].tolist()
    pixels = inspected[0](width, height)
    step = -(-max(width, height) // LARGEST_ROI)
    return pixels[::step, ::step]


def excluded_share(placement: Placement) -> float:
    """The share of the photographs' patches that are not inspected."""
    covered = placement.frame.covered(placement.contents())
    judged = covered if placement.judged is None else placement.judged & covered
    return 1 - float(judged.sum()) / max(1, int(covered.sum()))


def darkest(place: str) -> int:
    """The least value of an image that `config.data.roi` names, or of the first of a directory; 0 for polygons."""
    path = Path(place)
    file = min(mask_index(place).values(), default="") if path.is_dir() else place
    if not file or path.suffix.lower() == ".json":
        return 0
    try:
        return int(load_image(file).convert("L").getextrema()[0])  # type: ignore[arg-type]
    except UnreadableImage:
        return 0


def _keys(name: str) -> list[str]:
    """Under which a photograph may be listed: its path, and what is left without its first directories."""
    parts = stem(name).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _polygons(place: str) -> Roi:
    try:
        values = json.loads(Path(place).read_text(encoding="utf-8"))
        if "polygons" in values:
            return Roi(place, Polygons.from_json(values))
        own = {stem(str(name)): Polygons.from_json(one) for name, one in values.items()}
        if not own:
            raise ValueError("it is empty")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as e:
        raise ConfigError(
            f'{WHERE}: {place!r} is no file of polygons, {{"polygons": [[[x, y], ...], ...]}} ({type(e).__name__}: {e})'
        ) from None
    return Roi(place, own=own)
