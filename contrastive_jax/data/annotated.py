"""Image sets with annotation files: a table of labels, or boxes of objects (Pascal VOC)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from codegraph_jax.core.names import composed, some_of
from codegraph_jax.data.list_files import read_csv, read_list
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError, find_images, natural_key
from contrastive_jax.data.image_set import Box, ImageList, indexed

logger = logging.getLogger(__name__)

NAME_COLUMNS = ("image_id", "image", "image_name", "filename", "file", "path", "name")
"""Names of the image column, by priority; without a match the first column is used."""
LABEL_COLUMNS = ("dx", "label", "labels", "class", "class_name", "target", "category", "diagnosis")
"""Names of the class column, by priority."""
SPLIT_COLUMN = "split"
NAMES_IN_MESSAGES = 3
"""Number of images that a message lists."""


def list_table(source: str, split: str) -> ImageList:
    """Images below the folder of a table (CSV, or separated by tabs), with the class that the table gives them.

    The source is the table, followed by "#COLUMN" if the class column is not one of `LABEL_COLUMNS`; a table without a
    class column may have one-hot columns, one per class. A split takes only rows with its name in the column `split`.

    Raises:
        LayoutError: no such table, column or image.
    """
    table, column = source, ""
    if "#" in source and not Path(source).is_file():
        table, _, column = source.rpartition("#")
    rows = [
        {composed(name.strip()): composed(value.strip()) for name, value in row.items()}
        for _, row in read_csv(Path(table), ())
    ]
    if split:
        if rows and SPLIT_COLUMN not in rows[0]:
            raise LayoutError(f"{table!r}: has no column {SPLIT_COLUMN!r}, which is needed to select split {split!r}")
        rows = [row for row in rows if row[SPLIT_COLUMN] == split]
    if not rows:
        raise LayoutError(f"{table!r}: holds no rows" + (f" of split {split!r}" if split else ""))
    image_column = _column(rows[0], NAME_COLUMNS) or next(iter(rows[0]))
    classes = _classes_of(table, rows, image_column, composed(column))
    files = _files_by_name(table, [row[image_column] for row in rows])
    return ImageList(list(map(Sample.of, files)), *indexed(classes))


def list_boxes(root: str, split: str, min_box_side: int) -> ImageList:
    """The objects of a data set in Pascal VOC layout, with their classes.

    The root has `Annotations` (XML files, also in subfolders; horizontal boxes are preferred), images in folders whose
    names begin with `JPEGImages`, or anywhere, and `ImageSets/Main/SPLIT.txt` (or `Main/SPLIT.txt`) with the names of a
    split; several splits are joined by "+". Objects with a side below `min_box_side` pixels are skipped.

    Raises:
        LayoutError: a file is missing or malformed, or no object is left.
    """
    annotations = _annotations(root)
    names = sorted(annotations, key=natural_key) if not split else _names_of_split(root, split)
    if absent := [name for name in names if name not in annotations]:
        raise LayoutError(f"{root!r}: {_several(absent)} of split {split!r} have no file below Annotations")
    images = find_images(root)
    # other folders hold masks with the same names
    named = {name: file for name, file in images.items() if name.lower().startswith("jpegimages")}
    files = _by_stem(named or images)
    objects: list[tuple[str, str, Box]] = []
    skipped = 0
    for name in names:
        found = _objects(annotations[name])
        paths = files.get(name, [])
        if found and len(paths) != 1:
            which = f"{len(paths)} images" if paths else "no image"
            raise LayoutError(f"{root!r}: found {which} named {name!r}, which {annotations[name]} describes")
        for label, box in found:
            if min(box[2] - box[0], box[3] - box[1]) < max(min_box_side, 1):
                skipped += 1
                continue
            objects.append((paths[0], label, box))
    if not objects:
        raise LayoutError(f"{root!r}: holds no object with sides of {min_box_side} pixels or more")
    if skipped:
        logger.info("%s: %d objects smaller than %d pixels were skipped", root, skipped, min_box_side)
    cut_files, classes, boxes = zip(*objects)
    return ImageList(list(map(Sample.of, cut_files)), *indexed(classes), boxes)


def _several(names: Sequence[str]) -> str:
    return some_of([repr(name) for name in names], NAMES_IN_MESSAGES)


def _column(row: Mapping[str, str], known: Sequence[str]) -> str:
    """The first of the known column names that a table has, in any case; empty if it has none."""
    columns = {name.lower(): name for name in row}
    return next((columns[name] for name in known if name in columns), "")


def _classes_of(table: str, rows: Sequence[Mapping[str, str]], image_column: str, column: str) -> list[str]:
    """The class of each row."""
    heading = ", ".join(rows[0])
    if column and column not in rows[0]:
        raise LayoutError(f"{table!r}: has no column {column!r}; it has {heading}")
    others = [name for name in rows[0] if name != image_column]
    if column := column or _column(dict.fromkeys(others, ""), LABEL_COLUMNS):
        return [row[column] for row in rows]
    try:
        marks = np.array([[float(row[name]) for name in others] for row in rows])
    except ValueError:
        marks = np.zeros((len(rows), 0))
    if not marks.size or not (np.isin(marks, (0, 1)).all() and (marks.sum(1) == 1).all()):
        raise LayoutError(f"{table!r}: found no class column among {heading}; append #COLUMN to the file name")
    return [others[k] for k in marks.argmax(1)]


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
            raise LayoutError(f"{table!r}: {name!r} is ambiguous ({_several(hits)}); write paths into the table")
        elif hits:
            files.append(hits[0])
        else:
            absent.append(name)
    if absent:
        raise LayoutError(
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
    folder = Path(root) / "Annotations"
    if not folder.is_dir():
        raise LayoutError(f"{root!r}: has no folder Annotations; give the root of a set in Pascal VOC's layout")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.xml"), key=lambda path: "horizontal" in str(path.relative_to(folder)).lower()):
        found[composed(path.stem)] = path
    if not found:
        raise LayoutError(f"{str(folder)!r}: holds no .xml files")
    return found


def _names_of_split(root: str, split: str) -> list[str]:
    """The image names in the lists of a split."""
    names: list[str] = []
    for part in split.split("+"):
        paths = [Path(root) / folder / f"{part}.txt" for folder in ("ImageSets/Main", "Main", "ImageSets")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise LayoutError(f"{str(paths[0])!r}: no such file; it must list the images of split {part!r}")
        names += [composed(line.split()[0]) for line in read_list(path).splitlines() if line.strip()]
    return names


def _objects(path: Path) -> list[tuple[str, Box]]:
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
        raise LayoutError(f"{str(path)!r}: is not a Pascal VOC annotation: {error}") from None
    return objects
