"""Masks of all usual conventions are found by their names, distinguished from photos, and read."""

import logging
import unicodedata

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import MetricsConfig
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.list_files import safe_join
from codegraph_jax.data.masks import load_mask, looks_like_mask, masks_among, without_ending
from codegraph_jax.data.roi import Roi
from codegraph_jax.evaluation.evaluate import evaluate
from tests.support.made_results import made_result
from tests.support.photos import write_noise

SHAPE = np.zeros((40, 60), bool)
SHAPE[8:20, 10:30] = True


def result_of(samples):
    return made_result(np.arange(len(samples)) / len(samples), samples)


def as_mask(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def encodings():
    on = SHAPE.astype(np.uint8)
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    return {
        "0 and 255": on * 255,
        "0 and 1": on,
        "0 and 3": on * 3,
        "booleans": SHAPE,
        "16 bits": on.astype(np.uint16) * 1000,
        "red": np.stack([on * 200, on * 0, on * 0], axis=-1),
        "black, seen": np.dstack([black, on * 255]),
        "white, seen": np.dstack([white, on * 255]),
        "white on transparent black": np.dstack([np.where(SHAPE[..., None], white, black), on * 255]),
        "white on opaque black": np.dstack([np.where(SHAPE[..., None], white, black), white[..., 0]]),
        "grey and alpha": np.dstack([on * 0, on * 128]),
    }


@pytest.mark.parametrize("name", encodings())
def test_every_mask_convention_is_read(name, tmp_path):
    as_mask(tmp_path / "m.png", encodings()[name])
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", None), SHAPE)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", None, inverted=True), ~SHAPE)


@pytest.mark.parametrize("value", [1, 2, 40, 128, 255])
@pytest.mark.parametrize("quality", [60, 95])
def test_blurred_masks_are_read_by_half_of_their_greatest_value(value, quality, tmp_path):
    Image.fromarray(SHAPE.astype(np.uint8) * value).save(tmp_path / "m.jpg", quality=quality)
    found = load_mask(tmp_path / "m.jpg", None)
    if value > 2 or quality > 90:
        assert (found != SHAPE).mean() < 0.02
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "empty.jpg", quality=quality)
    assert not load_mask(tmp_path / "empty.jpg", None).any()


def test_empty_and_invisible_masks_are_empty(tmp_path):
    as_mask(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    as_mask(tmp_path / "b.png", np.zeros((8, 8, 4), np.uint8))
    as_mask(tmp_path / "c.png", np.dstack([np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8), np.uint8)]))
    for name in "abc":
        assert not load_mask(tmp_path / f"{name}.png", None).any()


@pytest.mark.parametrize(
    "stem,bare",
    [
        ("000_mask", "000"), ("000_GT", "000"), ("000_Mask", "000"), ("000-label", "000"), ("000.gt", "000"),
        ("000 mask", "000"), ("000_ground_truth", "000"), ("bad/000_masks", "bad/000"), ("000", "000"),
        ("mask", "mask"), ("bad/gt", "bad/gt"), ("insight", "insight"), ("target", "target"),
    ],
)  # fmt: skip
def test_endings_of_masks(stem, bare):
    assert without_ending(stem) == bare


@pytest.mark.parametrize("ending", ["_mask.png", "_GT.png", "_Mask.bmp", "-label.tif", ".png", "_gt.jpg"])
def test_masks_are_found_by_all_usual_names(ending, tmp_path):
    home = tmp_path / "part"
    write_noise(home / "test/good/000.png")
    write_noise(home / "test/cut/000.png", 1)
    as_mask(home / f"ground_truth/cut/000{ending}", SHAPE.astype(np.uint8) * 255)
    (samples,) = read_layout("mvtec", str(tmp_path)).values()
    assert {sample.name: sample.label for sample in samples} == {"good/000.png": 0, "cut/000.png": 1}
    (cut,) = [sample for sample in samples if sample.label]
    assert (load_mask(cut.mask, None) == SHAPE).mean() > 0.98


