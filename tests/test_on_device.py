"""Whole detections whose distances stay on the device."""

import contextlib
import dataclasses
import logging
import types

import jax
import numpy as np
import pytest

from codegraph_jax.config import (
    BankConfig,
    Config,
    DataConfig,
    ParallelConfig,
    ResourcesConfig,
    SimilarityConfig,
)
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.features import memory
from codegraph_jax.features.on_device import DeviceFeatureBuffer, DeviceLayer, weighted_tokens, zero_outside
from codegraph_jax.features.set_plan import SetPlan
from codegraph_jax.similarity import comparison as comparing
from codegraph_jax.similarity import plan as planning
from codegraph_jax.similarity import table_layout
from codegraph_jax.similarity.device_tables import DeviceTables
from codegraph_jax.similarity.plan import plan_device, plan_set
from tests.support.compiled_programs import compiled_programs
from tests.support.photos import drawn_parts
from tests.support.tiny_backbones import tiny_backbone

pytestmark = pytest.mark.usefixtures("tiny_presets")


def tiny(where="device", batch_size=4, devices=1, **changes):
    return Config(
        backbone=tiny_backbone(batch_size=batch_size),
        resources=ResourcesConfig(distances_on=where),
        parallel=ParallelConfig(devices=devices),
        **changes,
    )


def assert_same_result(there, here):
    np.testing.assert_allclose(there.patch_scores, here.patch_scores, atol=5e-6)
    np.testing.assert_allclose(there.scores_rescored, here.scores_rescored, atol=1e-4)
    np.testing.assert_array_equal(there.recurring.pattern_numbers, here.recurring.pattern_numbers)
    assert [c.members for c in there.recurring.groups] == [c.members for c in here.recurring.groups]
    np.testing.assert_array_equal(there.kept, here.kept)


