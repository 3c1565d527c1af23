"""Draws a synthetic set of machined parts with exact masks.

Parts vary in position, light and texture. Each one-off defect is unique; the defects of a recurring group have the same
shape at the same place of the part.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import replace_written, require_own
from codegraph_jax.core.files import whole_file
from codegraph_jax.data.drawing.defects import Defect, apply_defect, hole_place, place_on
from codegraph_jax.data.drawing.light import Light, render
from codegraph_jax.data.drawing.part import Pose, machine_part

ONE_OFF_KINDS = ("scratch", "stain", "dent", "chip", "fibre", "missing_hole")
RECURRING_KINDS = ("tool_mark", "crack")
_HOLES = 6
_SMALLEST = 32

DrawnPhoto = tuple[str, UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]
"""Name, image and mask, as in `DrawnSet`."""


class DrawnSetError(UserError):
    """The settings of a drawn set are invalid."""


@dataclass(frozen=True)
class DrawnSet:
    """A drawn set with its masks and labels."""

    images: UInt8[np.ndarray, "n s s 3"]
    masks: Bool[np.ndarray, "n s s"]
    labels: Int[np.ndarray, " n"]
    """0 good, 1 defective."""
    groups: Int[np.ndarray, " n"]
    """Index of the recurring group; -1 for good parts and one-off defects."""
    names: tuple[str, ...]
    """Paths as in a test directory of MVTec's form: `good/000.png`, `one_off/007.png`, `recurring_0/011.png`."""

    def __iter__(self) -> Iterator[DrawnPhoto]:
        """The name, image and mask of each photo."""
        return zip(self.names, self.images, self.masks, strict=True)

    @property
    def files(self) -> list[str]:
        """Paths of all files that `write_set` writes."""
        defective = [name for name, label in zip(self.names, self.labels, strict=True) if label]
        return [*(f"test/{name}" for name in self.names), *map(_mask_file, defective)]


def draw_set(count: int, size: int, seed: int, one_off: float, recurring: Sequence[float]) -> DrawnSet:
    """Draws `count` photos of one kind of part.

    Args:
        count: number of images.
        size: side s in pixels.
        seed: seed of the random numbers.
        one_off: share of images with a unique defect.
        recurring: share of images of each group with the same defect.

    Raises:
        DrawnSetError: count below 1, size below 32, or shares that are negative or add up to more than 1.
    """
    if count < 1 or size < _SMALLEST:
        raise DrawnSetError(
            f"a drawn set needs 1 image or more of {_SMALLEST} pixels or more, got count={count}, size={size}"
        )
    shares = (one_off, *recurring)
    counts = [round(count * share) for share in shares]
    if min(shares) < 0 or sum(counts) > count:
        raise DrawnSetError(
            f"shares of defective images must not be negative and may add up to 1 at most, got {shares}"
        )

    # role of each image: -2 good, -1 one-off, otherwise the group
    roles = np.repeat(np.arange(-1, len(recurring)), counts)
    roles = np.concatenate([roles, np.full(count - len(roles), -2)])
    np.random.default_rng((seed, 0)).shuffle(roles)
    defects = _plan(roles, seed, len(recurring))

    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.zeros((count, size, size), bool)
    for i, defect in enumerate(defects):
        images[i], masks[i] = _draw(defect, size, np.random.default_rng((seed, 1, i)))
    kinds = ["good" if role == -2 else "one_off" if role == -1 else f"recurring_{role}" for role in roles]
    names = tuple(f"{kind}/{i:03d}.png" for i, kind in enumerate(kinds))
    return DrawnSet(images, masks, (roles > -2).astype(np.int64), np.maximum(roles, -1).astype(np.int64), names)


def write_set(drawn: Iterable[DrawnPhoto], root: Path) -> None:
    """Writes a set in MVTec's form: test/<type>/<image> and ground_truth/<type>/<stem>_mask.png below `root`."""
    for name, image, mask in drawn:
        _save(image, root / "test" / name)
        if mask.any():
            _save(mask, root / _mask_file(name))


