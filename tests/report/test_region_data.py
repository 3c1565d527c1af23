"""Regions as data: exact geometry, the published schemas, and COCO files as read by its library."""

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Path2D
from PIL import Image
from pycocotools.coco import COCO

from codegraph_jax.config import Config, DataConfig, DrawConfig, ReportConfig, ThresholdConfig
from codegraph_jax.core.progress import Clock
from codegraph_jax.report.region_data import coco, describe_regions, outline, region_rows, run_lengths
from codegraph_jax.report.results import write_results
from codegraph_jax.scoring.regions import rectangle_sides
from codegraph_jax.tasks import detect as detect_task
from tests.report.outcomes import make_outcome
from tests.support import ROOT
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

SCHEMAS = sorted((ROOT / "docs" / "schemas").glob("*.schema.json"))
NOTHING = np.zeros((0, 0), int)
NAMES = [f"{i:02d}.png" for i in range(12)]
MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    return make_outcome(tmp_path_factory.mktemp("photos"), NAMES).result.calibration


def described(mask, calibration, scores=None, pattern_numbers=NOTHING):
    return describe_regions(mask, np.where(mask, 1.0, 0.0) if scores is None else scores, calibration, pattern_numbers)


def test_box_area_and_group_of_a_rectangle(calibration):
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    scores = np.where(mask, 0.5, 0.1)
    scores[12, 33] = 0.9
    pattern_numbers = np.zeros((4, 6), int)
    pattern_numbers[1, 3:5] = 2
    (region,) = described(mask, calibration, scores, pattern_numbers)
    assert (region.box, region.area, region.pattern) == ((30, 10, 50, 20), 200, 2)
    assert region.share == pytest.approx(200 / 2400)
    assert region.peak_score == pytest.approx(0.9)
    assert region.mean_score == pytest.approx(0.502)
    assert (region.length, region.width) == pytest.approx((20, 10))
    assert region.run_lengths is None
    (ring,) = region.polygon
    assert len(ring) == 8, "four corners, each cut by half a pixel, and nothing along straight edges"
    assert {(x, y) for x, y in ring} == {
        (30.5, 10.0), (49.5, 10.0), (50.0, 10.5), (50.0, 19.5), (49.5, 20.0), (30.5, 20.0), (30.0, 19.5), (30.0, 10.5)
    }  # fmt: skip


def test_regions_come_by_their_peaks_and_a_rarer_peak_has_a_smaller_p_value(calibration):
    mask = np.zeros((30, 30), bool)
    mask[2:6, 2:6] = mask[20:25, 20:25] = True
    scores = np.where(mask, 0.3, 0.0)
    scores[21, 21] = 1.5
    first, second = described(mask, calibration, scores)
    assert first.box == (20, 20, 25, 25)
    assert first.peak_score > second.peak_score and first.p_value < second.p_value


def test_squares_that_touch_at_a_corner_are_one_region_of_two_rings(calibration):
    mask = np.zeros((12, 12), bool)
    mask[2:5, 2:5] = mask[5:8, 5:8] = True
    (region,) = described(mask, calibration)
    assert region.area == 18


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 130])
def test_length_and_width_follow_a_region_that_lies_askew(degrees):
    rows, columns = np.mgrid[:200, :200] - 100
    turn = np.radians(degrees)
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    length, width = rectangle_sides((np.abs(along) < 60) & (np.abs(across) < 8))
    assert length == pytest.approx(120, abs=3) and width == pytest.approx(16, abs=3)


