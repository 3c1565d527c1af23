"""One category per device: the same results as on one device, in the order of the categories."""

import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from codegraph_jax.config import Config, DataConfig, ParallelConfig, ResourcesConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks.scheduling import on_each_device, one_for_each_device, overlapped
from tests.support.networks import random_backbone
from tests.support.photos import write_photos

pytestmark = pytest.mark.usefixtures("shallow")

BACKBONE = random_backbone(blocks=(3,))
NAMES = ["axle", "bolt", "cog"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for n, name in enumerate(NAMES):
        write_photos(root / name / "test" / "good", n=3 + n % 2)
    return root


@pytest.fixture(scope="module")
def detector():
    return CoDeGraph(Config(backbone=BACKBONE, parallel=ParallelConfig(devices=3, by="categories")))


def run(root, workdir, tables="auto", **parallel):
    data = DataConfig(layout="mvtec", root=str(root))
    parts = {"parallel": ParallelConfig(**parallel), "resources": ResourcesConfig(distances_on=tables)}
    return detect_task.run(Config(data=data, backbone=BACKBONE, **parts), str(workdir))


def test_a_run_gives_the_results_of_one_device(root, tmp_path):
    ones = run(root, tmp_path / "one", devices=1)
    each = run(root, tmp_path / "each", devices=2, by="categories")
    assert [outcome.category for outcome in each] == NAMES
    for want, got in zip(ones, each):
        np.testing.assert_array_equal(got.result.patch_scores, want.result.patch_scores)
        np.testing.assert_array_equal(got.result.scores_rescored, want.result.scores_rescored)
    assert (tmp_path / "each" / "scores.csv").read_text() == (tmp_path / "one" / "scores.csv").read_text()


def test_every_device_works_and_results_keep_the_order(detector):
    done, used = [], []

    def work(own, item):
        (device,) = own.mesh.devices
        used.append(device)
        assert jax.tree.leaves(own.backbone.params)[0].devices() == {device} == jax.numpy.zeros(1).devices()
        # the first category ends last
        time.sleep(0.2 if item == 0 else 0.02)
        return item * item

    own = one_for_each_device(detector, 7)
    assert on_each_device(own, work, list(range(7)), done.append) == [0, 1, 4, 9, 16, 25, 36]
    assert set(used) == set(detector.mesh.devices)
    assert sum(done) == 7
    assert len(detector.mesh) == 3, "the detector is unchanged"


def test_memory_is_shared_out(detector):
    limits = [own.config.resources.memory_gib for own in one_for_each_device(detector, 3)]
    alone = [own.config.resources.memory_gib for own in one_for_each_device(detector, 1)]
    # free memory changes a little between the two
    assert len(limits) == 3 and len(alone) == 1 and 2.0 < alone[0] / limits[0] < 4.0


def test_the_first_failure_ends_the_run(detector):
    begun = []

    def work(own, item):
        begun.append(item)
        if item == 1:
            raise ConfigError("item 1 is broken")
        time.sleep(0.3)

    with pytest.raises(ConfigError, match="item 1 is broken"):
        on_each_device(one_for_each_device(detector, 50), work, list(range(50)))
    assert len(begun) < 10


def test_several_processes_are_refused_with_advice(root, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"config\.parallel\.by"):
        run(root, tmp_path / "run", by="categories")


def test_a_category_is_measured_while_the_next_is_detected(root, tmp_path, monkeypatch):
    """The first category's metrics wait for the second one's detection, which would never begin in one thread."""
    second, compared, threads = threading.Event(), [], []
    measure, compare = detect_task.evaluate, CoDeGraph.compare_set

    def watched(*arguments):
        assert second.wait(60)
        threads.append(threading.current_thread().name)
        return measure(*arguments)

    def noted(self, *arguments):
        compared.append(1)
        if len(compared) == 2:
            second.set()
        return compare(self, *arguments)

    monkeypatch.setattr(detect_task, "evaluate", watched)
    monkeypatch.setattr(CoDeGraph, "compare_set", noted)
    outcomes = run(root, tmp_path / "run", devices=1)
    assert [outcome.category for outcome in outcomes] == NAMES
    assert len(threads) == 3 and all(name.startswith("metrics") for name in threads)


def test_the_next_category_is_compared_while_one_is_scored():
    begun, compared = [threading.Event() for _ in range(4)], []

    def slow(item):
        begun[item].set()
        compared.append(item)
        return -item

    def quick(item, made):
        # fails if the next one begins only afterwards
        assert item == 3 or begun[item + 1].wait(10)
        return item, made

    assert list(overlapped(slow, quick, range(4))) == [(0, 0), (1, -1), (2, -2), (3, -3)]
    assert compared == [0, 1, 2, 3]
    assert list(overlapped(slow, quick, [])) == []


def test_an_error_of_the_slow_function_is_raised_at_its_item():
    def slow(item):
        if item == 2:
            raise ValueError("the third")
        return item

    found = []
    with pytest.raises(ValueError, match="the third"):
        for made in overlapped(slow, lambda item, made: made, range(4)):
            found.append(made)
    assert found == [0, 1]


def test_looking_ahead_changes_no_file(root, tmp_path, monkeypatch):
    straight = run(root, tmp_path / "straight", tables="device", devices=1)
    monkeypatch.setattr(detect_task, "_accelerated", lambda detector: True)
    calls = []
    monkeypatch.setattr(detect_task, "overlapped", lambda *given: calls.append(1) or overlapped(*given))
    ahead = run(root, tmp_path / "ahead", tables="device", devices=1)
    for mine, theirs in zip(ahead, straight, strict=True):
        assert mine.category == theirs.category
        np.testing.assert_array_equal(mine.result.patch_scores, theirs.result.patch_scores)
    assert calls == [1]


def test_a_run_that_has_room_for_one_set_at_a_time_is_not_refused(root, tmp_path, monkeypatch):
    """The checked plan is the plan of the run."""

    plan_set, asked = detect_task.plan_set, []

    def no_room_for_two(*given, sets=1, **others):
        asked.append(sets)
        plan = plan_set(*given, sets=sets, **others)
        memory = replace(plan.memory, working_bytes=1 << 60)
        return plan if sets == 1 else replace(plan, device_plan=None, memory=memory)

    monkeypatch.setattr(detect_task, "plan_set", no_room_for_two)
    monkeypatch.setattr(detect_task, "_accelerated", lambda detector: True)
    monkeypatch.setattr(detect_task, "overlapped", None)
    assert [outcome.category for outcome in run(root, tmp_path / "run", tables="device", devices=1)] == NAMES
    assert asked.count(2) == len(NAMES)