def _save(pixels: np.ndarray, file: Path) -> None:
    """Writes an image as a whole: another process may read that of an earlier start."""
    with whole_file(file) as name:
        # each format ignores the arguments of the other
        Image.fromarray(pixels).save(name, compress_level=3, quality=95, subsampling=0)


def replace_set(drawn: DrawnSet, workdir: Path, folder: str) -> None:
    """Writes a set into a folder of a workdir, in place of an earlier one, and lists its files (`file_ownership`).

    Raises:
        ForeignFileError: a file would be replaced that no run has written.
    """
    files = [f"{folder}/{file}" for file in drawn.files]
    require_own(workdir, files)
    replace_written(workdir, files, folder)
    write_set(drawn, workdir / folder)


def _mask_file(name: str) -> str:
    return f"ground_truth/{name.rpartition('.')[0]}_mask.png"


def _plan(roles: np.ndarray, seed: int, groups: int) -> list[Defect | None]:
    """The defect of each image."""
    rng = np.random.default_rng((seed, 2))
    first_kind, first_hole = int(rng.integers(len(ONE_OFF_KINDS))), int(rng.integers(_HOLES))
    originals = []
    for group in range(groups):
        kind = RECURRING_KINDS[group % len(RECURRING_KINDS)]
        u, v, angle = place_on(kind, rng)
        originals.append(Defect(kind, u, v, angle, 1.0, 1.0, int(rng.integers(2**31))))
    plan: list[Defect | None] = []
    one_offs = missing = 0
    for i, role in enumerate(roles):
        own = np.random.default_rng((seed, 3, i))
        if role == -2:
            plan.append(None)
        elif role >= 0:
            plan.append(_repeated_defect(originals[role], own))
        else:
            kind = ONE_OFF_KINDS[(first_kind + one_offs) % len(ONE_OFF_KINDS)]
            one_offs += 1
            if kind == "missing_hole":
                # there are six holes; a seventh missing hole would not be unique
                kind, missing = ("missing_hole" if missing < _HOLES else "stain"), missing + 1
            plan.append(_one_off_defect(kind, own, (first_hole + missing) % _HOLES))
    return plan


def _one_off_defect(kind: str, rng: np.random.Generator, hole: int) -> Defect:
    if kind == "missing_hole":
        return Defect(kind, *hole_place(hole), 0.0, hole=hole)
    u, v, angle = place_on(kind, rng)
    size, depth = rng.uniform(0.85, 1.25), rng.uniform(0.85, 1.15)
    return Defect(kind, u, v, angle, float(size), float(depth), int(rng.integers(2**31)))


def _repeated_defect(original: Defect, rng: np.random.Generator) -> Defect:
    """The same defect on another part, with small deviations."""
    u, v = rng.normal(0, 0.006, 2)
    angle, size, depth = rng.normal(0, 0.03), rng.normal(1, 0.03), rng.normal(1, 0.06)
    return replace(
        original,
        u=original.u + float(u),
        v=original.v + float(v),
        angle=original.angle + float(angle),
        size=original.size * float(size),
        depth=original.depth * float(depth),
    )


def _draw(defect: Defect | None, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shift = rng.normal(0, 0.018, 2)
    pose = Pose(size, (float(shift[0]), float(shift[1])), float(rng.normal(0, 0.04)), float(rng.normal(1, 0.008)))
    light = Light(
        azimuth=np.pi * 1.25 + float(rng.normal(0, 0.22)),
        elevation=float(rng.normal(0.9, 0.05)),
        strength=float(rng.normal(1, 0.05)),
        falloff=float(rng.uniform(0.05, 0.2)),
        warmth=float(rng.normal(0, 0.012)),
        blur=float(rng.uniform(0.45, 0.85)),
        noise=float(rng.uniform(0.006, 0.011)),
    )
    surface = machine_part(pose, rng, None if defect is None else defect.hole)
    mask = np.zeros((size, size), bool) if defect is None else apply_defect(surface, defect)
    return render(surface, light, rng), mask
