"""Names of the files of a report."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

REPORT, MANIFEST, SCORES, GROUPS = "report.html", "manifest.json", "scores.json", "groups.json"
MAPS, COCO = "maps.npz", "coco.json"
RESULTS = (
    "scores.csv", SCORES, "metrics.json", "regions.json", "regions.csv", COCO, GROUPS, "similar.json", MAPS, REPORT,
    MANIFEST,
)  # fmt: skip
"""Files that a detection or inspection run writes directly into the workdir."""
SUFFIX = ".png"
NAME_BYTES = 255
"""Longest file name in bytes on common file systems."""


def output_path(directory: Path, category: str, name: str) -> Path:
    """Path of the PNG file for image `name` of a category; a name that is too long is shortened to end in a hash."""
    parts = [*directory.parts, category, *name.split("/")]
    last = parts.pop()
    if len(os.fsencode(last + SUFFIX)) > NAME_BYTES:
        mark = hashlib.sha256(os.fsencode(last)).hexdigest()[:12]
        kept = os.fsencode(last)[: NAME_BYTES - len(SUFFIX) - len(mark) - 1]
        last = f"{os.fsdecode(kept)}-{mark}"
    return Path(*parts, last + SUFFIX)


def heatmap_of(workdir: Path, category: str, path: str) -> Path | None:
    """Path below the workdir of the heat map of a photo; None if there is none.

    Args:
        workdir: directory of a run.
        category: of the photo, as in scores.json.
        path: of the photo; the file is named after an end of it, of which the longest counts.
    """
    parts = Path(path).parts
    for start in range(len(parts)):
        # category and path are from a file of the run, and must not lead out of its directory
        with suppress(OSError, ValueError):
            name = output_path(Path("heatmaps"), category, "/".join(parts[start:]))
            real = (workdir / name).resolve(strict=True)
            if real.is_relative_to((workdir / "heatmaps").resolve()) and real.is_file():
                return name
    return None


def relative_url(path: str | os.PathLike[str]) -> str:
    """The relative path of a file as a URL, byte for byte: `a b#1.png` is a%20b%231.png."""
    # quote() also escapes a colon, which would read as the end of a scheme
    return quote(os.fsencode(path), safe="/")
