"""Predicted times: counts that can be checked by hand, the documented table, and a run that was measured."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from codegraph_jax.benchmark.prediction import (
    MVTEC_AD,
    Machine,
    Work,
    markdown,
    predict,
    published_run,
    side_by_side,
    this_machine,
    work_of,
)
from codegraph_jax.config import BackboneConfig, Config

ROOT = Path(__file__).parents[2]
DEVICE = Machine("device", 1e12, 1e12, 1)
WORK = Work(images=(10,), image_flop=1e9, patches=100, channels=50, layers=2, degrees=3)


def test_the_documented_table_is_what_the_counts_give():
    assert sum(MVTEC_AD) == 1725
    assert markdown(published_run()) in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_measured_run_is_predicted():
    """BENCHMARKS.md, "A whole run": 160 images, two free cores, matrix product of 104 GFLOP/s a core in float32."""
    config = Config(backbone=BackboneConfig(name="dinov2-small", image_size=448, blocks=(5, 8)))
    two_cores = Machine("two cores", 2 * 104e9, math.inf, 2, accelerator=False)
    seconds = predict(two_cores, work_of(config, [160], "reuse"))
    assert seconds["backbone"] + seconds["decoding"] == pytest.approx(61.9, rel=0.1)
    assert seconds["pairs"] == pytest.approx(164.4, rel=0.1)
    assert sum(seconds.values()) == pytest.approx(244.9, rel=0.15)


def test_counts_by_hand():
    seconds = predict(DEVICE, WORK)
    assert seconds["backbone"] == pytest.approx(10 * 1e9 / 0.5e12)
    # 45 pairs of each layer: a product of 100 x 100 x 50, and the tile there and back
    assert seconds["pairs"] == pytest.approx(90 * (2 * 100 * 100 * 50 / 0.6e12 + 2 * 4 * 100 * 100 / 1e12))
    fused = predict(DEVICE, replace(WORK, products=3, tiles_written=0))
    assert fused["pairs"] == pytest.approx(90 * 3 * 2 * 100 * 100 * 50 / 0.6e12)
    # 34 readings of two layers, three degrees and 100 patches; the mean twenty times as often, and a fifth of all again
    read = 4 * 2 * 3 * 100 * 10 * 10 / 1e12
    assert seconds["scores"] == pytest.approx(34 * read)
    judging = 1.5e-3 * 10 + 5e-6 * 100
    again = 0.2 * seconds["pairs"] + seconds["scores"]
    assert seconds["consistency"] == pytest.approx(judging + 20 * 34 * read / 6 + again)
    device = seconds["backbone"] + seconds["pairs"] + seconds["scores"] + seconds["consistency"] - judging
    assert side_by_side(DEVICE, WORK) == pytest.approx(max(10 * 0.04, device) + 0.019 * 10)
    assert side_by_side(replace(DEVICE, accelerator=False), WORK) == pytest.approx(
        sum(predict(replace(DEVICE, accelerator=False), WORK).values())
    )
    fewer = predict(DEVICE, replace(WORK, references=4))
    assert fewer["pairs"] / seconds["pairs"] == pytest.approx((4 * 3 / 2 + 4 * 6) / 45)
    assert fewer["scores"] / seconds["scores"] == pytest.approx(4 / 10)
    twice = predict(replace(DEVICE, cores=2), WORK)
    many, more = (predict(replace(DEVICE, cores=cores), WORK) for cores in (16, 96))
    assert many == more, "threads are not as many as cores"
    assert twice["decoding"] == pytest.approx(seconds["decoding"] / 2) and twice["pairs"] == seconds["pairs"]


def test_this_machine_is_measured():
    here = this_machine("float32")
    assert here.flop > 1e9 and here.copied == math.inf and here.cores >= 1 and not here.accelerator
