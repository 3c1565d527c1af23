import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from codegraph_jax.evaluation.metrics import image_metrics, mean_metrics, pixel_metrics


def reference(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = np.maximum(precision + recall, 1e-300)
    return {
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
        "f1_max": (2 * precision * recall / total).max(),
    }


def close(got, prefix, want):
    for name, value in want.items():
        assert got[f"{prefix}_{name}"] == pytest.approx(value, abs=1e-9, rel=0), name


@st.composite
def scored(draw, tied=True):
    """Labels of both classes and scores, mostly tied."""
    n = draw(st.integers(2, 60))
    labels = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: any(v) and not all(v)))
    grid = st.integers(-3, 3).map(lambda v: v / 3)
    free = st.floats(-1e6, 1e6, width=32)
    scores = draw(st.lists(grid if draw(st.booleans()) else free, min_size=n, max_size=n))
    return np.array(labels), np.array(scores, draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=300, deadline=None)
@given(scored())
def test_image_metrics_equal_scikit_learns_ties_included(data):
    labels, scores = data
    close(image_metrics(labels.astype(int), scores), "image", reference(labels, scores))


@settings(max_examples=100, deadline=None)
@given(scored())
def test_pixel_metrics_pool_all_pixels(data):
    labels, scores = data
    got = pixel_metrics(labels.reshape(1, 1, -1), scores.reshape(1, 1, -1))
    close(got, "pixel", reference(labels, scores))
    halves = (2, 1, len(labels) // 2)
    if labels[: 2 * halves[2]].any() and not labels[: 2 * halves[2]].all():
        labels, scores = labels[: 2 * halves[2]], scores[: 2 * halves[2]]
        close(pixel_metrics(labels.reshape(halves), scores.reshape(halves)), "pixel", reference(labels, scores))


def curve_by_definition(masks, maps, thresholds, strict):
    """(false-positive rate, mean overlap of the regions) at each threshold, straight from the definition."""
    points = []
    for threshold in thresholds:
        found = maps > threshold if strict else maps >= threshold
        overlaps = []
        for mask, hit in zip(masks, found, strict=True):
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            overlaps += [hit[regions == k].mean() for k in range(1, count + 1)]
        points.append((found[~masks].mean(), np.mean(overlaps)))
    return np.array(points).T


def standard_by_definition(masks, maps):
    rate, overlap = curve_by_definition(masks, maps, np.unique(maps)[::-1], strict=False)
    rate, overlap = np.r_[0, rate], np.r_[0, overlap]
    inside = rate <= 0.3
    end = np.interp(0.3, rate[inside.sum() - 1 :][:2], overlap[inside.sum() - 1 :][:2])
    return np.trapezoid(np.r_[overlap[inside], end], np.r_[rate[inside], 0.3]) / 0.3


def musc_by_definition(masks, maps):
    low, high = float(maps.min()), float(maps.max())
    thresholds = (low + (high - low) / 200 * np.arange(200)).astype(maps.dtype)
    rate, overlap = curve_by_definition(masks, maps, thresholds, strict=True)
    rate, overlap = rate[rate < 0.3], overlap[rate < 0.3]
    if len(rate) < 2 or np.ptp(rate) == 0:
        return None
    rate = (rate - rate.min()) / np.ptp(rate)
    return -np.trapezoid(overlap, rate)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 1000]), st.floats(0.05, 0.6))
def test_aupro_equals_its_definition(seed, levels, share):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 7, 6)) < share
    masks[0, 0, :2] = [True, False]
    maps = np.round((rng.random(masks.shape) + 0.4 * masks) * levels).astype(np.float32) / levels
    standard = pixel_metrics(masks, maps)["pixel_aupro"]
    assert standard == pytest.approx(standard_by_definition(masks, maps), abs=1e-9)
    musc = pixel_metrics(masks, maps, "musc")["pixel_aupro"]
    assert musc == pytest.approx(musc_by_definition(masks, maps), abs=1e-9)


def test_every_region_weighs_the_same_and_diagonal_neighbours_are_one_region():
    masks = np.zeros((1, 40, 40), bool)
    masks[0, 2, 2] = masks[0, 3, 3] = True
    masks[0, 20:35, 20:35] = True
    maps = np.where(masks, 0.0, 0.5).astype(np.float32)
    maps[0, 2:4, 2:4] = 1.0  # the small region is found with two false pixels, the large one never
    # one of the two regions, less the area before its two false pixels
    assert pixel_metrics(masks, maps)["pixel_aupro"] == pytest.approx(0.5, abs=0.005)


def test_perfect_useless_and_inverted_maps():
    rng = np.random.default_rng(0)
    masks = rng.random((4, 20, 20)) < 0.2
    assert set(pixel_metrics(masks, masks.astype(np.float32)).values()) == {1.0}
    constant = pixel_metrics(masks, np.zeros(masks.shape, np.float32))
    assert constant["pixel_auroc"] == 0.5 and constant["pixel_ap"] == pytest.approx(masks.mean())
    assert constant["pixel_aupro"] == pytest.approx(0.15)
    assert pixel_metrics(masks, np.zeros(masks.shape, np.float32), "musc")["pixel_aupro"] is None
    assert pixel_metrics(masks, -masks.astype(np.float32))["pixel_auroc"] == 0.0


