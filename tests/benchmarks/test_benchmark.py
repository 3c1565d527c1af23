import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import benchmark as task
from benchmarks import exact, kernel
from benchmarks.oecl import forward_flops
from benchmarks.settings import MEASUREMENTS, BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.backbones import load_backbone
from codegraph_jax.config import BackboneConfig, DevicesConfig
from codegraph_jax.core.timing import interleaved
from contrastive_jax.config import ModelConfig
from tests.support import reference

CONFIG = BenchmarkConfig(repeats=1, backbones=("dinov2-small",), parallel=DevicesConfig(devices=1))
SMALL = Sizes(
    kernel_images=4, grid=5, channels=16, backbone_size=28, detection_images=4, image_size=56, blocks=(0,),
    scaling_images=5, devices=(1, 3),
    host_images=(20,), host_grid=5, host_channels=8, host_layers=1, host_degrees=(1,), inspected_parts=3,
    bank_images=5, bank_references=3, width=2, stored_size=8, view_size=8, batch_size=4,
)  # fmt: skip


def measure(workdir, *measurements, **fields):
    return task.run(dataclasses.replace(CONFIG, measurements=measurements, **fields), str(workdir), SMALL)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All measurements; the step of OECL and a whole detection compile for minutes, so their tests are marked slow."""
    workdir = tmp_path_factory.mktemp("benchmark")
    return measure(workdir, *MEASUREMENTS, precisions=("float32",)), Path(workdir)


@pytest.mark.slow
def test_every_measurement_gives_records_that_land_in_the_workdir(measured):
    records, workdir = measured
    written = [json.loads(line) for line in (workdir / "benchmark.jsonl").read_text().splitlines()]
    assert [r["name"] for r in written] == [r["name"] for r in records]
    assert {r["measurement"] for r in records} == set(MEASUREMENTS)
    machine = json.loads((workdir / "machine.json").read_text())
    assert machine["product_flop_per_s"]["float32"] > 0
    assert machine["copy_bytes_per_s"] > 0


@pytest.mark.slow
def test_errors_are_those_of_the_precision(tmp_path):
    records = measure(tmp_path, "kernel")
    assert len((tmp_path / "benchmark.jsonl").read_text().splitlines()) == len(records)
    errors = {r["name"]: r["error"] for r in records if r["measurement"] == "kernel" and "error" in r}
    assert errors["aggregation + scores, reuse float32"] < 1e-5
    assert 1e-5 < errors["aggregation + scores, reuse bfloat16"] < 0.02


@pytest.mark.slow
def test_single_parts_are_timed_with_both_kinds_of_banks(measured):
    parts = [r for r in measured[0] if r["measurement"] == "inspect"]
    assert [r["name"].split(",")[0] for r in parts] == ["exact", "compact"]
    for record in parts:
        assert 0 < record["median_ms"] <= record["p99_ms"] and record["rate"] > 0
        assert min(record["decode_ms"], record["backbone_ms"], record["bank_ms"]) > 0


def test_operations_of_the_published_networks():
    """ResNet-18 is 0.56 G multiply-adds at 32 px with the CIFAR stem, and 1.81 G at 224 px with the ImageNet stem."""
    assert forward_flops(ModelConfig(), 32) == pytest.approx(2 * 0.5557e9, rel=1e-3)
    assert forward_flops(ModelConfig(stem="imagenet"), 224) == pytest.approx(2 * 1.814e9, rel=2e-3)


@pytest.mark.slow
def test_a_training_step_is_timed_whole_and_in_parts(measured):
    parts = {r["name"]: r for r in measured[0] if r["measurement"] == "oecl"}
    assert set(parts) - {"network, torch float32"} == {"step, float32", "network, float32", "augmentation"}
    step, network = parts["step, float32"], parts["network, float32"]
    # four normal and four OE images, two views each, forward and twice as much backward
    assert step["flop_per_s"] / step["rate"] == pytest.approx(3 * 4 * forward_flops(ModelConfig(width=2), 8))
    assert network["rate"] > 0 and parts["augmentation"]["unit"] == "views/s"


@pytest.mark.slow
def test_several_devices_give_the_table_of_one(measured):
    scaling = [r for r in measured[0] if r["measurement"] == "scaling"]
    assert [r["devices"] for r in scaling] == [1, 3]
    assert all(r["same"] for r in scaling)


def test_the_exact_scores_are_those_of_the_definition():
    tokens = kernel.draw_tokens(4, (4, 5), 8)
    table = [reference.distances(reference.aggregate(tokens, r, (4, 5))) for r in (1, 3)]
    want = np.mean([reference.mutual_scores(t, 0.5) for t in table], axis=0)
    np.testing.assert_allclose(exact.mutual_scores(tokens, (1, 3), (4, 5), 0.5), want, atol=1e-7)


def test_the_count_of_work_is_that_of_the_architecture():
    network = load_backbone(BackboneConfig(name="dinov2-small", weights="random", image_size=518))
    # 21 million weights for each of 1370 tokens, and two products of all tokens with all in each of 12 blocks
    want = 2 * 1370 * (12 * 12 * 384**2) + 12 * 4 * 1370**2 * 384 + 2 * 1369 * 588 * 384
    assert network.flop(37, 37) == pytest.approx(want)


def test_compared_functions_take_turns():
    calls = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4


def test_every_measurement_is_a_module():
    for name in MEASUREMENTS:
        assert callable(importlib.import_module(f"benchmarks.{name}").measure)
