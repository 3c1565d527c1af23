"""Masks as people have them: found by many names, told from photographs, and read whatever way they mark."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import MetricsConfig
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.masks import load_mask, looks_like_mask, masks_among, without_ending
from codegraph_jax.evaluation.evaluate import evaluate

SHAPE = np.zeros((40, 60), bool)
SHAPE[8:20, 10:30] = True


def result_of(n):
    """As much of a result as metrics read."""
    return SimpleNamespace(scores=np.arange(n) / n, map_size=(16, 16), maps=lambda images, size: np.zeros((1, *size)))


def photograph(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)).save(path)


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
def test_every_way_to_mark_is_read(name, tmp_path):
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
    photograph(home / "test/good/000.png")
    photograph(home / "test/cut/000.png", 1)
    as_mask(home / f"ground_truth/cut/000{ending}", SHAPE.astype(np.uint8) * 255)
    (samples,) = read_layout("mvtec", str(tmp_path)).values()
    assert {sample.name: sample.label for sample in samples} == {"good/000.png": 0, "cut/000.png": 1}
    (cut,) = [sample for sample in samples if sample.label]
    assert (load_mask(cut.mask, None) == SHAPE).mean() > 0.98


def test_masks_beside_photographs_are_not_judged(tmp_path, caplog):
    home = tmp_path / "part"
    for i in range(3):
        photograph(home / f"test/good/{i}.png", i)
    photograph(home / "test/cut/000.png", 9)
    as_mask(home / "test/cut/000_mask.png", SHAPE.astype(np.uint8))
    photograph(home / "test/cut/000_label.jpg", 10)  # a photograph of a label, by its look
    with caplog.at_level(logging.WARNING):
        (samples,) = read_layout("mvtec", str(tmp_path)).values()
    assert "1 files are masks of others" in caplog.text
    assert [sample.name for sample in samples if sample.label] == ["cut/000.png", "cut/000_label.jpg"]
    assert samples[0].mask is not None
    (flat,) = read_layout("folder", str(home)).values()
    assert len(flat) == 5
    assert not any("mask" in sample.name for sample in flat)


def test_directories_of_masks_among_photographs_are_not_judged(tmp_path):
    photograph(tmp_path / "set/images/7.png")
    photograph(tmp_path / "set/images/8.png", 1)
    as_mask(tmp_path / "set/masks/7.png", SHAPE.astype(np.uint8) * 255)
    as_mask(tmp_path / "set/masks/9.png", SHAPE.astype(np.uint8) * 255)
    images = {path.relative_to(tmp_path).as_posix(): str(path) for path in tmp_path.rglob("*.png")}
    assert masks_among(images) == {"set/masks/7.png": "set/images/7.png"}, "9.png has no photograph, and stays"


def test_of_several_photographs_of_one_name_the_nearest_has_the_mask(tmp_path):
    for kind in ("a", "b", "c"):
        photograph(tmp_path / f"test/{kind}/0.png", ord(kind))
    as_mask(tmp_path / "ground_truth/b/0_mask.png", SHAPE.astype(np.uint8))
    images = {path.relative_to(tmp_path).as_posix(): str(path) for path in tmp_path.rglob("*.png")}
    assert masks_among(images) == {"ground_truth/b/0_mask.png": "test/b/0.png"}


def test_a_photograph_does_not_look_like_a_mask(tmp_path):
    photograph(tmp_path / "p.png")
    as_mask(tmp_path / "m.png", SHAPE)
    (tmp_path / "broken.png").write_bytes(b"x")
    assert [looks_like_mask(str(tmp_path / name)) for name in ("p.png", "m.png", "broken.png")] == [False, True, False]


@pytest.mark.parametrize(
    "values,message",
    [
        (~SHAPE, "set --config.metrics.inverted=True"),
        (np.zeros_like(SHAPE), "2 of 2 masks of anomalous images are empty"),
    ],
)
def test_masks_that_look_wrong_are_named(values, message, tmp_path, caplog):
    home = tmp_path / "part"
    for i in range(2):
        photograph(home / f"test/good/{i}.png", i)
        photograph(home / f"test/cut/{i}.png", i + 5)
        as_mask(home / f"ground_truth/cut/{i}_mask.png", values.astype(np.uint8) * 255)
    (samples,) = read_layout("mvtec", str(tmp_path)).values()
    with caplog.at_level(logging.WARNING):
        evaluate(result_of(4), samples, MetricsConfig())
    assert message in caplog.text
    if values.any():
        caplog.clear()
        evaluate(result_of(4), samples, MetricsConfig(inverted=True))
        assert not caplog.text
