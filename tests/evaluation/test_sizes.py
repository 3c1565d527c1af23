"""Pixel metrics at the size of the maps, and at the size of the images."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from codegraph_jax.config import Config, DataConfig, MetricsConfig
from codegraph_jax.tasks.detect import run
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

SIZES = {"good/0": (40, 30), "good/1": (64, 20), "bad/0": (90, 50), "bad/1": (33, 77)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A category of images of several sizes; one mask is smaller than its image."""
    root, rng = tmp_path_factory.mktemp("sized"), np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        pixels = rng.integers(60, 120, (height, width, 3), np.uint8)
        kind, stem = name.split("/")
        if kind == "bad":
            pixels[5:15, 8:20] = 250
            mask = np.zeros((height, width), np.uint8)
            mask[5:15, 8:20] = 255
            place = root / "part" / "ground_truth" / kind
            place.mkdir(parents=True, exist_ok=True)
            mask_image = Image.fromarray(mask)
            if stem == "1":
                mask_image = mask_image.resize((width // 3, height // 7), Image.Resampling.NEAREST)
            mask_image.save(place / f"{stem}_mask.png")
        place = root / "part" / "test" / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{stem}.png")
    return root


def detect(root, workdir, **metrics):
    config = Config(
        data=DataConfig(layout="mvtec", root=str(root)),
        backbone=random_backbone(blocks=(1,)),
        metrics=MetricsConfig(**metrics),
    )
    (outcome,) = run(config, str(workdir))
    return outcome


def by_hand(outcome, size):
    """AUROC and AP over the pixels of all images, each interpolated by NumPy to `size` or to its own."""
    truth, scores = [], []
    for sample, patches in zip(outcome.samples, outcome.result.patch_scores):
        width, height = size or SIZES[sample.name.removesuffix(".png")]
        rows, columns = np.linspace(0, len(patches) - 1, height), np.linspace(0, patches.shape[1] - 1, width)
        across = np.stack([np.interp(columns, np.arange(len(line)), line) for line in patches.astype(np.float64)])
        scores.append(np.stack([np.interp(rows, np.arange(len(line)), line) for line in across.T], 1).ravel())
        mask = np.zeros((height, width), bool)
        if sample.mask:
            mask = np.asarray(Image.open(sample.mask).resize((width, height), Image.Resampling.NEAREST)) > 0
        truth.append(mask.ravel())
    truth, scores = np.concatenate(truth), np.concatenate(scores)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores)


@pytest.fixture(scope="module")
def outcomes(root, tmp_path_factory):
    """{setting: (outcome, workdir, output)}."""
    done = {}
    for choice in ("score", "image"):
        workdir, printed = tmp_path_factory.mktemp(choice), io.StringIO()
        with contextlib.redirect_stdout(printed):
            done[choice] = detect(root, workdir, resolution=choice), workdir, printed.getvalue()
    return done


@pytest.mark.parametrize(("choice", "size"), [("score", (56, 56)), ("image", None)])
def test_pixels_are_counted_at_the_configured_size(outcomes, choice, size):
    outcome, workdir, printed = outcomes[choice]
    auroc, ap = by_hand(outcome, size)
    # maps are float32, the check is float64: near ties may be ordered differently
    assert outcome.metrics["pixel_auroc"] == pytest.approx(auroc, abs=1e-4)
    assert outcome.metrics["pixel_ap"] == pytest.approx(ap, abs=1e-3)
    assert 0 <= outcome.metrics["pixel_aupro"] <= 1
    assert json.loads((workdir / "metrics.json").read_text())["settings"]["resolution"] == choice
    assert json.loads((workdir / "manifest.json").read_text())["config"]["metrics"]["resolution"] == choice
    words = "the size of the score map" if choice == "score" else "each image's own size"
    assert f"pixels at {words}" in printed
    assert words in (workdir / "report.html").read_text().replace("&#39;", "'")


def test_the_two_sizes_differ_in_pixels_only(outcomes):
    at_score, at_image = outcomes["score"][0].metrics, outcomes["image"][0].metrics
    assert at_score["image_auroc"] == at_image["image_auroc"]
    assert at_score["pixel_ap"] != at_image["pixel_ap"]
