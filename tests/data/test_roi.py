"""The inspected area: read from images, directories and polygons, and converted to patches."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import Roi, everything, inspected_patches, shared_area
from codegraph_jax.tasks.sets import print_excluded

LEFT = np.zeros((40, 60), np.uint8)
LEFT[:, :30] = 255


def saved(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return str(path)


def patches(roi, sizes=((60, 40),), names=None, frame=None):
    frame = frame or Frame("squeeze", (4, 6), 14)
    placement = Placement.whole(frame, np.array(sizes))
    names = names or [f"{i}.png" for i in range(len(sizes))]
    return inspected_patches(placement, roi.areas_of(names), names).reshape(-1, *frame.grid)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_black_is_not_inspected(tmp_path, suffix):
    roi = Roi.load(saved(tmp_path / f"roi.{suffix}", LEFT))
    got = patches(roi, ((60, 40), (600, 400), (30, 90)))
    assert got[..., :3].all() and not got[..., 3:].any(), "stretched over photos of any size"


def test_a_patch_counts_from_half():
    pixels = np.zeros((40, 60), bool)
    pixels[:, :25] = True
    assert patches(Roi.of(pixels))[0].all(axis=0).tolist() == [True, True, True, False, False, False]
    pixels[:, 24:] = False
    assert patches(Roi.of(pixels))[0].all(axis=0).tolist() == [True, True, False, False, False, False]


def test_only_the_photo_counts_where_a_grid_has_a_border():
    frame = Frame.of("pad", [(60, 40), (40, 60)], 84, 14, 0)
    got = patches(Roi.of(np.ones((2, 2))), ((60, 40), (40, 60)), frame=frame)
    np.testing.assert_array_equal(got.reshape(2, -1), frame.covered([frame.rect(60, 40), frame.rect(40, 60)]))


def test_polygons_are_pixels_of_the_upright_photo(tmp_path):
    ring = [[0, 0], [30, 0], [30, 40], [0, 40]]
    path = tmp_path / "roi.json"
    path.write_text(json.dumps({"polygons": [ring]}))
    np.testing.assert_array_equal(Roi.load(str(path)).areas_of(["a.png"])[0](60, 40), LEFT > 0)
    path.write_text(json.dumps({"polygons": [ring], "size": [60, 40]}))
    got = Roi.load(str(path)).areas_of(["a.png"])[0](600, 400)
    assert got[:, :300].all() and not got[:, 300:].any(), "stretched from the stated size"
    path.write_text(json.dumps({"excluded": [[[30, 0], [60, 0], [60, 40], [30, 40]]], "size": [60, 40]}))
    np.testing.assert_array_equal(Roi.load(str(path)).areas_of(["a.png"])[0](60, 40), LEFT > 0)
    path.write_text(json.dumps({"polygons": [ring], "excluded": [[[0, 0], [60, 0], [60, 20], [0, 20]]]}))
    got = Roi.load(str(path)).areas_of(["a.png"])[0](60, 40)
    assert got[20:, :30].all() and got.sum() == 20 * 30
    path.write_text(
        json.dumps({"x/a.png": {"polygons": [ring, [[50, 0], [60, 0], [60, 40]]]}, "b.png": {"polygons": [ring]}})
    )
    both = Roi.load(str(path)).areas_of(["x/a.jpg", "test/b.png"])
    assert both[0](60, 40)[1, 58] and not both[1](60, 40)[1, 58]


def test_a_directory_holds_one_for_each(tmp_path):
    saved(tmp_path / "rois" / "good" / "a_mask.png", LEFT)
    saved(tmp_path / "rois" / "b.png", 255 - LEFT)
    roi = Roi.load(str(tmp_path / "rois"))
    got = patches(roi, ((60, 40), (60, 40)), ["test/good/a.jpg", "test/good/b.jpg"])
    assert got[0][:, :3].all() and not got[0][:, 3:].any()
    np.testing.assert_array_equal(got[1], ~got[0])
    with pytest.raises(ConfigError, match=r"data\.roi: .* has no area for 1 of 2 photos; the first: 'c\.jpg'"):
        roi.areas_of(["good/a.jpg", "c.jpg"])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"polygons": []}', '{"excluded": []}',
     '{"polygons": [[[0, 0], [1, 1]]]}', '{"polygons": 3}', "[" * 100_000,
     '{"polygons": [[[0, 0], [1, 1], [NaN, 2]]]}', '{"polygons": [[[0, 0], [1, 1], [2, "x"]]]}', '{"a.png": []}',
     '{"polygons": [[[0, 0], [1, 1], [1, 2]]], "size": [0, 3]}', '{"polygon": [[[0, 0], [1, 1], [1, 2]]]}',
     '{"polygons": [[[0, 0], [1, 1], [1, 2]]], "exclude": []}'],
)  # fmt: skip
def test_other_json_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "roi.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"^config\.data\.roi: .*not a file of polygons") as caught:
        Roi.load(str(path))
    assert "\n" not in str(caught.value)


def test_areas_that_are_empty_or_unreadable_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")
    black = saved(tmp_path / "black.png", np.zeros((4, 4), np.uint8))
    for place, complaint in (
        (tmp_path / "empty", "contains no images"),
        (tmp_path / "absent.png", "does not exist"),
        (tmp_path / "broken.png", "broken.png"),
        (black, "is all black"),
    ):
        with pytest.raises(ConfigError, match=rf"config\.data\.roi: .*{complaint}"):
            Roi.load(str(place))


def test_a_shared_area_is_kept_for_later_photos():
    placement = Placement.whole(Frame("squeeze", (4, 6), 14), np.array([[6000, 4000], [60, 40]]))
    kept = shared_area(Roi.of(LEFT).areas_of(["a", "b"]), placement)
    assert kept is not None and max(kept.shape) <= 2048
    np.testing.assert_array_equal(patches(Roi.of(kept)), patches(Roi.of(LEFT)))
    assert shared_area([everything] * 2, placement) is None
    assert shared_area([Roi.of(LEFT).areas_of(["a"])[0], Roi.of(LEFT).areas_of(["a"])[0]], placement) is None


def test_the_identity_follows_the_content(tmp_path):
    path = saved(tmp_path / "roi.png", LEFT)
    first = Roi.load(path).identity
    saved(tmp_path / "roi.png", 255 - LEFT)
    assert Roi.load(path).identity != first
    saved(tmp_path / "rois" / "a.png", LEFT)
    before = Roi.load(str(tmp_path / "rois")).identity
    saved(tmp_path / "rois" / "b.png", LEFT)
    assert Roi.load(str(tmp_path / "rois")).identity != before


@pytest.mark.parametrize("black,excluded", [(0, 0.5), (1, 0)])
def test_excluded_share_is_printed_and_none_is_a_warning(black, excluded, tmp_path, capsys, caplog):
    place = saved(tmp_path / "roi.png", np.where(LEFT, 255, black).astype(np.uint8))
    placement = Placement.whole(Frame("squeeze", (4, 6), 14), np.array([(60, 40)]))
    with caplog.at_level(logging.WARNING):
        print_excluded(
            "parts", place, placement.within(inspected_patches(placement, Roi.load(place).areas_of(["a"]), "a"))
        )
    if excluded:
        assert capsys.readouterr().out == f"parts: {place}: 50.0% of the photos' area is not inspected\n"
    else:
        assert "has no black area, so the whole photo is inspected; only 0 is excluded" in caplog.text
