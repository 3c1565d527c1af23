"""Folders with damaged and hostile files, and the smallest possible sets, through main.py and whole runs."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.config import Config, DataConfig, ParallelConfig
from codegraph_jax.data.blank_photos import NothingToCompareError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import TooFewImagesError
from codegraph_jax.tasks import detect as detect_task
from tests.support.photos import raw_png, write_image
from tests.support.processes import run_python
from tests.support.tiny_backbones import tiny_backbone

PARTS = draw_set(count=8, size=64, seed=0, one_off=0.2, recurring=(0.25,)).images

NAMES = (
    "plain.png",
    "with spaces  .png",
    'it\'s "quoted" & $(touch x) `y`.png',
    "two\nlines.png",
    "<img src=x onerror=alert(1)>.png",
    "</script><script>alert(1)<!--.png",
    "{{ 7 * 7 }}.png",
    "a\\..\\..\\up.png",
    "-rf.png",
    "%2e%2e%2f.png",
    "x" * 240 + ".png",
    "\u202egnp.exe.png",
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    # a copy, since Pillow leaves the options of one format in the image for the next
    image.copy().save(data, kind, **options)
    return data.getvalue()


def hostile_folder(root: Path) -> tuple[int, int]:
    """Fills `root`; returns how many of its images can be read, and how many cannot."""
    root.mkdir()
    photo = [Image.fromarray(pixels) for pixels in PARTS]
    readable = {name: encoded(photo[i % 8], "PNG") for i, name in enumerate(NAMES)}
    grey = np.asarray(photo[0].convert("L"))
    readable |= {
        "twin of plain.png": readable["plain.png"],
        "cmyk.jpg": encoded(photo[1].convert("CMYK"), "JPEG"),
        "deep.png": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "float.tif": encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "nan.tif": encoded(Image.fromarray(np.where(grey > 90, np.nan, grey).astype(np.float32)), "TIFF"),
        "moving.webp": encoded(photo[2], "WEBP", save_all=True, append_images=[photo[3].copy()]),
        "pages.tiff": encoded(photo[3], "TIFF", save_all=True, append_images=[photo[4].copy()]),
        "misnamed.bmp": encoded(photo[4], "JPEG"),
        "clear.png": encoded(photo[5].convert("RGBA"), "PNG"),
        "one pixel.png": encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"),
        "wide.png": encoded(Image.new("RGB", (6000, 1), (9, 90, 9)), "PNG"),
        "tall.png": encoded(Image.new("L", (1, 6000), 70), "PNG"),
        "black.png": encoded(Image.new("RGB", (64, 64)), "PNG"),
    }
    broken = {
        "empty.png": b"",
        "cut.png": readable["plain.png"][:200],
        "cut.jpg": readable["cmyk.jpg"][:400],
        "text.png": b"no image at all",
        "page.jpg": b"<html><script>alert(1)</script>",
        "program.tif": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "bomb.png": raw_png(40_000, 40_000, bits=1, colour=0),  # 1.6 gigapixels
    }
    for name, data in (readable | broken).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    Path(os.fsdecode(os.fsencode(root) + b"/bytes\xff\xfe.png")).write_bytes(readable["plain.png"])
    (root / "._plain.png").write_bytes(b"left by a Mac")
    (root / "loop").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / "nowhere.png").symlink_to("absent.png")
    os.mkfifo(root / "pipe.png")
    (root / "closed.png").write_bytes(readable["plain.png"])
    (root / "closed.png").chmod(0)
    closed = not os.access(root / "closed.png", os.R_OK)  # root reads everything
    return len(readable) + 1 + (not closed), len(broken) + 3 + closed


def test_a_hostile_folder_gets_its_report(tmp_path):
    readable, broken = hostile_folder(tmp_path / "<b>photos & more")
    arguments = ["--config=configs/folder.py", f"--workdir={tmp_path / 'work'}"]
    arguments += [f"--config.data.root={tmp_path / '<b>photos & more'}", "--config.backbone.blocks=(1,)"]
    arguments += [f"--config.backbone.{x}" for x in ("name=dinov2-small", "weights=random", "image_size=56")]
    run = run_python("main.py", *arguments, status=0)
    assert "Traceback" not in run.stdout + run.stderr
    assert f"{broken} of {readable + broken} photos cannot be read and were skipped" in run.stderr
    work = tmp_path / "work"
    with (work / "scores.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == readable
    assert all(0 <= float(row["score"]) <= 2 for row in rows)
    assert {Path(row["path"]).name for row in rows} >= {*(Path(name).name for name in NAMES), "bytes\udcff\udcfe.png"}
    manifest = json.loads((work / "manifest.json").read_text())
    assert len(
        manifest["unreadable"]["<b>photos & more"]
        if isinstance(manifest["unreadable"], dict)
        else manifest["unreadable"]
    )
    page = (work / "report.html").read_text(encoding="utf-8")
    assert "<img src=x onerror" not in page and "<script>alert(1)" not in page
    assert not [path for path in work.rglob("*") if not path.resolve().is_relative_to(work.resolve())]
    assert not list(tmp_path.rglob("x")) and sorted(p.name for p in tmp_path.iterdir()) == [
        "<b>photos & more",
        "work",
    ]


@pytest.fixture
def run(tiny_presets, tmp_path):
    """Runs `detect` below `tmp_path` with a tiny backbone on one device; returns the outcomes and the workdir."""

    def start(layout="folder", root="set", work="work", **fields):
        backbone = tiny_backbone(batch_size=fields.pop("batch", None))
        data = DataConfig(layout=layout, root=str(tmp_path / root), **fields.pop("data", {}))
        parallel = ParallelConfig(devices=fields.pop("devices", 1))
        config = Config(data=data, backbone=backbone, parallel=parallel, **fields)
        return detect_task.run(config, str(tmp_path / work)), tmp_path / work

    return start


def write_parts(root, indices=range(8)):
    root.mkdir(parents=True)
    for i in indices:
        Image.fromarray(PARTS[i]).save(root / f"{i}.png")


@pytest.mark.parametrize("n", [2, 3, 5])
def test_edge_cases_get_finite_scores_and_a_report(run, tmp_path, n):
    write_parts(tmp_path / "set", range(n))
    (outcome,), work = run()
    assert np.isfinite(outcome.result.scores_rescored).all() and len(outcome.result.scores_rescored) == n
    assert (work / "report.html").is_file()


@pytest.mark.parametrize(("kind", "reason"), [("identical", "are identical"), ("constant", "nearly blank")])
def test_sets_without_contents_are_refused_with_the_reason(run, tmp_path, kind, reason):
    for i in range(3):
        write_image(tmp_path / "set" / f"{i}.png", 90 if kind == "identical" else 30 * i, (32, 32))
    with pytest.raises(NothingToCompareError, match=reason):
        run()
    assert not (tmp_path / "work" / "report.html").exists()


def test_one_readable_image_of_two_is_too_few(run, tmp_path):
    write_parts(tmp_path / "set", range(2))
    (tmp_path / "set" / "1.png").write_bytes(b"")
    with pytest.raises(TooFewImagesError, match="1 of 2 images can be read"):
        run()
    # intermediate results are kept for the next try, in hidden files
    assert not [path for path in (tmp_path / "work").iterdir() if not path.name.startswith(".")]


def write_mvtec(root, normal, anomalous):
    """`normal` and `anomalous` images with masks of the images' own size."""
    for i in range(normal + anomalous):
        kind = "good" if i < normal else "hole"
        (root / "test" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(PARTS[i]).save(root / "test" / kind / f"{i}.png")
        if kind == "hole":
            (root / "ground_truth" / kind).mkdir(parents=True, exist_ok=True)
            mask = np.zeros((64, 64), np.uint8)
            mask[8:30, 8:30] = 255
            Image.fromarray(mask).save(root / "ground_truth" / kind / f"{i}_mask.png")


@pytest.mark.parametrize("normal,anomalous", [(6, 0), (0, 6)])
def test_a_category_of_one_class_has_no_image_metric(run, tmp_path, normal, anomalous):
    write_mvtec(tmp_path / "set" / "part", normal, anomalous)
    (outcome,), work = run("mvtec")
    metrics = json.loads((work / "metrics.json").read_text())["categories"]["part"]
    assert metrics["image_auroc"] is None
    assert (metrics["pixel_auroc"] is None) == (anomalous == 0)


@pytest.mark.parametrize("damage", ["another size", "missing", "empty", "unreadable"])
def test_wrong_masks_do_not_change_image_scores(run, tmp_path, caplog, damage):
    write_mvtec(tmp_path / "set" / "part", 3, 3)
    mask = tmp_path / "set" / "part" / "ground_truth" / "hole" / "4_mask.png"
    want = run("mvtec", work="whole")[0][0].metrics
    if damage == "another size":
        big = Image.open(mask).resize((640, 640), Image.Resampling.NEAREST)
        big.save(mask)
    elif damage == "missing":
        mask.unlink()
    elif damage == "empty":
        Image.new("L", (64, 64)).save(mask)
    else:
        mask.write_bytes(b"no image")
    (outcome,), _ = run("mvtec")
    assert outcome.metrics["image_auroc"] == want["image_auroc"], "masks do not affect image scores"
    if damage == "another size":
        assert outcome.metrics["pixel_auroc"] == want["pixel_auroc"]
    elif damage in ("missing", "unreadable"):
        assert "mask" in caplog.text


def assert_same_scores(outcome, other, order=slice(None)):
    """Scores of two runs, within the bounds that docs/reliability.md states."""
    np.testing.assert_allclose(outcome.result.patch_scores, other.result.patch_scores[order], atol=2e-6)
    np.testing.assert_allclose(outcome.result.scores, other.result.scores[order], atol=2e-6)
    np.testing.assert_array_equal(outcome.result.flagged, other.result.flagged[order])


def test_results_do_not_depend_on_names_cache_batch_and_devices(run, tmp_path):
    """Varies unreadable files, names and thus order, cache, batch size, devices."""
    write_parts(tmp_path / "set")
    ((plain,), _) = run()
    write_parts(tmp_path / "bad")
    for name in ("1b.png", "zz.png"):
        (tmp_path / "bad" / name).write_bytes(b"no image")
    assert_same_scores(run(root="bad", work="w1")[0][0], plain)
    order = [5, 2, 7, 0, 1, 3, 6, 4]
    (tmp_path / "turned").mkdir()
    for place, i in enumerate(order):
        Image.fromarray(PARTS[i]).save(tmp_path / "turned" / f"{place}.png")
    assert_same_scores(run(root="turned", work="w2")[0][0], plain, order)
    kept = {"cache": str(tmp_path / "cache")}
    for work in ("w3", "w4"):
        assert_same_scores(run(work=work, data=kept)[0][0], plain)
    assert_same_scores(run(work="w5", batch=3)[0][0], plain)
    assert_same_scores(run(work="w6", devices=8)[0][0], plain)


def test_the_same_command_twice_gives_the_same_bytes(run, tmp_path):
    write_parts(tmp_path / "set")
    _, first = run()
    _, second = run(work="again")
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    # the manifest and the page contain times
    for name in names:
        if name.name not in ("manifest.json", "report.html"):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_maps_fit_into_float16(run, tmp_path):
    """Distances of unit vectors lie in [0, 2], so half precision holds them, to 1e-3."""
    write_parts(tmp_path / "set")
    (outcome,), work = run()
    with np.load(work / "maps.npz") as stored:
        maps = stored["set"]
    assert maps.dtype == np.float16 and np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 2
    np.testing.assert_allclose(maps, outcome.result.maps(), atol=1e-3)
