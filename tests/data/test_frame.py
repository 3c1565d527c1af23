"""Grids of patches for photos: one frame for a set, whole patches, and no part of a photo left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codegraph_jax.data.frame import MAX_TILED_SIDE, Frame
from codegraph_jax.data.frame_choice import choose_frame
from codegraph_jax.data.placement import Placement

SIDES = st.integers(1, 5000)
SIZES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=8)
ZERO, ONE = (0.0,) * 3, (1.0,) * 3


def frame(fit, sizes, image_size=112, scale=None):
    return Frame.of(fit, sizes, image_size, 14, scale)


@given(st.sampled_from(["squeeze", "pad", "tile"]), SIZES, SIDES, SIDES)
def test_every_photo_lies_within_the_grid(fit, sizes, width, height):
    made = frame(fit, sizes)
    for size in (*sizes, (width, height)):
        rect = made.rect(*size)
        assert rect.height >= 1 <= rect.width
        assert 0 <= rect.top <= made.grid[0] - rect.height
        assert 0 <= rect.left <= made.grid[1] - rect.width
    assert Frame.from_json(made.as_json()) == made


@given(st.sampled_from(["pad", "tile"]), SIZES, st.integers(0, 10**6))
def test_one_grid_for_the_set_in_any_order(fit, sizes, seed):
    made, order = frame(fit, sizes), np.random.default_rng(seed).permutation(len(sizes))
    assert frame(fit, [sizes[i] for i in order]) == made
    rects = [made.rect(*size) for size in sizes]
    assert max(c.height for c in rects) == made.grid[0] and max(c.width for c in rects) == made.grid[1]
    for (width, height), rect in zip(sizes, rects):
        # the aspect is kept up to half a patch, but no side is empty
        assert max(rect.height, rect.width) == made.longest_patches
        long, short = max(width, height), min(width, height)
        exact = made.longest_patches * short / long
        assert abs(exact - min(rect.height, rect.width)) <= max(0.5, 1 - exact)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.floats(0, 0.75))
def test_tiles_cover_everything_are_alike_and_overlap(rows, columns, side, overlap):
    shared = min(round(overlap * side), side - 1)
    tiles = Frame("tile", (rows, columns), 14, max(rows, columns), side, shared).tiles()
    seen = np.zeros((rows, columns), int)
    for tile in tiles:
        assert seen[tile].shape == (min(side, rows), min(side, columns))
        seen[tile] += 1
    assert seen.min() >= 1
    for axis, cells in ((0, rows), (1, columns)):
        starts = sorted({tile[axis].start for tile in tiles})
        assert all(b - a <= side - shared for a, b in zip(starts, starts[1:])), "neighbours overlap enough"
        # with as few tiles as possible
        assert len(starts) == 1 or (len(starts) - 1) * (side - shared) + shared < cells + side - shared


def test_the_scale_of_tiles():
    assert frame("tile", [(4000, 3000)]).longest_patches == MAX_TILED_SIDE // 14
    assert frame("tile", [(1600, 400)]).grid == (28, 114)
    assert frame("tile", [(4000, 3000)], scale=0.5).grid == (107, 143)
    # of photos of several sizes, all get the longer side of the median one
    assert frame("tile", [(4000, 3000), (400, 300), (800, 600)]).longest_patches == 57


def test_a_placed_photo_keeps_its_aspect_and_the_border_is_the_mean_colour():
    made = frame("pad", [(400, 100), (50, 200)])
    assert made.grid == (16, 16), "as many patches as in the square: 4 x 16 instead of 8 x 8"
    white = Image.new("RGB", (400, 100), (255, 255, 255))
    placed = made.preprocess(white, "bilinear", (0.25,) * 3, (0.5,) * 3)
    assert placed.shape == (224, 224, 3) and placed.dtype == np.float32
    np.testing.assert_allclose(placed[84:140], 1.5, rtol=1e-6)
    assert not placed[:84].any() and not placed[140:].any()
    covered = made.covered([made.rect(400, 100)]).reshape(16, 16)
    assert covered[6:10].all() and covered.sum() == 64


def test_square_photos_are_placed_like_squeezed_ones():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    want = Frame.squeezed(112, 14).preprocess(image, "bicubic", ZERO, ONE)
    for fit in ("pad", "tile"):
        made = frame(fit, [(90, 90)], scale=112 / 90)
        np.testing.assert_array_equal(made.preprocess(image, "bicubic", ZERO, ONE), want)


@pytest.mark.parametrize(
    "values",
    [
        {"grid": [0, 3]},
        {"fit": "crop"},
        {"overlap": 8},
        {"tile": -1},
        {"patch_size": 0},
        {"grid": [1]},
        {"longest_patches": None},
    ],
)
def test_frames_with_invalid_values_are_refused(values):
    good = Frame("tile", (9, 9), 14, 9, 8, 2).as_json()
    with pytest.raises((ValueError, TypeError)):
        Frame.from_json({**good, **values})


def test_joined_placements_have_the_inspected_patches_of_both():
    made = frame("pad", [(400, 100), (400, 400), (400, 400), (100, 400)])
    parts = [Placement.whole(made, np.array([[400, 100]])), Placement.whole(made, np.array([[400, 400]]))]
    joined = Placement.joined(parts)
    assert joined.inspected.sum(axis=1).tolist() == [16, 64]
    scores = np.arange(128, dtype=np.float32).reshape(2, 8, 8)
    assert len(joined.inspected_scores(scores)) == 80
    assert joined.select([1]).inspected.all()


@pytest.mark.parametrize(
    "sizes,fit",
    [([(900, 900)], "squeeze"), ([(1000, 900)] * 3, "squeeze"), ([(1600, 400)], "tile"), ([(800, 400)], "pad"),
     ([(1000, 600)], "pad"), ([(1000, 750)], "squeeze"), ([(4000, 3000)], "tile"),
     ([(900, 900)] * 5 + [(900, 100)], "squeeze"), ([], "squeeze")],
)  # fmt: skip
def test_auto_follows_the_sizes(sizes, fit):
    chosen, reason = choose_frame(sizes, 518, 14, 0.0, lambda frame: True)
    assert chosen == frame(fit, sizes, 518) and bool(reason) == (fit != "squeeze")


def test_auto_chooses_a_smaller_scale_if_tiles_would_take_too_long():
    def choose(most, sizes=((4000, 3000),), scale=None):
        return choose_frame(sizes, 518, 14, scale, lambda frame: frame.grid[0] * frame.grid[1] <= most)

    smaller, _ = choose(6000)
    assert smaller.fit == "tile" and 4000 < smaller.grid[0] * smaller.grid[1] <= 6000
    none, reason = choose(100)
    assert none.fit == "squeeze" and "--fit tile" in reason
    assert choose(10**9, ((800, 400),))[0].fit == "pad" and choose(100, ((800, 400),))[0].fit == "squeeze"
    assert choose(10**9, scale=0.25)[0].longest_patches == 71, "a given scale is kept"
    assert choose(3000, scale=0.5)[0].fit == "squeeze", "or the frame is not tiled"
