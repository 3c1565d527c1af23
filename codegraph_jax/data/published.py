"""Layouts of published data sets that differ from MVTec AD's.

All read the test images of the publication; the method needs no training images.
"""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from codegraph_jax.core.names import composed
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.folders import read_mvtec_form
from codegraph_jax.data.list_files import read_csv, read_json, safe_join
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.samples import Categories, Sample, warn_missing_masks
from codegraph_jax.data.search import LayoutError, find_images, natural_key

logger = logging.getLogger(__name__)

is_file = os.path.isfile  # noqa: PTH113  Path.is_file raises for names that are not valid on this system


def read_btad(root: str, good: Sequence[str] = ()) -> Categories:
    """BTAD (Mishra et al., 2021): MVTec's form with types `ok` and `ko`; masks have the images' stems."""
    return read_mvtec_form(root, good, default_good=("ok",))


def read_mvtec_ad_2(root: str, good: Sequence[str] = ()) -> Categories:
    """MVTec AD 2 (Heckler-Kram et al., 2025): `<category>/test_public/{good,bad}` with `ground_truth` inside of it.

    The private test images have no labels; read their directories as layout `folder`.
    """
    return read_mvtec_form(root, good, test_folder="test_public", mask_folder="test_public/ground_truth")


def read_visa(root: str, good: Sequence[str] = ()) -> Categories:
    """VisA (Zou et al., ECCV 2022): as published, with split_csv/1cls.csv, or its one-class copy in MVTec's form."""
    table = Path(root) / "split_csv" / "1cls.csv"
    if not table.is_file():
        # MVTec's form, with types good and bad and masks of the images' stems
        return read_mvtec_form(root, good)
    _refuse_good(good, "visa")
    base = Path(root)
    samples: dict[str, list[Sample]] = {}
    for line, row in read_csv(table, ("object", "split", "label", "image", "mask")):
        where = f"{str(table)!r} line {line}"
        if row["label"] not in ("normal", "anomaly"):
            raise LayoutError(f"{where}: label {row['label'][:40]!r} is neither normal nor anomaly")
        folder, image = safe_join(base, row["object"], where), safe_join(base, row["image"], where)
        if folder.parent != base or not image.is_relative_to(folder):
            raise LayoutError(f"{where}: image {row['image'][:200]!r} does not lie below {row['object'][:40]!r}")
        mask = safe_join(base, row["mask"], where) if row["mask"] else None
        if row["split"] != "test":
            continue
        photo_type = "bad" if row["label"] == "anomaly" else "good"
        sample = _sample(image, folder, row["object"], mask, photo_type, "good")
        samples.setdefault(row["object"], []).append(sample)
    return {name: partial(_keep_existing, table, name, category_samples) for name, category_samples in samples.items()}


def read_real_iad(root: str, good: Sequence[str] = ()) -> Categories:
    """Real-IAD (Wang et al., CVPR 2024): a json for each category, in realiad_jsons/, lists realiad_<size>/."""
    _refuse_good(good, "real_iad")
    base = Path(root)
    lists = next(
        (
            files
            for name in ("realiad_jsons/realiad_jsons", "realiad_jsons", ".")
            if (files := sorted((base / name).glob("*.json"), key=lambda file: natural_key(file.name)))
        ),
        [],
    )
    sizes = sorted(
        (int(size), path)
        for path in base.glob("realiad_*")
        if path.is_dir() and (size := path.name.removeprefix("realiad_")).isdecimal()
    )
    # without such a folder the categories are at the root; the largest of several resolutions is used
    images = sizes[-1][1] if sizes else base
    return {file.stem: partial(_real_iad_samples, file, images) for file in lists}


