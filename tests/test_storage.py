import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest

from codegraph_jax import storage
from codegraph_jax.config import BackboneConfig, Config, ConfigError, DataConfig, StorageConfig
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.storage import GIB, FeatureSpool, in_memory, plan_memory

SIZES = {"images": 5000, "references": 256, "patches": 256, "channels": 384, "layers": 4, "degrees": 3}


def test_what_does_not_fit_goes_to_disk_the_tables_first():
    placed = {
        gib: (plan.tables_on_disk, plan.features_on_disk)
        for gib in (64, 16, 8)
        for plan in [plan_memory(StorageConfig(memory_gib=gib), **SIZES)]
    }
    assert placed == {64: (False, False), 16: (True, False), 8: (True, True)}


def test_the_estimate_counts_what_the_arrays_take():
    plan = plan_memory(StorageConfig(memory_gib=8), **SIZES)
    assert plan.features == 4 * 5000 * 256 * 384 * 4
    assert plan.tables == 4 * 3 * 5000 * 256 * 256 * 4
    assert plan.working < 8 * GIB
    assert "features 7.3 GiB on disk, distances 14.6 GiB on disk" in str(plan)


@pytest.mark.parametrize(
    "gib,free,disk,complaint",
    [
        (0, 64, 0, None),
        (64, 28, 1000, r"about 28\.1 GiB of memory and 28\.0 GiB are free; config\.similarity\.references=254,"),
        (8, 5, 1000, r"about 6\.1 GiB of memory and 5\.0 GiB are free; config\.similarity\.references=140,"),
        (8, 3, 1000, r"about 6\.1 GiB of memory and 3\.0 GiB are free; a smaller config\.backbone\.image_size"),
        (8, 16, 1000, None),
        (8, 16, 20, r"config\.storage\.directory: the run needs 22\.0 GiB of files and '.*' has 20\.0 GiB free"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_with_advice(monkeypatch, caplog, tmp_path, gib, free, disk, complaint):
    monkeypatch.setattr(storage, "free_memory", lambda: free * GIB)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda place: SimpleNamespace(free=disk * GIB))
    plan = plan_memory(StorageConfig(memory_gib=gib, directory=str(tmp_path)), **SIZES)
    if not complaint:
        plan.check("refuse")
        return
    with pytest.raises(ConfigError, match=complaint):
        plan.check("refuse")
    plan.check("warn")
    assert re.search(complaint, caplog.text)


def test_a_run_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(storage, "free_memory", lambda: 1000)
    detector = CoDeGraph(backbone="dinov2-small", weights="random", image_size=70, blocks=(1, 3))
    monkeypatch.setattr("codegraph_jax.detector.extract", None)
    with pytest.raises(ConfigError, match="config.storage: the run needs"):
        detector.detect(list(draw_set(4, 70, 0, 0.1, ()).images))


def test_a_mapped_array_leaves_nothing_behind(tmp_path):
    plan = plan_memory(StorageConfig(1e-9, str(tmp_path)), 2, 2, 4, 8, 1, 1)
    table = plan.allocate_tables((2, 2, 4))
    table.fill(np.inf)
    assert isinstance(table, np.memmap) and np.isinf(table).all()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    plan = plan_memory(StorageConfig(1e-9, str(tmp_path / "absent")), 2, 2, 4, 8, 1, 1)
    with pytest.raises(ConfigError, match="config.storage.directory: .*absent"):
        plan.allocate_tables((2, 2, 4))


def test_the_spool_gives_back_what_it_took():
    spool = FeatureSpool(in_memory, 5)
    batches = [np.random.default_rng(k).normal(size=(2, 3, 4)).astype(np.float32) for k in range(2)]
    views = [spool.add([batch, -batch]) for batch in batches]
    np.testing.assert_array_equal(spool.joined()[1], -np.concatenate(batches))
    np.testing.assert_array_equal(views[1][0], batches[1])


@pytest.mark.parametrize("devices", [1, 3])
def test_results_do_not_depend_on_where_arrays_live(tmp_path, devices):
    images = list(draw_set(12, 70, 0, 0.1, (0.3,)).images)
    backbone = BackboneConfig(name="dinov2-small", weights="random", image_size=70, blocks=(1, 3))
    config = Config(data=DataConfig(workers=1), backbone=backbone)
    config = dataclasses.replace(config, parallel=dataclasses.replace(config.parallel, devices=devices))
    mapped = dataclasses.replace(config, storage=StorageConfig(1e-9, str(tmp_path)))
    comparison = CoDeGraph(mapped).compare(images)
    assert all(isinstance(table, np.memmap) for table in comparison.tables)
    assert all(isinstance(layer, np.memmap) for layer in comparison.extracted.layers)
    got, want = CoDeGraph(mapped).judge(comparison), CoDeGraph(config).detect(images)
    np.testing.assert_array_equal(got.patch_scores, want.patch_scores)
    np.testing.assert_array_equal(got.scores, want.scores)
