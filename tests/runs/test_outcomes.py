"""Messages and files of a run that cannot write, or whose workdir another run is using."""

import dataclasses
import errno

import numpy as np
import pytest

from codegraph_jax.commands.launch import SOMETHING_FLAGGED, TOO_FEW, status_of
from codegraph_jax.config import BankConfig, InspectConfig, PhotosConfig, SavedBankConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import WorkdirError, locked
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.report.result_files import MANIFEST, REPORT
from codegraph_jax.tasks import detect as detect_task
from codegraph_jax.tasks import inspect as inspect_task
from studies import recurring as study
from studies.recurring import RecurringStudyConfig
from tests.support.small_detection import contents, small_detection, write_drawn_set

pytestmark = pytest.mark.usefixtures("stored_at_once")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    write_drawn_set(root)
    whole = small_detection(root)
    return dataclasses.replace(whole, data=dataclasses.replace(whole.data, categories=("plate",)))


@pytest.fixture
def no_work(monkeypatch):
    """Fails if the slow part of a run begins."""

    def begin(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(Extractor, "extract", begin)


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def inspect_config(config, tmp_path_factory):
    """An inspection whose bank and folder exist and are not read."""
    bank = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    bank.touch()
    return InspectConfig(bank=SavedBankConfig(str(bank)), data=PhotosConfig(root=config.data.root))


def test_second_run_in_a_workdir_is_refused(config, inspect_config, tmp_path, no_work):
    tasks = {
        detect_task: config,
        inspect_task: inspect_config,
        study: RecurringStudyConfig(detect=config),
    }
    for task, settings in tasks.items():
        with locked(tmp_path), pytest.raises(WorkdirError, match="another run is using it"):
            task.run(settings, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("task", ["detect", "inspect", "study"])
def test_a_workdir_that_is_a_file_ends_before_the_work(config, inspect_config, tmp_path, no_work, task):
    place = tmp_path / "file"
    place.write_text("mine")
    settings = {"detect": config, "inspect": inspect_config, "study": RecurringStudyConfig(detect=config)}[task]
    with pytest.raises(WorkdirError, match="it is a file"):
        {"detect": detect_task, "inspect": inspect_task, "study": study}[task].run(settings, str(place))
    assert place.read_text() == "mine"


def test_a_bank_that_cannot_be_written_ends_before_the_work(config, tmp_path, no_work):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "bank.safetensors", tmp_path / "directory.safetensors"):
        (tmp_path / "directory.safetensors").mkdir(exist_ok=True)
        settings = dataclasses.replace(config, bank=BankConfig(save=str(place)))
        with pytest.raises(ConfigError, match="config.bank.save: .* cannot be written"):
            detect_task.run(settings, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_cache_that_cannot_be_written_ends_before_the_work(config, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    settings = dataclasses.replace(config, data=dataclasses.replace(config.data, cache=str(tmp_path / "file")))
    monkeypatch.setattr(Extractor, "forward", full)
    with pytest.raises(ConfigError, match="config.data.cache: .* cannot be used"):
        detect_task.run(settings, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "scores.csv").exists()


@pytest.mark.parametrize(
    "place",
    [
        "codegraph_jax.report.results.write_csv",
        "codegraph_jax.report.serialise.np.lib.format.write_array_header_1_0",
        "codegraph_jax.report.photo_images.Image.Image.save",
        "codegraph_jax.report.results.write_page",
    ],
)
def test_a_full_disk_is_one_line_and_the_rerun_resumes(config, tmp_path, monkeypatch, capsys, place):
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        with pytest.raises(WorkdirError, match=r"cannot be written \(No space left on device\)"):
            detect_task.run(config, str(tmp_path))
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert REPORT not in left and MANIFEST not in left
    assert not [name for name in left if name.startswith(".partial-")]
    detect_task.run(config, str(tmp_path))
    assert "plate: was finished before the interruption" in capsys.readouterr().out
    assert contents(tmp_path)["report.html"]


def test_a_full_disk_under_the_bank_is_one_line(config, tmp_path, monkeypatch):
    settings = dataclasses.replace(config, bank=BankConfig(save=str(tmp_path / "bank.safetensors")))
    monkeypatch.setattr("codegraph_jax.core.tensors.save_file", full)
    with pytest.raises(WorkdirError, match=r"bank.safetensors: cannot be written \(No space left"):
        detect_task.run(settings, str(tmp_path / "run"))
    assert not list(tmp_path.glob("*bank*"))


def test_photos_of_a_small_set_are_unknown(config, tmp_path, capsys):
    threshold = dataclasses.replace(config.threshold, rule="score:1.99")
    few = dataclasses.replace(config.data, layout="folder", root=f"{config.data.root}/plate/test/good", categories=())
    (outcome,) = detect_task.run(dataclasses.replace(config, threshold=threshold, data=few), str(tmp_path / "run"))
    assert len(outcome.samples) < 12 and set(outcome.result.verdicts) == {"unknown"}
    printed = capsys.readouterr().out
    assert "photos are too few for reliable verdicts: use at least 12" in printed
    assert f"0 of {len(outcome.samples)} photos flagged, {len(outcome.samples)} unknown" in printed
    rows = (tmp_path / "run" / "scores.csv").read_text().splitlines()
    assert all(",unknown," in row for row in rows[1:])
    assert status_of([outcome]) == TOO_FEW
    flagged = np.arange(len(outcome.samples)) == 0
    one = dataclasses.replace(outcome, result=dataclasses.replace(outcome.result, flagged=flagged))
    assert status_of([outcome, one]) == SOMETHING_FLAGGED