@settings(max_examples=60, deadline=None)
@given(MASKS.filter(np.any))
def test_the_smallest_rectangle_is_no_larger_than_the_box(mask):
    length, width = rectangle_sides(mask)
    box = mask.any(axis=0).nonzero()[0], mask.any(axis=1).nonzero()[0]
    height, breadth = (int(np.ptp(places)) + 1 for places in box)
    assert 1 - 1e-9 <= width <= length and mask.sum() <= width * length * (1 + 1e-9)
    assert width * length <= height * breadth * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_an_outline_encloses_the_pixels_of_its_mask(mask):
    rings, holes = outline(mask)
    centres = np.stack(np.meshgrid(np.arange(mask.shape[1]), np.arange(mask.shape[0])), axis=-1).reshape(-1, 2) + 0.5
    enclosed = np.any([Path2D(ring).contains_points(centres) for ring in rings] or [np.zeros(mask.size, bool)], axis=0)
    assert (enclosed | ~mask.ravel()).all()
    if not holes:
        np.testing.assert_array_equal(enclosed.reshape(mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_run_lengths_are_the_mask(mask):
    lengths = run_lengths(mask)
    values = np.concatenate([np.full(length, i % 2 == 1) for i, length in enumerate(lengths)])
    np.testing.assert_array_equal(values.reshape(mask.shape, order="F"), mask)
    assert all(lengths[1:]), "runs alternate, and none but the first is empty"


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(bool, (9, 11)))
def test_every_pixel_belongs_to_one_region(calibration, mask):
    regions = described(mask, calibration)
    assert sum(region.area for region in regions) == mask.sum()
    for region in regions:
        left, top, right, bottom = region.box
        assert mask[top:bottom, left:right].any(axis=1).all() and mask[top:bottom, left:right].any(axis=0).all()


def test_coco_is_read_by_its_own_library_pixel_for_pixel(tmp_path, calibration):
    mask = np.zeros((60, 80), bool)
    mask[10:30, 10:40] = True
    mask[15:20, 20:30] = False  # a hole, like the clean middle of a stain
    mask[40:55, 50:70] = True
    listed = [("a.png", (80, 60), described(mask, calibration)), ("b.png", (8, 6), [])]
    (tmp_path / "coco.json").write_text(json.dumps(coco(listed)))
    read = COCO(str(tmp_path / "coco.json"))
    annotations = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert [image["file_name"] for image in read.loadImgs(read.getImgIds())] == ["a.png", "b.png"]
    assert len(annotations) == 2 and not read.getAnnIds(imgIds=[2])
    found = np.zeros((60, 80), bool)
    for annotation in annotations:
        decoded = read.annToMask(annotation).astype(bool)
        assert abs(int(decoded.sum()) - annotation["area"]) <= 4
        found |= decoded
    assert (found != mask).sum() <= 4, "corners are cut by half a pixel"
    assert not found[16:19, 21:29].any(), "the hole stays a hole"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    home = tmp_path_factory.mktemp("run")
    outcomes = [make_outcome(home / "photos" / name, NAMES, name, labelled=True) for name in ("drawn", "second")]
    write_results(home / "out", Config(report=ReportConfig(("heatmaps", "masks", "maps", "coco"))), outcomes, Clock())
    return home / "out"


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run on a drawn set, half of which is flagged."""
    config = Config(
        data=DataConfig(layout="drawn", draw=DrawConfig(image_count=10, size=84, recurring=(0.4,))),
        backbone=random_backbone(image_size=84, blocks=(1,)),
        threshold=ThresholdConfig("share:50%"),
    )
    home = tmp_path_factory.mktemp("job")
    detect_task.run(config, str(home))
    return home


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.name)
def test_files_of_every_run_satisfy_the_published_schemas(schema, workdir, whole_run):
    rules = json.loads(schema.read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    name = schema.name.replace(".schema", "")
    # the metrics of the fake outcomes do not follow the schema
    for home in (whole_run,) if name == "metrics.json" else (workdir, whole_run):
        content = json.loads((home / name).read_text())
        assert content
        jsonschema.validate(content, rules)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"path": 3}] if isinstance(content, list) else {"drawn": 3, "mean": 3}, rules)


def test_there_is_a_schema_for_each_file_that_programs_read():
    assert {path.name for path in SCHEMAS} == {
        f"{name}.schema.json" for name in ("scores", "regions", "groups", "metrics")
    }


def test_the_table_equals_the_json(workdir):
    entries = json.loads((workdir / "regions.json").read_text())
    rows = list(csv.DictReader((workdir / "regions.csv").open()))
    assert len(rows) == len(entries) > 0
    for row, entry in zip(rows, entries):
        assert (row["path"], int(row["region"]), int(row["area"])) == (entry["path"], entry["region"], entry["area"])
        assert [int(row[edge]) for edge in ("left", "top", "right", "bottom")] == entry["box"]


def test_regions_are_those_of_the_masks(workdir):
    for entry in json.loads((workdir / "regions.json").read_text()):
        name = Path(entry["path"]).name
        mask = np.asarray(Image.open(next((workdir / "masks" / entry["category"]).rglob(f"{name}.png")))) > 0
        left, top, right, bottom = entry["box"]
        assert (entry["width"], entry["height"]) == mask.shape[::-1]
        assert mask[top:bottom, left:right].sum() >= entry["area"]


def test_sizes_in_millimetres_where_a_pixel_is_known(calibration):
    mask = np.zeros((60, 80), bool)
    mask[10:14, 20:50] = True
    regions = describe_regions(mask, mask.astype(np.float32), calibration, np.zeros((0, 0), int))
    (row,) = region_rows("a.png", "", (80, 60), regions, mm_per_pixel=0.05)
    assert (row["region_length_mm"], row["region_width_mm"], row["area_mm2"]) == (1.5, 0.2, 0.3)
    (row,) = region_rows("a.png", "", (80, 60), regions)
    assert (row["region_length"], row["region_length_mm"], row["area_mm2"]) == (30, None, None)
