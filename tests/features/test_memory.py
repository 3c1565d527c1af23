import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest

from codegraph_jax.config import Config, DataConfig, ResourcesConfig, SimilarityConfig
from codegraph_jax.core.arrays import GIB
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features import memory
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.memory import plan_run
from codegraph_jax.similarity.removal import changes_by_removal
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")


def planned(precision="float32", **resources):
    """The plan of 5000 images of 256 patches, with four layers of 384 channels, three degrees and 256 references."""
    config = Config(
        resources=ResourcesConfig(**resources),
        similarity=SimilarityConfig(references=256, radius="all"),
        precision=precision,
    )
    backbone, frame = SimpleNamespace(blocks=(2, 5, 8, 11), width=384), SimpleNamespace(grid=(16, 16))
    return plan_run(config, backbone, 5000, frame)


def test_arrays_beyond_the_memory_are_files_tables_first():
    placed = {
        gib: (plan.tables_on_disk, plan.features_on_disk) for gib in (64, 16, 8) for plan in [planned(memory_gib=gib)]
    }
    assert placed == {64: (False, False), 16: (True, False), 8: (True, True)}


def test_the_estimate_equals_the_size_of_the_arrays():
    plan = planned(memory_gib=8)
    assert plan.feature_bytes == 4 * 5000 * 256 * 384 * 4
    assert plan.table_bytes == 4 * 3 * 5000 * 256 * 256 * 4
    assert plan.working_bytes < 8 * GIB
    assert "and 22.0 GiB of files in" in str(plan)
    halved = planned("bfloat16", memory_gib=8)
    assert halved.feature_bytes == plan.feature_bytes // 2
    # in memory: one layer as stored and one prepared
    assert halved.working_bytes == plan.working_bytes - 5000 * 256 * 384 * 4
    assert halved.working_bytes < 5 * GIB


@pytest.mark.parametrize(
    "gib,free,disk,complaint",
    [
        (None, 64, 0, None),
        (64, 28, 1000, r"about 28\.5 GiB of memory and 28\.0 GiB are free; --config\.similarity\.references=249,"),
        (8, 5, 1000, r"about 6\.5 GiB of memory and 5\.0 GiB are free; --config\.similarity\.references=100,"),
        (8, 3, 1000, r"about 6\.5 GiB of memory and 3\.0 GiB are free; a smaller input size"),
        (8, 16, 1000, None),
        (8, 16, 20, r"the run needs 22\.0 GiB of files and '.*' has 20\.0 GiB free"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_with_advice(monkeypatch, caplog, gib, free, disk, complaint):
    monkeypatch.setattr(memory, "free_memory", lambda: free * GIB)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda place: SimpleNamespace(free=disk * GIB))
    plan = planned(memory_gib=gib)
    if not complaint:
        plan.check("refuse")
        return
    with pytest.raises(ConfigError, match=complaint):
        plan.check("refuse")
    plan.check("warn")
    assert re.search(complaint, caplog.text)


def test_a_run_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    detector = CoDeGraph(Config(backbone=random_backbone(image_size=70)))
    monkeypatch.setattr(Extractor, "extract", None)
    with pytest.raises(ConfigError, match="the run needs"):
        detector.detect(list(draw_set(4, 70, 0, 0.1, ()).images))


def remaining(comparison):
    """Distances without a fifth of the patches of every third image."""
    layers, options, references = comparison.features.layers, comparison.options, comparison.references
    tables = np.stack(comparison.tables)
    removed = np.random.default_rng(0).uniform(size=(tables.shape[2], tables.shape[4])) < 0.2
    removed[np.arange(len(removed)) % 3 > 0] = False
    for table, layer in zip(tables, layers):
        for degree, changes in zip(table, changes_by_removal(table, layer, removed, references, options)):
            changes.apply(degree)
    return tables


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
# three devices also cover one device, which is tested with the slow tests
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_results_do_not_depend_on_where_arrays_live(tmp_path, devices, precision):
    images = list(draw_set(12, 70, 0, 0.1, (0.3,)).images)
    backbone = random_backbone(image_size=70)
    config = Config(backbone=backbone)
    config = dataclasses.replace(config, parallel=dataclasses.replace(config.parallel, devices=devices))
    config = dataclasses.replace(config, precision=precision)
    mapped = dataclasses.replace(config, resources=ResourcesConfig(1e-9))
    cached = dataclasses.replace(mapped, data=DataConfig(cache=str(tmp_path / "cache")))
    in_one_piece = CoDeGraph(config).compare(images)
    want = CoDeGraph(config).score(in_one_piece)
    without = remaining(in_one_piece)
    for elsewhere in (mapped, cached, cached):
        comparison = CoDeGraph(elsewhere).compare(images)
        assert all(isinstance(table, np.memmap) for table in comparison.tables)
        layers = comparison.features.layers
        assert all(isinstance(layer, np.memmap) and str(layer.dtype) == precision for layer in layers)
        got = CoDeGraph(elsewhere).score(comparison)
        np.testing.assert_array_equal(remaining(comparison), without)
        np.testing.assert_array_equal(got.patch_scores, want.patch_scores)
        np.testing.assert_array_equal(got.scores_rescored, want.scores_rescored)
    assert comparison.features.from_store_count == len(images)
