"""The workdir: locked by one run, unchanged by refused runs, and refused if it is unusable."""

import logging
import os
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from codegraph_jax.core.workdir import WorkdirError, locked, obstacle, remove_partial_files, written_to
from tests.support.processes import run_python


@pytest.fixture
def read_only():
    """A directory that this process may not write; root, who may write everywhere, becomes another user."""
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
            with pytest.raises(WorkdirError, match="another run is using it; choose another --out"):
                locked(tmp_path).__enter__()
        assert (tmp_path / ".lock").exists(), "the refused run has removed nothing"
    with locked(tmp_path):
        pass


def test_one_run_at_a_time_even_where_the_lock_file_was_deleted(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock").unlink()
        with pytest.raises(WorkdirError, match="another run is using it"):
            locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass


def test_the_lock_of_a_killed_run_blocks_no_run(tmp_path):
    (tmp_path / ".lock").touch()
    with locked(tmp_path):
        pass


def test_an_empty_workdir_is_removed_again(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new" / "result").touch()
    assert (tmp_path / "new" / "result").exists()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert "cannot be locked (" in caplog.text


def test_no_module_of_unix_alone_is_needed():
    """Simulates Windows: neither `fcntl` nor `resource`, and no free memory by sysconf."""
    code = (
        "import psutil, sys, os\n"  # which has a build for every system
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "del os.sysconf\n"
        "import pkgutil, importlib, pathlib, tempfile\n"
        "import codegraph_jax, contrastive_jax\n"
        "for package in (codegraph_jax, contrastive_jax):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith(('__main__', 'baseline')):\n"
        "            importlib.import_module(module.name)\n"
        "from codegraph_jax.core.environment import free_memory, peak_memory\n"
        "from codegraph_jax.core.workdir import locked\n"
        "with locked(pathlib.Path(tempfile.mkdtemp()) / 'work'):\n"
        "    print(free_memory() > 0, peak_memory()['host'] > 0)\n"
    )
    ended = run_python("-c", code)
    assert ended.stdout.split() == ["True", "True"], ended.stderr


@pytest.mark.parametrize("below", ["", "new", "new/deeper"])
def test_a_read_only_workdir_is_refused(read_only, below):
    with pytest.raises(WorkdirError, match=r"cannot be written \(Permission denied\); choose another --out"):
        locked(read_only / below).__enter__()
    assert "Permission denied" in str(obstacle(read_only / below / "bank.safetensors"))


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match=r"cannot be written \(it is a file\)"):
        locked(tmp_path / "file").__enter__()
    with pytest.raises(WorkdirError, match=r"cannot be written \(Not a directory\)"):
        locked(tmp_path / "file" / "below").__enter__()
    assert "is not a directory" in str(obstacle(tmp_path / "file" / "bank"))
    assert obstacle(tmp_path) == "it is a directory"
    assert obstacle(tmp_path / "a" / "b" / "bank") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refused_write_is_one_line():
    expected = r"^out: cannot be written \(No space left on device\); fix that"
    with pytest.raises(WorkdirError, match=expected), written_to("out"):
        raise OSError(28, "No space left on device")


def test_half_written_files_of_killed_runs_are_swept_and_no_others(tmp_path):
    for name in (".partial-a.csv", "maps/deep/.partial-b.png", "maps/kept.png", "other/.partial-c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_partial_files(tmp_path, ("maps", "absent"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["maps/kept.png", "other/.partial-c"]
