"""Image sets with annotation files: a table of labels, or boxes of objects (Pascal VOC)."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from codegraph_jax.core.names import composed
from codegraph_jax.data.image_set import CatalogError, ImageSet, Labels, RowSelector, decoded, decoded_files
from codegraph_jax.data.images import load_image
from codegraph_jax.data.search import find_images, natural_key
from codegraph_jax.data.value_range import ValueRange

logger = logging.getLogger(__name__)

NAME_COLUMNS = ("image_id", "image", "image_name", "filename", "file", "path", "name")
"""Names of the image column, by priority; without a match the first column is used."""
LABEL_COLUMNS = ("dx", "label", "labels", "class", "class_name", "target", "category", "diagnosis")
"""Names of the class column, by priority."""
SPLIT_COLUMN = "split"
NAMES_IN_MESSAGES = 3
"""Number of images that a message lists."""


def from_table(
    source: str, split: str, size: int | None, choose: RowSelector | None, value_range: ValueRange | None = None
) -> ImageSet:
    """Images below the folder of a table (CSV, or separated by tabs), with the class that the table gives them.

    The source is the table, followed by "#COLUMN" if the class column is not one of `LABEL_COLUMNS`; a table without a
    class column may have one-hot columns, one per class. A split takes only rows with its name in the column `split`.
    For the other arguments see `catalog.load_image_set`.

    Raises:
        CatalogError: no such table, column or image.
    """
    table, column = source, ""
    if "#" in source and not Path(source).is_file():
        table, _, column = source.rpartition("#")
    heading, rows = _read_table(table)
    if split:
        if SPLIT_COLUMN not in heading:
            raise CatalogError(f"{table!r}: has no column {SPLIT_COLUMN!r}, which is needed to select split {split!r}")
        at = heading.index(SPLIT_COLUMN)
        rows = [row for row in rows if row[at] == split]
    if not rows:
        raise CatalogError(f"{table!r}: holds no rows" + (f" of split {split!r}" if split else ""))
    lower = [name.lower() for name in heading]
    name_at = next((lower.index(name) for name in NAME_COLUMNS if name in lower), 0)
    classes = _classes_of(table, heading, rows, name_at, column)
    files = _files_by_name(table, [row[name_at] for row in rows])
    return decoded_files(files, *_indexed(classes), size, choose, value_range)


def from_boxes(
    root: str,
    split: str,
    size: int | None,
    choose: RowSelector | None,
    least_side: int = 0,
    value_range: ValueRange | None = None,
) -> ImageSet:
    """Crops of the objects of a data set in Pascal VOC layout, with their classes.

    The root has `Annotations` (XML files, also in subfolders; horizontal boxes are preferred), images in folders whose
    names begin with `JPEGImages`, or anywhere, and `ImageSets/Main/SPLIT.txt` (or `Main/SPLIT.txt`) with the names of a
    split; several splits are joined by "+". For the other arguments see `catalog.load_image_set`.

    Raises:
        CatalogError: a file is missing or malformed, or no object is left.
    """
    annotations = _annotations(root)
    names = sorted(annotations, key=natural_key) if not split else _names_of_split(root, split)
    if absent := [name for name in names if name not in annotations]:
        raise CatalogError(f"{root!r}: {_several(absent)} of split {split!r} have no file below Annotations")
    images = find_images(root)
    # other folders hold masks with the same names
    named = {name: file for name, file in images.items() if name.lower().startswith("jpegimages")}
    files = _by_stem(named or images)
    boxes: list[tuple[str, tuple[int, int, int, int]]] = []
    classes: list[str] = []
    skipped = 0
    for name in names:
        found = _objects(annotations[name])
        places = files.get(name, [])
        if found and len(places) != 1:
            which = f"{len(places)} images" if places else "no image"
            raise CatalogError(f"{root!r}: found {which} named {name!r}, which {annotations[name]} describes")
        for label, box in found:
            if min(box[2] - box[0], box[3] - box[1]) < max(least_side, 1):
                skipped += 1
                continue
            boxes.append((places[0], box))
            classes.append(label)
    if not boxes:
        raise CatalogError(f"{root!r}: holds no object with sides of {least_side} pixels or more")
    if skipped:
        logger.info("%s: %d objects smaller than %d pixels were skipped", root, skipped, least_side)
    shown = [f"{file} {box}" for file, box in boxes]
    cut_from = [file for file, _ in boxes]

    def cut(row: int, value_range: ValueRange | None) -> Image.Image:
        return _cut(*boxes[row], value_range)

    return decoded(cut, cut_from, shown, *_indexed(classes), size, choose, value_range)


def _indexed(classes: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """The label of each image, and the class names in natural order without regard to case."""
    names = tuple(sorted(set(classes), key=lambda name: (natural_key(name.casefold()), name)))
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[name] for name in classes], np.int32), names


def _several(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    shown = ", ".join(repr(name) for name in names[:NAMES_IN_MESSAGES])
    return shown if len(names) <= NAMES_IN_MESSAGES else f"{shown} and {len(names) - NAMES_IN_MESSAGES} more"


def _read_table(table: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows."""
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            read = [row for row in csv.reader(stream, delimiter="\t" if "\t" in first else ",") if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{table!r}: cannot be read as a table: {error}") from None
    if not read:
        raise CatalogError(f"{table!r}: is empty")
    heading, *rows = ([composed(cell.strip()) for cell in row] for row in read)
    for number, row in enumerate(rows, 2):
        if len(row) != len(heading):
            raise CatalogError(f"{table!r}: line {number} has {len(row)} cells, but the header has {len(heading)}")
    return heading, rows


def _classes_of(table: str, heading: list[str], rows: list[list[str]], name_at: int, column: str) -> list[str]:
    """The class of each row."""
    lower = [name.lower() for name in heading]
    if column:
        column = composed(column)
        if column not in heading:
            raise CatalogError(f"{table!r}: has no column {column!r}; it has {', '.join(heading)}")
        return [row[heading.index(column)] for row in rows]
    found = next((lower.index(name) for name in LABEL_COLUMNS if name in lower and lower.index(name) != name_at), None)
    if found is not None:
        return [row[found] for row in rows]
    marks = [i for i in range(len(heading)) if i != name_at]
    try:
        values = np.array([[float(row[i]) for i in marks] for row in rows])
    except ValueError:
        values = np.zeros((len(rows), 0))
    if not values.size or not (np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all()):
        raise CatalogError(
            f"{table!r}: found no class column among {', '.join(heading)}; append #COLUMN to the file name"
        )
    return [heading[marks[k]] for k in values.argmax(1)]


def _files_by_name(table: str, names: list[str]) -> list[str]:
    """The image file of each row, by its path below the table's folder or by its name."""
    folder = str(Path(table).parent)
    found = {composed(name): file for name, file in find_images(folder).items()}
    by_stem = _by_stem(found)
    files, absent = [], []
    for name in names:
        wanted = PurePosixPath(composed(name.replace("\\", "/")))
        hits = by_stem.get(wanted.name) or by_stem.get(wanted.stem) or []
        if str(wanted) in found:
            files.append(found[str(wanted)])
        elif len(hits) > 1:
            raise CatalogError(f"{table!r}: {name!r} is ambiguous ({_several(hits)}); write paths into the table")
        elif hits:
            files.append(hits[0])
        else:
            absent.append(name)
    if absent:
        raise CatalogError(
            f"{table!r}: {len(absent)} of {len(names)} images are not below {folder!r}: {_several(absent)}; unpack "
            "them there"
        )
    return files


def _by_stem(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Files by name, without folder and suffix."""
    found: dict[str, list[str]] = {}
    for name, file in files.items():
        found.setdefault(composed(PurePosixPath(name).stem), []).append(file)
    return found


def _annotations(root: str) -> dict[str, Path]:
    """The annotation file of each image; horizontal boxes are preferred."""
    home = Path(root) / "Annotations"
    if not home.is_dir():
        raise CatalogError(f"{root!r}: has no folder Annotations; give the root of a set in Pascal VOC's layout")
    found: dict[str, Path] = {}
    for path in sorted(home.rglob("*.xml"), key=lambda path: "horizontal" in str(path.relative_to(home)).lower()):
        found[composed(path.stem)] = path
    if not found:
        raise CatalogError(f"{str(home)!r}: holds no .xml files")
    return found


def _names_of_split(root: str, split: str) -> list[str]:
    """The image names in the lists of a split."""
    names: list[str] = []
    for part in split.split("+"):
        places = [Path(root) / folder / f"{part}.txt" for folder in ("ImageSets/Main", "Main", "ImageSets")]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            raise CatalogError(f"{str(places[0])!r}: no such file; it must list the images of split {part!r}")
        names += [composed(line.split()[0]) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
    return names


def _objects(path: Path) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Class and box (left, top, right, bottom; right and bottom exclusive) of each object of an image."""
    objects = []
    try:
        for element in ElementTree.parse(path).getroot().iter("object"):
            box = element.find("bndbox")
            name = composed((element.findtext("name") or "").strip())
            if box is None or not name:
                raise ValueError("an object has no name or no bndbox")
            left, top, right, bottom = (
                round(float(box.findtext(side) or "")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1, and includes the last one
            objects.append((name, (max(left - 1, 0), max(top - 1, 0), right, bottom)))
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise CatalogError(f"{str(path)!r}: is not a Pascal VOC annotation: {error}") from None
    return objects


def _cut(file: str, box: tuple[int, int, int, int], value_range: ValueRange | None) -> Image.Image:
    """The part of a box that lies in the image."""
    image = load_image(file, value_range)
    left, top, right, bottom = box
    right, bottom = min(right, image.width), min(bottom, image.height)
    if left >= right or top >= bottom:
        raise CatalogError(f"{file!r}: the box {box} lies outside of the image, {image.width} x {image.height}")
    return image.crop((left, top, right, bottom))
