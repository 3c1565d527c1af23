"""Every data set of the paper: the shipped config reads a tiny synthetic copy in the layout of its archives."""

import csv
import dataclasses
import importlib
import logging
from pathlib import Path

import numpy as np
import pytest

from codegraph_jax.core.settings import read_config
from codegraph_jax.data.search import LayoutError
from contrastive_jax.config import OeclConfig
from contrastive_jax.data.protocols import ProtocolError
from contrastive_jax.data.sources import read_run_data
from studies.sweeps.training import class_names
from tests.support.photos import write_noise

SIZE = 16


def imagenet(home: Path, classes: tuple[str, ...]) -> None:
    """Class folders of ImageNet-1k: the given ones, and another one."""
    for k, name in enumerate((*classes, "n99999999")):
        for i in range(2):
            write_noise(home / "imagenet" / name / f"{name}_{i}.JPEG", 1000 + 10 * k + i)


def shipped(name: str, home: Path, variant: str = "", **data: object) -> OeclConfig:
    """The settings of a shipped config, its folders below `home`, small images and steps."""
    module = importlib.import_module(f"configs.{name}")
    values = dataclasses.asdict(module.get_config(variant) if variant else module.get_config())
    for group, field in (("data", "train"), ("data", "test"), ("oe", "source")):
        values[group][field] = values[group][field].replace("data/", f"{home}/")
    values["data"].update(stored_size=SIZE, image_size=8, **data)
    values["train"].update(batch_size=2)
    values["oe"].update(image_count=None)
    return read_config(OeclConfig, values)


def test_imagenet30_is_read_as_published(tmp_path):
    from configs.imagenet30_oecl import CLASSES

    assert len(CLASSES) == len(set(CLASSES.values())) == 30
    for k, name in enumerate(CLASSES):
        for split, count in (("train", 3), ("test", 1)):
            for i in range(count):
                write_noise(tmp_path / "imagenet30" / split / name / f"{i}.JPEG", 10 * k + i)
    (tmp_path / "imagenet30" / "train" / "airliner" / "._1.JPEG").write_bytes(b"left by macOS")
    imagenet(tmp_path, tuple(CLASSES.values()))
    data = read_run_data(shipped("imagenet30_oecl", tmp_path))
    assert len(data.normal) == 3 and data.normal.shape[1:] == (SIZE, SIZE, 3)
    assert len(data.oe) == 2, "the thirty classes are not in the exposure"
    assert data.test.is_normal.sum() == 1 and len(data.test.images) == 30
    left_out = shipped("imagenet30_oecl", tmp_path, "loo")
    assert len(read_run_data(left_out).normal) == 87 and left_out.train.epochs == 500
    assert class_names(left_out)[:2] == ["acorn", "airliner"]
    (tmp_path / "imagenet30" / "train" / "volcano").rename(tmp_path / "imagenet30" / "train" / "vulcan")
    with pytest.raises(ProtocolError, match="config.data.classes: there is no class 'volcano'"):
        read_run_data(shipped("imagenet30_oecl", tmp_path))


