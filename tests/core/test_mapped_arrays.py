import errno
import os
import tempfile

import ml_dtypes
import numpy as np
import pytest

from codegraph_jax.core import mapped_arrays
from codegraph_jax.core.mapped_arrays import mapped
from codegraph_jax.core.settings import ConfigError


@pytest.fixture(autouse=True)
def tmpdir_of_the_test(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_mapped_array_leaves_no_files(tmp_path):
    table = mapped((2, 2, 4))
    table.fill(np.inf)
    assert isinstance(table, np.memmap) and np.isinf(table).all()
    assert list(tmp_path.iterdir()) == []


def refuse_to_reserve(monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)


def test_a_disk_without_room_is_noticed_when_the_file_is_made(monkeypatch, tmp_path):
    refuse_to_reserve(monkeypatch, errno.ENOSPC)
    with pytest.raises(ConfigError, match="TMPDIR: .* cannot be written to .*: No space left"):
        mapped((2, 2, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_file_system_without_reservation_works(monkeypatch, code):
    refuse_to_reserve(monkeypatch, code)
    table = mapped((2, 2, 4))
    table.fill(1.0)
    assert isinstance(table, np.memmap) and table.sum() == 16


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve")
def test_mapped_array_reserves_its_room(monkeypatch):
    taken, reserve = [], mapped_arrays._reserve

    def watched(file, size):
        reserve(file, size)
        taken.append(os.fstat(file).st_blocks * 512)

    monkeypatch.setattr(mapped_arrays, "_reserve", watched)
    mapped((1000, 1000), ml_dtypes.bfloat16)
    assert taken[0] >= 2_000_000


def test_a_directory_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="TMPDIR: .*absent"):
        mapped((2, 2, 4))
