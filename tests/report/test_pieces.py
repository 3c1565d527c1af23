import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.report.boxes import Box
from codegraph_jax.report.contact_sheet import CROP_SIDE, crop, trimmed
from codegraph_jax.report.heatmaps import Scale, overlay
from codegraph_jax.report.result_files import NAME_BYTES, output_path, relative_url

ANY_NAME = st.text(st.characters(blacklist_characters="\0/"), min_size=1, max_size=80)


@given(st.text(st.characters()))
def test_shown_text_is_one_line_of_valid_unicode(name):
    text = printable(name)
    assert len(text) == len(name)
    text.encode("utf-8")
    assert len(text.splitlines()) <= 1 and printable(text) == text


@given(st.text(), st.integers(3, 40))
def test_trimmed_text_fits_and_keeps_both_ends(text, length):
    short = trimmed(text, length)
    assert len(short) <= max(length, 1)
    assert short == text if len(text) <= length else (short[0], short[-1]) == (text[0], text[-1])


@example("\U00020000" * 80)
@given(ANY_NAME)
def test_file_stems_are_safe(text):
    stem = file_stem(text)
    assert stem and len(stem.encode("utf-8")) <= NAME_BYTES and "/" not in stem and stem[0] != "."


def test_different_names_get_different_stems():
    names = ["a b", "a_b", "a/b", "a\nb", "x" * 90, "x" * 91, "\udcff", "\udcfe", "\ud800"]
    assert len({file_stem(name) for name in names}) == len(names)


def test_shortened_long_names_stay_different(tmp_path):
    first, second = (output_path(tmp_path, "c", f"d/{'ä' * 124}{k}.png") for k in "12")
    assert first != second
    for path in (first, second):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_urls_keep_every_byte():
    assert relative_url("a b/c#d?e%.png") == "a%20b/c%23d%3Fe%25.png"
    assert relative_url("x:y\udcff") == "x%3Ay%FF"


def test_box_in_pixels_covers_the_box():
    assert Box(0.101, 0.5, 0.2, 1.0).pixels(100, 31) == [10, 15, 20, 31]


@pytest.mark.parametrize("size", [(100, 80), (30, 400), (400, 30), (1, 1)])
@pytest.mark.parametrize("box", [(0, 0, 0.1, 0.1), (0.9, 0.9, 1, 1), (0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5)])
def test_crops_are_squares_of_any_image(size, box):
    picture = crop(Image.new("RGB", size, (0, 90, 0)), [Box(*box)])
    assert picture.size == (CROP_SIDE, CROP_SIDE)
    assert (np.asarray(picture)[..., 1] == 90).any()


def test_an_overlay_does_not_change_normal_places():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    strength = np.zeros((20, 30), np.float32)
    strength[5, 7] = 1.0
    difference = np.abs(np.asarray(overlay(image, strength)).astype(int) - np.asarray(image)).sum(axis=-1)
    assert difference[5, 7] > 0 and (difference > 0).sum() == 1


def test_one_scale_for_the_run():
    scores = [np.full((2, 4, 4), 0.2, np.float32), np.full((1, 4, 4), 0.9, np.float32)]
    scale = Scale.of(scores)
    assert (scale.low, scale.high) == pytest.approx((0.2, 0.9))
    # if defects are less than a thousandth of all patches, the threshold sets the end of the scale
    small = [np.r_[np.full(9999, 0.2), 0.9].astype(np.float32)]
    assert Scale.of(small, [np.inf, 0.5, 0.7]).high == pytest.approx(0.5)
    assert Scale.of(scores, [0.5]).high == pytest.approx(0.9)
    np.testing.assert_allclose(Scale(0.2, 0.7).strength(np.float32([0.1, 0.45, 0.9])), [0, 0.5, 1], atol=1e-6)
