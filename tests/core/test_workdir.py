"""The workdir: held by one run, left as it was found, and told apart from what cannot be one."""

import fcntl
import logging
import os
import tempfile
from pathlib import Path

import pytest

from codegraph_jax.core.workdir import WorkdirError, locked, obstacle, sweep, written_to


@pytest.fixture
def read_only():
    """A directory that this process may not write; root may write everywhere, so it becomes somebody else."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        mighty = os.geteuid() == 0
        if mighty:
            os.seteuid(65534)
        yield Path(name)
        if mighty:
            os.seteuid(0)
        Path(name).chmod(0o755)


def test_one_run_at_a_time(tmp_path):
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(WorkdirError, match="another run is at work there; choose another --workdir"):
                locked(tmp_path).__enter__()
        assert (tmp_path / ".lock").exists(), "the refused run has removed nothing"
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_a_killed_run_has_left_holds_nobody(tmp_path):
    (tmp_path / ".lock").touch()
    with locked(tmp_path):
        pass


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    original, calls = fcntl.flock, []

    def slow(handle, how):
        if not calls:
            (tmp_path / ".lock").unlink()  # its holder ends between our opening and our locking
        calls.append(handle)
        original(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(WorkdirError, match="another run"):
            locked(tmp_path).__enter__()


def test_a_workdir_that_stays_empty_goes_again(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new" / "result").touch()
    assert (tmp_path / "new" / "result").exists()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert "cannot be locked (" in caplog.text


@pytest.mark.parametrize("below", ["", "new", "new/deeper"])
def test_a_read_only_workdir_is_refused(read_only, below):
    with pytest.raises(WorkdirError, match=r"cannot be written \(Permission denied\); choose another --workdir"):
        locked(read_only / below).__enter__()
    assert "Permission denied" in str(obstacle(read_only / below / "bank.safetensors"))


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match=r"cannot be written \(it is a file\)"):
        locked(tmp_path / "file").__enter__()
    with pytest.raises(WorkdirError, match=r"cannot be written \(Not a directory\)"):
        locked(tmp_path / "file" / "below").__enter__()
    assert "is no directory" in str(obstacle(tmp_path / "file" / "bank"))
    assert obstacle(tmp_path) == "it is a directory"
    assert obstacle(tmp_path / "a" / "b" / "bank") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refused_write_is_one_line():
    expected = r"^out: cannot be written \(No space left on device\); mend that"
    with pytest.raises(WorkdirError, match=expected), written_to("out"):
        raise OSError(28, "No space left on device")


def test_half_written_files_of_killed_runs_are_swept_and_no_others(tmp_path):
    for name in (".partial-a.csv", "maps/deep/.partial-b.png", "maps/kept.png", "other/.partial-c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path, ("maps", "absent"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["maps/kept.png", "other/.partial-c"]