def _real_iad_samples(file: Path, images: Path) -> list[Sample]:
    content = read_json(file)
    meta = content.get("meta") if isinstance(content, dict) else None
    tests = content.get("test") if isinstance(content, dict) else None
    if not isinstance(meta, dict) or not isinstance(tests, list):
        raise LayoutError(f"{str(file)!r}: expected an object with `meta` and a list `test`")
    normal, prefix = meta.get("normal_class"), meta.get("prefix", file.stem)
    if not isinstance(normal, str) or not isinstance(prefix, str):
        raise LayoutError(f"{str(file)!r}: `meta` needs the texts `normal_class` and `prefix`")
    folder = safe_join(images, prefix, f"{str(file)!r} meta.prefix")
    samples = []
    for i, entry in enumerate(tests):
        where = f"{str(file)!r} test[{i}]"
        fields = ("anomaly_class", "image_path")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in fields):
            raise LayoutError(f"{where}: needs the texts `anomaly_class` and `image_path`")
        photo_type, image = entry["anomaly_class"], safe_join(folder, entry["image_path"], where)
        mask = entry.get("mask_path")
        if mask is not None and not isinstance(mask, str):
            raise LayoutError(f"{where}: `mask_path` is neither a text nor null")
        mask_file = safe_join(folder, mask, where) if mask else None
        samples.append(_sample(image, folder, file.stem, mask_file, photo_type, normal))
    return _keep_existing(file, file.stem, samples)


def _sample(image: Path, folder: Path, category: str, mask: Path | None, photo_type: str, normal: str) -> Sample:
    anomalous = photo_type != normal
    mask_file = str(mask) if anomalous and mask is not None and is_file(mask) else None
    return Sample(str(image), image.relative_to(folder).as_posix(), category, int(anomalous), mask_file, photo_type)


def read_kolektor(root: str, good: Sequence[str] = ()) -> Categories:
    """KolektorSDD2 (`test/10000.png`, `test/10000_GT.png`), KolektorSDD (`kos01/Part0.jpg`, `kos01/Part0_label.bmp`).

    An image is anomalous if its mask is not empty, so every mask is read.
    """
    _refuse_good(good, "kolektor")
    base = Path(root)
    if any(base.glob("test/*_GT.*")):
        return {"kolektorsdd2": partial(_kolektor_samples, "kolektorsdd2", str(base / "test"), "_GT")}
    if any(base.glob("kos*/*_label.*")):
        return {"kolektorsdd": partial(_kolektor_samples, "kolektorsdd", root, "_label")}
    return {}


def _kolektor_samples(category: str, root: str, ending: str) -> list[Sample]:
    stems = {composed(str(PurePosixPath(item[0]).with_suffix(""))): item for item in find_images(root).items()}
    samples = []
    for stem, (name, path) in stems.items():
        if stem.endswith(ending):
            continue
        mask = stems.get(stem + ending, (None, None))[1]
        anomalous = None if mask is None else _any_anomalous(mask)
        if anomalous is None:
            samples.append(Sample(path, name, category))
        elif anomalous:
            samples.append(Sample(path, name, category, label=1, mask=mask, photo_type="defect"))
        else:
            samples.append(Sample(path, name, category, label=0, photo_type="good"))
    if unknown := sum(sample.label is None for sample in samples):
        logger.warning("%s: %d images have no readable mask, so their labels are unknown", category, unknown)
    return samples


def _any_anomalous(mask: str) -> bool | None:
    try:
        return bool(load_mask(mask, None).any())
    except UnreadableImageError:
        return None


def _refuse_good(good: Sequence[str], layout: str) -> None:
    if good:
        raise LayoutError(f"config.data.good: cannot be used with layout {layout}, which has a label for each image")


def _keep_existing(list_file: Path, category: str, samples: list[Sample]) -> list[Sample]:
    """Listed samples that exist, sorted by name without duplicates; warns about missing images and masks."""
    present = [sample for sample in samples if is_file(sample.path)]
    if absent := len(samples) - len(present):
        logger.warning("%s: %r lists %d images that do not exist; they were skipped", category, str(list_file), absent)
    unique = {sample.name: sample for sample in present}
    warn_missing_masks(category, sum(sample.label == 1 and sample.mask is None for sample in unique.values()))
    return sorted(unique.values(), key=lambda sample: natural_key(sample.name))