def test_masks_beside_photos_are_not_inspected(tmp_path, caplog):
    home = tmp_path / "part"
    for i in range(3):
        write_noise(home / f"test/good/{i}.png", i)
    write_noise(home / "test/cut/000.png", 9)
    as_mask(home / "test/cut/000_mask.png", SHAPE.astype(np.uint8))
    write_noise(home / "test/cut/000_label.jpg", 10)  # a photo of a label, by its content
    with caplog.at_level(logging.WARNING):
        (samples,) = read_layout("mvtec", str(tmp_path)).values()
    assert "1 files are masks of other files" in caplog.text
    assert [sample.name for sample in samples if sample.label] == ["cut/000.png", "cut/000_label.jpg"]
    assert samples[0].mask is not None
    (flat,) = read_layout("folder", str(home)).values()
    assert len(flat) == 5
    assert not any("mask" in sample.name for sample in flat)


def test_directories_of_masks_among_photos_are_not_inspected(tmp_path):
    write_noise(tmp_path / "set/images/7.png")
    write_noise(tmp_path / "set/images/8.png", 1)
    as_mask(tmp_path / "set/masks/7.png", SHAPE.astype(np.uint8) * 255)
    as_mask(tmp_path / "set/masks/9.png", SHAPE.astype(np.uint8) * 255)
    images = {path.relative_to(tmp_path).as_posix(): str(path) for path in tmp_path.rglob("*.png")}
    assert masks_among(images)[0] == {"set/masks/7.png": "set/images/7.png"}, "9.png has no photo and is inspected"


def test_of_several_photos_of_one_name_the_nearest_has_the_mask(tmp_path):
    for kind in ("a", "b", "c"):
        write_noise(tmp_path / f"test/{kind}/0.png", ord(kind))
    as_mask(tmp_path / "ground_truth/b/0_mask.png", SHAPE.astype(np.uint8))
    images = {path.relative_to(tmp_path).as_posix(): str(path) for path in tmp_path.rglob("*.png")}
    assert masks_among(images)[0] == {"ground_truth/b/0_mask.png": "test/b/0.png"}


def test_a_photo_does_not_look_like_a_mask(tmp_path):
    write_noise(tmp_path / "p.png")
    as_mask(tmp_path / "m.png", SHAPE)
    (tmp_path / "broken.png").write_bytes(b"x")
    assert [looks_like_mask(str(tmp_path / name)) for name in ("p.png", "m.png", "broken.png")] == [False, True, False]


@pytest.mark.parametrize(
    "values,message",
    [
        (~SHAPE, "set --config.metrics.defects_are_black=True"),
        (np.zeros_like(SHAPE), "2 of 2 masks of defective photos are empty"),
    ],
)
def test_masks_that_look_wrong_are_named(values, message, tmp_path, caplog):
    home = tmp_path / "part"
    for i in range(2):
        write_noise(home / f"test/good/{i}.png", i)
        write_noise(home / f"test/cut/{i}.png", i + 5)
        as_mask(home / f"ground_truth/cut/{i}_mask.png", values.astype(np.uint8) * 255)
    (samples,) = read_layout("mvtec", str(tmp_path)).values()
    with caplog.at_level(logging.WARNING):
        evaluate(result_of(samples))
    assert message in caplog.text
    if values.any():
        caplog.clear()
        evaluate(result_of(samples), MetricsConfig(defects_are_black=True))
        assert not caplog.text


def forms(name):
    """A name as Linux and Windows write it, and as macOS does."""
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("photo,mask", [forms("Prüfling"), forms("Prüfling")[::-1]])
def test_both_forms_of_a_name_are_one(photo, mask, tmp_path, caplog):
    home = tmp_path / "part"
    write_noise(home / f"test/good/{photo}.png")
    write_noise(home / f"test/{photo}/{photo}.png", 1)
    as_mask(home / f"ground_truth/{mask}/{mask}_mask.png", SHAPE.astype(np.uint8) * 255)
    with caplog.at_level(logging.WARNING):
        (samples,) = read_layout("mvtec", str(tmp_path)).values()
    assert not caplog.text and [s.mask is not None for s in samples if s.label] == [True]