@pytest.mark.parametrize("value", [False, True])
def test_with_one_class_every_metric_is_undefined(value):
    masks = np.full((2, 4, 4), value)
    maps = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    for aupro in ("standard", "musc"):
        assert set(pixel_metrics(masks, maps, aupro).values()) == {None}
    assert image_metrics([int(value)] * 3, np.arange(3.0)) == {
        "image_auroc": None,
        "image_ap": None,
        "image_f1_max": None,
    }
    assert image_metrics([], np.zeros(0))["image_auroc"] is None


@settings(max_examples=50, deadline=None)
@given(scored(), st.randoms(use_true_random=False))
def test_metrics_depend_on_neither_order_nor_scale(data, random):
    labels, scores = data
    order = list(range(len(labels)))
    random.shuffle(order)
    plain = image_metrics(labels.astype(int), scores)
    # powers of two keep ties and order exactly
    assert image_metrics(labels[order].astype(int), scores[order] * 4) == pytest.approx(plain, abs=1e-12)


def test_inputs_are_not_changed():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((2, 5, 5)) < 0.3, rng.random((2, 5, 5), np.float32)
    before = masks.copy(), maps.copy()
    pixel_metrics(masks, maps)
    np.testing.assert_array_equal(masks, before[0])
    np.testing.assert_array_equal(maps, before[1])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="score 1 is nan"):
        image_metrics([0, 1], np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="score 0 is inf"):
        image_metrics([0, 1], np.array([np.inf, 0.0]))
    with pytest.raises(ValueError, match="0 .normal. or 1"):
        image_metrics([0, 2], np.zeros(2))
    with pytest.raises(ValueError, match="0 .normal. or 1"):
        image_metrics([0, None], np.zeros(2))
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        image_metrics([0, 1, 1], np.zeros(2))
    masks, maps = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), np.float32)
    maps[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="map 1"):
        pixel_metrics(masks, maps)
    with pytest.raises(ValueError, match="mask 0 must be bool"):
        pixel_metrics(masks.astype(np.uint8), maps)
    maps[1, 0, 0] = 0
    with pytest.raises(ValueError, match="not match the 1 masks"):
        pixel_metrics(masks[:1], maps)
    with pytest.raises(ValueError, match="2 masks and 1 maps"):
        pixel_metrics(masks, maps[:1])
    with pytest.raises(ValueError, match=r"map 1 of shape \[3, 2\] does not match its mask \[3, 3\]"):
        pixel_metrics(masks, [maps[0], maps[1, :, :2]])
    with pytest.raises(ValueError, match="map 1 is float64, but the maps before it are float32"):
        pixel_metrics(masks, [maps[0], maps[1].astype(np.float64)])
    with pytest.raises(ValueError, match="standard or musc"):
        pixel_metrics(masks, maps, "other")


def test_means_leave_undefined_metrics_out():
    assert mean_metrics([{"a": 1.0, "b": None, "c": None}, {"a": 0.5, "b": 0.25, "c": None}]) == {
        "a": 0.75,
        "b": 0.25,
        "c": None,
    }
    assert mean_metrics([]) == {}


def test_a_million_pixels_equal_scikit_learn():
    rng = np.random.default_rng(0)
    masks = np.zeros((16, 256, 256), bool)
    for i in range(8):
        y, x = rng.integers(0, 200, 2)
        masks[i, y : y + 40, x : x + 30] = True
    maps = (rng.standard_normal(masks.shape) + masks).astype(np.float32)
    close(pixel_metrics(masks, maps), "pixel", reference(masks.ravel(), maps.ravel()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 1000]))
def test_images_of_several_sizes_are_pooled(seed, levels):
    rng = np.random.default_rng(seed)
    shapes = [(5, 9), (1, 1), (12, 4), (7, 7)]
    masks = [rng.random(shape) < 0.3 for shape in shapes]
    masks[0][0, :2] = [True, False]
    maps = [(np.round((rng.random(m.shape) + 0.4 * m) * levels) / levels).astype(np.float32) for m in masks]
    flat = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    got = pixel_metrics(masks, iter(maps))
    close(got, "pixel", reference(*flat))
    # AUPRO by its definition, over all thresholds
    thresholds = np.unique(flat[1])[::-1]
    rate, overlap = [0.0], [0.0]
    for threshold in thresholds:
        shares = []
        for mask, one in zip(masks, maps):
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            shares += [(one >= threshold)[regions == k].mean() for k in range(1, count + 1)]
        rate.append((flat[1] >= threshold)[~flat[0]].mean())
        overlap.append(np.mean(shares))
    rate, overlap = np.array(rate), np.array(overlap)
    inside = rate <= 0.3
    end = np.interp(0.3, rate[inside.sum() - 1 :][:2], overlap[inside.sum() - 1 :][:2])
    want = np.trapezoid(np.r_[overlap[inside], end], np.r_[rate[inside], 0.3]) / 0.3
    assert got["pixel_aupro"] == pytest.approx(want, abs=1e-9)


def test_maps_are_taken_one_at_a_time():
    rng = np.random.default_rng(0)
    masks, alive = [rng.random((64, 64)) < 0.1 for _ in range(20)], []

    def maps():
        for mask in masks:
            made = (rng.random(mask.shape) + mask).astype(np.float32)
            alive.append(weakref.ref(made))
            assert sum(one() is not None for one in alive) <= 2, "maps accumulate"
            yield made

    assert pixel_metrics(masks, maps())["pixel_auroc"] > 0.9