def test_a_detection_has_the_result_of_the_host(tmp_path):
    """With a copy, an unreadable file, added images, a mask and a bank: places of images differ from their numbers."""
    images = drawn_parts()
    images[7] = images[2]
    images[11] = str(tmp_path / "nothing.png")
    roi = np.ones((8, 8), bool)
    roi[:2] = False
    *there, here = (
        CoDeGraph(tiny(where, devices=devices)).detect(
            images, added=drawn_parts(5, seed=1), roi=roi, bank=BankConfig(kind="exact", photo_count=6)
        )
        for where, devices in (("device", 1), ("device", 2), ("host", 1))
    )
    for result in there:
        assert_same_result(result, here)
        mine, theirs = (one.bank.inspect(images[:3]) for one in (result, here))
        np.testing.assert_allclose(mine.patch_scores, theirs.patch_scores, atol=5e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_from_a_cache_give_the_same_scores(tmp_path, precision):
    """Features from a cache are read on the host first."""
    changes = {"data": DataConfig(cache=str(tmp_path)), "precision": precision}
    first, second = (CoDeGraph(tiny(**changes)).detect(drawn_parts(12)) for _ in range(2))
    assert second.from_cache_count == 12
    np.testing.assert_array_equal(first.patch_scores, second.patch_scores)


def test_categories_padded_to_the_largest_share_compiled_programs():
    """The largest category sets the shape: categories of 9 and 33 images are padded as that of 40."""
    detector = CoDeGraph(tiny())

    def detect(n):
        images = as_samples(drawn_parts(n, seed=n))
        how = detector.config, detector.backbone, detector.mesh
        return detector.score(detector.compare_set(plan_set(*how, images, detector.frame_of(images), largest=40)))

    detect(40)
    with compiled_programs() as programs:
        few, _ = (detect(n) for n in (9, 33))
    by_selection = {"jit(_selected)", "jit(_weighted)", "jit(_greatest)", "jit(_pattern_vectors)"}
    assert set(programs) <= by_selection
    assert_same_result(few, CoDeGraph(tiny("host")).detect(drawn_parts(9, seed=9)))


def test_distances_stay_on_the_host_if_a_device_is_too_small(monkeypatch, caplog):
    class Exhausted:
        def __init__(self, *_, **__):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(comparing, "DeviceTables", Exhausted)
    with caplog.at_level(logging.WARNING):
        there = CoDeGraph(tiny()).detect(drawn_parts())
    assert "the host keeps them" in caplog.text
    assert_same_result(there, CoDeGraph(tiny("host")).detect(drawn_parts()))


def test_distances_go_to_the_host_if_a_device_runs_out_of_memory_later(monkeypatch, caplog):
    """Some devices fail only when the result is needed; the host then starts again with whole layers."""

    def exhausted():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    # fails when the result of a call of the ring is needed
    monkeypatch.setattr(table_layout, "partial", lambda *_: exhausted)
    there = CoDeGraph(tiny()).detect(drawn_parts())
    assert caplog.text.count("out of memory") == 0 and "the host keeps them" in caplog.text
    assert_same_result(there, CoDeGraph(tiny("host")).detect(drawn_parts()))


def test_distances_stay_on_a_device_that_has_memory_for_all_layers(monkeypatch, caplog):
    detector = CoDeGraph(tiny("auto"))
    comparison = CoDeGraph(tiny()).compare(drawn_parts(12))
    assert isinstance(comparison.tables, DeviceTables)
    assert not isinstance(detector.compare(drawn_parts(12)).tables, DeviceTables)  # a CPU

    plan = memory.plan_run(detector.config, detector.backbone, 1000, detector.extractor.frame)
    mesh = DeviceMesh((types.SimpleNamespace(platform="gpu"),))
    monkeypatch.setattr(planning, "device_bytes", lambda devices: 0)
    needed = plan_device(tiny(), plan, mesh, 1000, 2).total_bytes
    assert needed > plan.feature_bytes + plan.working_bytes + plan.table_bytes
    for room, fits in ((0, False), (plan.feature_bytes, False), (0.9 * needed, False), (1.1 * needed, True)):
        monkeypatch.setattr(planning, "device_bytes", lambda devices, room=room: int(room / planning.DEVICE_SHARE))
        assert bool(plan_device(tiny("auto"), plan, mesh, 1000, 2)) == fits
        known_too_little = 0 < planning.device_bytes(mesh.devices) < needed
        asked = plan_device(tiny(), plan, mesh, 1000, 2)
        assert asked is None if known_too_little else asked.total_bytes == needed, (
            "as set, unless the memory is known to be too small"
        )
    assert caplog.messages == [planning.HOST_KEEPS_DISTANCES], "there is room for the features only"
    assert "on the device, where distances stay" in str(plan_device(tiny("auto"), plan, mesh, 1000, 2))
    assert not plan_device(tiny("auto"), plan, mesh, 1000, 2, sets=2), "there is no room for two sets"
    few = memory.plan_run(detector.config, detector.backbone, 100, detector.extractor.frame)
    monkeypatch.setattr(planning, "device_bytes", lambda devices: 10**12)
    padded_alike = plan_device(tiny(), few, detector.mesh, 100, 2, largest=1000)
    assert padded_alike.padded_shape == (1024, 1024)
    monkeypatch.setattr(planning, "device_bytes", lambda devices: padded_alike.total_bytes)
    padded_alone = plan_device(tiny(), few, detector.mesh, 100, 2, largest=1000)
    assert padded_alone.padded_shape == (128, 128), "there is no room for more"


def test_several_devices_share_the_images_and_the_host_keeps_the_features(monkeypatch):
    detector = CoDeGraph(tiny())
    plan = memory.plan_run(detector.config, detector.backbone, 1000, detector.extractor.frame)
    one, four = (plan_device(tiny(), plan, DeviceMesh(tuple(jax.devices()[:d])), 1000, 2) for d in (1, 4))
    assert (one.padded_shape, one.device_length) == ((1024, 1024), 1024)
    assert (four.padded_shape, four.device_length) == ((256, 1024), 0)
    assert four.total_bytes < one.total_bytes / 2 and "each of 4 devices" in str(four)
    direct = dataclasses.replace(tiny(), similarity=SimilarityConfig(kernel="direct"))
    by_degree, by_one = (plan_device(config, plan, detector.mesh, 1000, 2) for config in (direct, tiny()))
    two_degrees = pytest.approx(2 * plan.feature_bytes / 2 * 1.024, rel=1e-3)
    assert by_degree.total_bytes - by_one.total_bytes == two_degrees
    mesh = DeviceMesh(tuple(jax.devices()[:4]))
    assert plan_device(tiny(), plan, DeviceMesh(mesh.devices, "pmap"), 1000, 2) is None
    assert plan_device(tiny("host"), plan, mesh, 1000, 2) is None
    # the features and tables kept on the host must fit there
    monkeypatch.setattr(memory, "free_memory", lambda: plan.feature_bytes // 2)
    in_memory = dataclasses.replace(plan, limit_bytes=2 * (plan.feature_bytes + plan.table_bytes + plan.working_bytes))
    for held, fits in ((one, True), (four, False), (None, False)):
        with contextlib.nullcontext() if fits else pytest.raises(ConfigError, match="the run needs about"):
            SetPlan((), (), (), detector.extractor.frame, in_memory, held).check("refuse")


def test_layers_on_a_device_are_read_as_arrays_are():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(11, 6, 3)).astype(np.float32)
    layers = DeviceFeatureBuffer(16, jax.devices()[1])
    # in another order, with an empty place and a padded batch
    for places in ([8, 9, 10, 11], [0, 1, 2, 3], [4, 6, 7]):
        batch = np.full((4, 6, 3), np.nan, np.float32)
        batch[: len(places)] = values[[place - (place > 5) for place in places]]
        layers.add(np.array(places), [batch])
    (layer,) = layers.keep(np.setdiff1d(np.arange(12), [5]))
    assert isinstance(layer, DeviceLayer) and (len(layer), layer.shape) == (11, (11, 6, 3))
    np.testing.assert_array_equal(np.asarray(layer), values)
    for some in (3, np.array([7, 2, 2]), slice(2, 9), slice(None), np.arange(11) % 2 == 0):
        np.testing.assert_array_equal(np.asarray(layer[some]), values[some])
    weights = rng.normal(size=(3, 2, 6)).astype(np.float32)
    sums = weighted_tokens(layer, np.array([1, 5, 9]), weights)
    np.testing.assert_allclose(sums, weights @ values[[1, 5, 9]], atol=1e-5)
    inspected = rng.uniform(size=(11, 6)) < 0.5
    np.testing.assert_array_equal(np.asarray(zero_outside(layer, inspected)), values * inspected[..., None])