@pytest.mark.parametrize("photo,mask", [forms("Prüfling"), forms("Prüfling")[::-1]])
def test_both_forms_of_a_name_are_one_beside_each_other_and_in_a_roi(photo, mask, tmp_path):
    for i in range(2):
        write_noise(tmp_path / f"set/{photo}_{i}.png", i)
    as_mask(tmp_path / f"set/{mask}_0_mask.png", SHAPE.astype(np.uint8))
    (samples,) = read_layout("folder", str(tmp_path / "set")).values()
    assert [sample.name for sample in samples] == [f"{photo}_0.png", f"{photo}_1.png"]
    assert samples[0].mask and not samples[1].mask
    for i in range(2):
        as_mask(tmp_path / f"roi/{mask}_{i}.png", SHAPE.astype(np.uint8))
    assert len(Roi.load(str(tmp_path / "roi")).areas_of([sample.name for sample in samples])) == 2


def test_both_forms_of_a_label_are_one(tmp_path):
    composed, split = forms("Gehäuse")
    write_noise(tmp_path / f"set/{split}/1.png")
    write_noise(tmp_path / "set/defekt/2.png", 1)
    (samples,) = read_layout("folder", str(tmp_path / "set"), good=(composed,)).values()
    assert {sample.label for sample in samples if sample.name.endswith("1.png")} == {0}
    write_noise(tmp_path / f"boxes/{split}/test/good/1.png")
    assert list(read_layout("mvtec", str(tmp_path / "boxes"), (composed,))) == [split]
    assert safe_join(tmp_path / "set", f"{composed}/1.png", "list") == tmp_path / "set" / split / "1.png"


def colours(i):
    """A mask with a colour for each class, and one with a value for each object."""
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[4:20, 4:30], mask[22:30, 10 + i : 50] = (128, 0, 0), (0, 128, 0)
    return mask


@pytest.mark.parametrize(
    "photos,masks,drawings",
    [
        ("JPEGImages", ["SegmentationClass", "SegmentationObject"], []),
        ("JPEGImages", ["SegmentationClassPNG"], ["SegmentationClassVisualization"]),
        ("img", ["masks_machine"], ["masks_human"]),
        ("images", ["labels"], []),
        ("rohbilder", ["ergebnis von hand"], []),
        ("", ["ebenen"], ["Visualization"]),
    ],
)
def test_exports_of_annotation_tools_have_photos_and_masks(photos, masks, drawings, tmp_path, caplog):
    for i in range(6):
        write_noise(tmp_path / photos / f"{i}.png", i)
        for kind in masks if i < 3 else ():
            as_mask(tmp_path / kind / f"{i}.png", colours(i))
        for kind in drawings if i < 3 else ():
            write_noise(tmp_path / kind / f"{i}.png", i + 40)
    with caplog.at_level(logging.WARNING):
        (samples,) = read_layout("folder", str(tmp_path)).values()
    assert [sample.name.rpartition("/")[0] for sample in samples] == [photos] * 6
    assert [sample.mask is not None for sample in samples] == [True] * 3 + [False] * 3
    if "SegmentationClass" in masks:
        assert "SegmentationClass/" in str(samples[0].mask), "classes before objects"
    assert ("drawn on them by an annotation tool" in caplog.text) == bool(drawings)


def test_files_of_labelme(tmp_path):
    for i in range(2):
        write_noise(tmp_path / f"{i}_json/img.png", i)
        write_noise(tmp_path / f"{i}_json/label_viz.png", i + 9)
        as_mask(tmp_path / f"{i}_json/label.png", colours(i))
    (samples,) = read_layout("folder", str(tmp_path)).values()
    assert [sample.name for sample in samples] == ["0_json/img.png", "1_json/img.png"]
    assert all(sample.mask and sample.mask.endswith("label.png") for sample in samples)


def test_photos_of_equal_names_stay_photos(tmp_path):
    """Also those in black and white, and a blank one among others."""
    for i in range(4):
        for kind in ("good", "bad"):
            write_noise(tmp_path / f"grey/{kind}/{i}.png", i)
            as_mask(tmp_path / f"scans/{kind}/{i}.png", np.random.default_rng(i).integers(0, 2, (40, 60)) == 1)
    as_mask(tmp_path / "grey/bad/0.png", np.full((40, 60), 255, np.uint8))
    for root in ("grey", "scans"):
        (samples,) = read_layout("folder", str(tmp_path / root)).values()
        assert len(samples) == 8
