"""Resumed runs: reused and refused intermediate results, and the same files as an uninterrupted run."""

import dataclasses
import errno
import os
import pathlib
import shutil
import types

import numpy as np
import pytest

from codegraph_jax.config import BankConfig, ParallelConfig, ReportConfig, ResourcesConfig, ThresholdConfig
from codegraph_jax.core.workdir import RESUME
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult
from codegraph_jax.resume import budget
from codegraph_jax.resume import state as states
from codegraph_jax.resume.budget import Budget
from codegraph_jax.similarity import comparison
from codegraph_jax.tasks import detect as detect_task
from tests.support.small_detection import CATEGORIES, contents, small_detection, write_drawn_set

pytestmark = pytest.mark.usefixtures("stored_at_once")


class Interrupted(Exception):
    """Simulates the end of the process."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    write_drawn_set(root)
    return root


@pytest.fixture(scope="module")
def config(photos):
    return small_detection(photos, report=ReportConfig(("masks", "maps")))


def run(config, workdir):
    return detect_task.run(config, str(workdir))


def interrupt(config, workdir, monkeypatch, place, after):
    """Runs until `place` (module, name) is called for the `after`-th time."""
    calls, original = [], getattr(*place)

    def ending(*arguments, **named):
        calls.append(1)
        if len(calls) > after:
            raise Interrupted
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(*place, ending)
        with pytest.raises(Interrupted):
            run(config, workdir)


@pytest.fixture(scope="module")
def interrupted(config, tmp_path_factory):
    """The workdir of a run that was interrupted before its second category was scored."""
    workdir = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(config, workdir, patch, (detect_task.CoDeGraph, "score"), after=1)
    return workdir


@pytest.fixture
def half_done(interrupted, tmp_path):
    """A copy of it."""
    return shutil.copytree(interrupted, tmp_path / "half")


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The files of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    run(config, workdir)
    return contents(workdir)


def state_files(workdir):
    return sorted(path for path in (workdir / RESUME).rglob("*") if path.is_file())


def test_the_rerun_resumes_and_ends_with_the_same_files(config, half_done, whole, backbone_batches, capsys, caplog):
    run(config, half_done)
    printed = capsys.readouterr().out
    assert "gear: was finished before the interruption" in printed
    assert "features of 12 of 12 photos, distances of 3 of 3 layers" in printed
    assert not backbone_batches
    assert not any(word in caplog.text for word in ("anew", "again", "changed", "saved"))
    assert contents(half_done) == whole
    hidden = {path.name for path in half_done.rglob(".*")}
    assert hidden == {".lock", ".written.json"}, "no saved state remains"


def test_distances_on_a_device_are_kept_and_found(config, tmp_path, monkeypatch, capsys):
    there = dataclasses.replace(config, resources=ResourcesConfig(distances_on="device"))
    run(there, tmp_path / "whole")
    interrupt(there, tmp_path / "half", monkeypatch, (detect_task.CoDeGraph, "score"), after=1)
    capsys.readouterr()
    run(there, tmp_path / "half")
    assert "features of 12 of 12 photos, distances of 3 of 3 layers" in capsys.readouterr().out
    assert contents(tmp_path / "half") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "what,kind",
    [("pieces", "cut"), ("pieces", "flipped"), ("pieces", "swapped"), ("result", "empty"), ("result", "flipped")],
)
def test_damaged_state_is_not_used(config, half_done, whole, what, kind, caplog):
    # one file damaged at a time: if a result is missing, its category starts from scratch
    files = [path for path in state_files(half_done) if path.suffix == ".safetensors"]
    results = [path for path in files if (path.parent / states.SETTINGS).is_file()]
    files = results if what == "result" else [path for path in files if path not in results]
    assert len(files) == (1 if what == "result" else 3 * 3 + 4 * CATEGORIES["plate"])
    original = {path: path.read_bytes() for path in files}
    rng = np.random.default_rng(0)
    for number, (path, content) in enumerate(original.items()):
        broken = bytearray(content)
        broken[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        other = original[files[(number + 1) % len(files)]]
        place = int(rng.integers(1, len(content)))
        path.write_bytes({"cut": content[:place], "empty": b"", "flipped": bytes(broken), "swapped": other}[kind])
    run(config, half_done)
    assert "cannot be used" in caplog.text or "damaged entries were computed" in caplog.text
    assert contents(half_done) == whole


def test_a_loaded_result_is_equal_bit_for_bit(config, tmp_path):
    for outcome in run(config, tmp_path / "run"):
        outcome.result.write_file(tmp_path / "result.safetensors")
        back = DetectionResult.read_file(tmp_path / "result.safetensors")
        for name in ("kept", "patch_scores", "scores", "scores_rescored"):
            want, got = getattr(outcome.result, name), getattr(back, name)
            assert want.dtype == got.dtype and want.tobytes() == got.tobytes()
        assert repr(back.recurring.groups) == repr(outcome.result.recurring.groups)
        assert back.recurring.spacing_law == outcome.result.recurring.spacing_law
        assert dict(back.recurring.graph.adj) == dict(outcome.result.recurring.graph.adj)
        assert (back.flagged == outcome.result.flagged).all()
        assert back.calibration.threshold == outcome.result.calibration.threshold


def test_other_settings_and_other_images_start_from_scratch(
    config, half_done, photos, tmp_path, monkeypatch, backbone_batches, caplog
):
    other = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, activation="quick_gelu"))
    run(other, half_done)
    assert "settings or photos have changed" in caplog.text
    assert sum(backbone_batches) >= sum(CATEGORIES.values())
    images = shutil.copytree(photos, tmp_path / "images")
    elsewhere = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(images)))
    interrupt(elsewhere, tmp_path / "run", monkeypatch, (detect_task.CoDeGraph, "score"), after=1)
    caplog.clear()
    backbone_batches.clear()
    written = next((images / "gear" / "test").rglob("*.png"))
    written.write_bytes(written.read_bytes())
    run(elsewhere, tmp_path / "run")
    assert "settings or photos have changed" in caplog.text
    assert sum(backbone_batches) >= CATEGORIES["gear"], "the file has the same size but was written since"


@pytest.mark.parametrize("aggregation", ["mean", "similarity"])
def test_kept_features_are_scored_again_without_the_backbone(
    config, tmp_path, backbone_batches, capsys, monkeypatch, aggregation
):
    monkeypatch.setattr(detect_task, "GIB", 1)  # sizes below 0.1 GiB are not printed
    config = dataclasses.replace(config, features=dataclasses.replace(config.features, aggregation=aggregation))
    keep = dataclasses.replace(config, resume_data="keep")
    run(keep, tmp_path / "run")
    assert "GiB kept in the workdir" in capsys.readouterr().out
    assert state_files(tmp_path / "run"), "they are kept after the run"
    backbone_batches.clear()
    changed = {"scoring": dataclasses.replace(config.scoring, fraction=0.5), "threshold": ThresholdConfig("share:20%")}
    run(dataclasses.replace(keep, **changed), tmp_path / "run")
    assert not backbone_batches
    assert "features of 12 of 12 photos, distances of 3 of 3 layers" in capsys.readouterr().out
    run(dataclasses.replace(config, **changed), tmp_path / "fresh")
    again, fresh = (
        {name: content for name, content in contents(tmp_path / place).items() if RESUME not in name}
        for place in ("run", "fresh")
    )
    for found in (again, fresh):
        del found["manifest.json"]["config"]["resume_data"]
    assert again == fresh
    run(config, tmp_path / "run")
    assert not state_files(tmp_path / "run"), "they are removed without the setting"


def test_features_of_an_earlier_batch_are_removed(config, photos, tmp_path, caplog):
    images = shutil.copytree(photos, tmp_path / "images")
    keep = dataclasses.replace(config, resume_data="keep", data=dataclasses.replace(config.data, root=str(images)))
    run(keep, tmp_path / "run")
    first = {path.parent for path in state_files(tmp_path / "run") if path.suffix == ".safetensors"}
    written = next((images / "gear" / "test").rglob("*.png"))
    shutil.copy(next((images / "plate" / "test").rglob("*.png")), written)
    caplog.clear()
    run(keep, tmp_path / "run")
    assert "settings or photos have changed since the interrupted run" in caplog.text
    assert "anew" not in caplog.text and "again" not in caplog.text, "no message about tables of other images"
    second = {path.parent for path in state_files(tmp_path / "run") if path.suffix == ".safetensors"}
    homes = [{path for path in found if path.parent.name != "features"} for found in (first, second)]
    tables = [{p for p in found if any(p.glob("layer*"))} for found in homes]
    assert len(tables[1]) == len(CATEGORIES), "one directory per category, and nothing accumulates"


def test_added_images_and_a_bank(config, photos, tmp_path, monkeypatch, capsys):
    data = dataclasses.replace(config.data, categories=("plate",), add=(str(photos / "gear"),))
    files = []
    for name in ("whole", "cut"):
        bank = tmp_path / f"{name}.safetensors"
        changed = dataclasses.replace(config, data=data, bank=BankConfig(save=str(bank)))
        if name == "cut":
            interrupt(changed, tmp_path / name, monkeypatch, (detect_task, "write_results"), after=0)
            capsys.readouterr()
        run(changed, tmp_path / name)
        found = contents(tmp_path / name)
        del found["manifest.json"]["config"]["bank"]["save"]
        files.append(found | {"bank": sorted(bank.read_bytes())})
    assert "features of 26 of 26 photos, distances of 3 of 3 layers" in capsys.readouterr().out
    assert files[0] == files[1]


def test_several_devices_resume(config, tmp_path, monkeypatch, backbone_batches):
    spread = dataclasses.replace(config, parallel=ParallelConfig(devices=4))
    run(spread, tmp_path / "whole")
    interrupt(spread, tmp_path / "run", monkeypatch, (comparison, "pairwise_distances"), after=0)
    half = next(path for path in state_files(tmp_path / "run") if "block" in path.name)
    half.unlink()
    backbone_batches.clear()
    run(spread, tmp_path / "run")
    assert backbone_batches == [4] * (1 + 3), "an incomplete batch is computed as a whole"
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_with_the_cache_the_features_are_stored_there(config, tmp_path, monkeypatch, whole):
    cached = dataclasses.replace(config, data=dataclasses.replace(config.data, cache=str(tmp_path / "cache")))
    interrupt(cached, tmp_path / "run", monkeypatch, (detect_task.CoDeGraph, "score"), after=0)
    assert not [path for path in state_files(tmp_path / "run") if "block" in path.name]
    run(cached, tmp_path / "run")
    assert contents(tmp_path / "run")["scores.csv"] == whole["scores.csv"]


def test_switched_off_nothing_is_kept(config, tmp_path, monkeypatch, whole):
    off = dataclasses.replace(config, resume_data="off")
    interrupt(off, tmp_path / "run", monkeypatch, (detect_task.CoDeGraph, "score"), after=1)
    assert not (tmp_path / "run").exists()


def test_several_processes_keep_nothing(config, tmp_path, monkeypatch, whole):
    def keep(*_):
        raise AssertionError("a state is kept")

    monkeypatch.setattr(detect_task, "RunState", keep)
    with pytest.raises(AssertionError, match="a state is kept"):
        run(config, tmp_path / "one")
    monkeypatch.setattr(detect_task, "jax", types.SimpleNamespace(process_count=lambda: 2))
    run(config, tmp_path / "several")
    assert contents(tmp_path / "several") == whole


def test_a_clock_that_jumps_changes_nothing(config, half_done, whole, monkeypatch, backbone_batches):
    for path in state_files(half_done):
        stamp = 4e9 if "block" in path.name else 0
        os.utime(path, (stamp, stamp))
    monkeypatch.setattr("time.time", lambda: 0.0)
    run(config, half_done)
    assert not backbone_batches
    assert contents(half_done) == whole


@pytest.mark.parametrize("place", ["codegraph_jax.core.tensors.save_file", "pathlib.Path.mkdir"])
def test_a_state_that_cannot_be_written_is_a_warning(config, tmp_path, monkeypatch, caplog, whole, place):
    original = pathlib.Path.mkdir

    def refuse(*arguments, **named):
        if place.endswith("mkdir") and RESUME not in str(arguments[0]):
            return original(*arguments, **named)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place, refuse)
    run(config, tmp_path / "run")
    assert "No space left" in caplog.text
    assert contents(tmp_path / "run") == whole


def test_saved_state_leaves_free_space_on_the_disk(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        budget.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, budget.FREE_SPACE + 5)
    )
    money = Budget(tmp_path, at_any_cost=False)
    assert money.allows("features", 5)
    assert not money.allows("features", 6)
    assert caplog.text.count("would stay free") == 1


def test_saving_state_needs_a_small_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(budget, "WRITING_SHARE", 0.05)
    monkeypatch.setattr(budget, "perf_counter", lambda: now[0])
    money, written = Budget(tmp_path, at_any_cost=False), 0
    for _ in range(1000):
        now[0] += 0.1
        if money.allows("features", 1000):
            with money.spend("features"):
                now[0] += 0.02
                written += 1
    assert 200 <= written <= 260, "a write that takes a fifth of a batch's time follows every fourth batch"


def test_library_users_get_no_files(photos, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(path) for path in sorted((photos / "gear").rglob("*.png"))]
    detect_task.CoDeGraph(config).detect(paths)
    assert not list(tmp_path.iterdir())


def test_added_photos_of_a_drawn_set_are_known_by_their_times(tmp_path):
    """The set itself, which every start draws again, is known by its content."""
    paths = [tmp_path / "run" / "images" / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")
    before, after = [], []
    for found, seconds in ((before, 1), (after, 2)):
        for path in paths:
            os.utime(path, (seconds, seconds))
        samples = [Sample(str(path), path.name, "set") for path in paths]
        found += states._files(samples, tmp_path / "run") + states._files(samples, None)
    changed = [one != other for one, other in zip(before, after, strict=True)]
    assert changed == [False, True, True, True], "photos below the workdir of other runs may change"