def test_dior_is_read_as_published(tmp_path):
    from configs.dior_oecl import CLASSES

    boxes, lists = tmp_path / "dior/Annotations/Horizontal Bounding Boxes", tmp_path / "dior/ImageSets/Main"
    boxes.mkdir(parents=True)
    lists.mkdir(parents=True)
    splits = {"train": ("00001",), "val": ("00002",), "test": ("11726", "11727")}
    for split, names in splits.items():
        (lists / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            folder = "JPEGImages-test" if split == "test" else "JPEGImages-trainval"
            write_noise(tmp_path / "dior" / folder / f"{name}.jpg", int(name), (302, 300))
            objects = "".join(
                f"<object><name>{kind}</name><bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>{x + side}</xmax>"
                f"<ymax>{side}</ymax></bndbox></object>"
                for kind in (*CLASSES, "vehicle")
                for x, side in ((1, 125), (130, 150), (5, 40))
            )
            (boxes / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    imagenet(tmp_path, ())
    config = shipped("dior_oecl", tmp_path)
    data = read_run_data(config)
    assert len(data.normal) == 4 and len(data.test.images) == 2 * 2 * 19 and data.test.is_normal.sum() == 4
    assert "vehicle" not in class_names(config) and len(class_names(config)) == 19
    assert config.oe.alpha == 0.1


def test_raabin_wbc_is_read_as_published(tmp_path):
    for split, count in (("Train", 3), ("TestA", 2)):
        for k, name in enumerate(("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil")):
            for i in range(count):
                write_noise(tmp_path / "raabin_wbc" / split / name / f"{i}.jpg", 100 * k + 10 * count + i)
    imagenet(tmp_path, ())
    config = shipped("raabin_wbc_oecl", tmp_path)
    data = read_run_data(config)
    assert len(data.normal) == 3 and data.test.is_normal.sum() == 2 and len(data.test.images) == 10
    assert config.oe.alpha == 0.1 and config.augment.crop_scale == (0.5, 1.0)
    with pytest.raises(LayoutError, match="not an .npz file, an .npy file, or a readable directory"):
        read_run_data(shipped("raabin_wbc_oecl", tmp_path, test_split="test_A"))


def test_ham10000_is_read_as_published(tmp_path):
    diagnoses = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    rows = [(f"ISIC_{i}", diagnoses[i % 7]) for i in range(21)]
    for i, (name, _) in enumerate(rows):
        write_noise(tmp_path / "ham10000" / f"HAM10000_images_part_{1 + i % 2}" / f"{name}.jpg", i)
    with (tmp_path / "ham10000" / "HAM10000_metadata.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("lesion_id", "image_id", "dx"), *(("HAM", *row) for row in rows)])
    # the challenge's test: columns in another order, in capitals, and no bkl
    marks = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    tests = [(f"ISIC_{100 + i}", mark) for i, mark in enumerate(marks)]
    for i, (name, _) in enumerate(tests):
        write_noise(tmp_path / "ham10000_test" / "Input" / f"{name}.jpg", 100 + i)
    with (tmp_path / "ham10000_test" / "ISIC2018_Task3_Test_GroundTruth.csv").open("w", newline="") as stream:
        csv.writer(stream).writerow(("image", *marks))
        csv.writer(stream).writerows([(name, *(f"{float(m == mark)}" for m in marks)) for name, mark in tests])
    imagenet(tmp_path, ())
    for target in ("nv", "5"):
        data = read_run_data(shipped("ham10000_oecl", tmp_path, target=target))
        assert len(data.normal) == 3
        test = data.test
        assert test.is_normal.sum() == 1 and test.class_names[test.labels[test.is_normal][0]] == "NV"
    (tmp_path / "ham10000" / "HAM10000_images_part_1" / "ISIC_0.jpg").unlink()
    with pytest.raises(LayoutError, match="1 of 21 images are not below"):
        read_run_data(shipped("ham10000_oecl", tmp_path))


def test_named_sets_against_all_of_a_set(tmp_path, caplog):
    rng = np.random.default_rng(0)

    def images(count):
        return rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)

    labels = np.arange(20) % 4
    np.savez(tmp_path / "all.npz", x_train=images(20), y_train=labels, x_test=images(20), y_test=labels)
    exposed = images(6)
    np.save(tmp_path / "oe.npy", exposed)
    np.savez(tmp_path / "near.npz", x_test=np.concatenate([exposed[:1], images(4)]), y_test=np.zeros(5, int))
    for i in range(3):
        write_noise(tmp_path / "far" / f"{i}.png", i)
    config = shipped("cifar10_multimodal", tmp_path)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=str(tmp_path / "all.npz")),
        oe=dataclasses.replace(config.oe, source=str(tmp_path / "oe.npy"), split=""),
        evaluation=dataclasses.replace(
            config.evaluation, ood=(f"near@test={tmp_path}/near.npz", f"far={tmp_path}/far")
        ),
    )
    with caplog.at_level(logging.WARNING):
        data = read_run_data(config)
    assert len(data.normal) == 20 and data.test.is_normal.sum() == 20
    assert data.test.class_names == ("in distribution", "near", "far")
    assert np.bincount(data.test.labels).tolist() == [20, 5, 3]
    assert "1 of 6 OE images are also anomalous test images" in caplog.text
