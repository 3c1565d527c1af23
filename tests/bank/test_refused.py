"""Banks that would pass every part or exhaust the memory are refused on reading."""

import copy

import numpy as np
import pytest

from codegraph_jax.bank.exported_scorer import load
from codegraph_jax.bank.exporting import export_bank
from codegraph_jax.bank.file import BankError, StoredBank
from codegraph_jax.core import tensors as tensors_module
from codegraph_jax.core.tensors import read_tensors, write_tensors
from codegraph_jax.data.synthetic import draw_set
from tests.support.networks import small_bank

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The header of a bank's file, its tensors, and the bank itself."""
    bank = small_bank(list(draw_set(8, 56, 0, 0.2, ()).images))
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    bank.save(str(path))
    tensors, about = read_tensors(path)
    return about, tensors, bank


def refused(path, about, tensors, monkeypatch, match) -> None:
    # a forged bank has a valid digest, and may have NaN or Infinity in its JSON
    dumps = tensors_module.json.dumps
    monkeypatch.setattr(tensors_module.json, "dumps", lambda value, allow_nan: dumps(value))
    write_tensors(path, tensors, about)
    monkeypatch.undo()
    with pytest.raises(BankError, match=match):
        StoredBank.read(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["layer0", "layer1", "own_scores", "set_scores", "set_peak_patches"])
def test_a_bank_with_numbers_that_are_not_finite_is_refused(saved, tmp_path, monkeypatch, name, value):
    about, tensors, _ = saved
    damaged = tensors[name].copy()
    damaged.flat[-1] = value
    refused(tmp_path / "b.safetensors", about, {**tensors, name: damaged}, monkeypatch, "not finite")


@pytest.mark.parametrize("field", ["threshold", "patch_threshold", "expected_rate"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e999])
def test_bank_that_passes_everything_is_refused(saved, tmp_path, monkeypatch, field, value):
    about, tensors, _ = saved
    about = copy.deepcopy(about)
    about["calibration"][field] = value
    refused(tmp_path / "b.safetensors", about, tensors, monkeypatch, "finite")


def test_masks_and_thresholds_that_inspect_nothing_are_refused(saved, tmp_path, monkeypatch):
    about, tensors, _ = saved
    path = tmp_path / "b.safetensors"
    refused(path, about, {**tensors, "roi": np.zeros((4, 4), bool)}, monkeypatch, "nothing of a photo")
    refused(path, about, {**tensors, "removed": np.ones((3, 16), bool)}, monkeypatch, "none of its patches")
    without = copy.deepcopy(about)
    without["calibration"]["threshold"] = None
    refused(path, without, tensors, monkeypatch, "no threshold")


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [("", "degrees", [1] * 5000), ("", "degrees", list(range(1, 10_001, 2))), ("backbone", "batch_size", 10**9),
     ("backbone", "image_size", 14 * 10**8), ("frame", "grid", [10**6, 10**6])],
)  # fmt: skip
def test_a_bank_that_would_take_all_memory_is_refused(saved, tmp_path, monkeypatch, group, field, value):
    about, tensors, _ = saved
    about = copy.deepcopy(about)
    (about[group] if group else about)[field] = value
    refused(tmp_path / "b.safetensors", about, tensors, monkeypatch, "not a reference bank")


def test_a_damaged_program_is_refused(saved, tmp_path):
    _, _, bank = saved
    path = tmp_path / "bank.stablehlo"
    export_bank(bank, str(path))
    data = path.read_bytes()
    load(str(path))
    for damaged in (
        data[:-1],
        data[: len(data) // 2],
        b"",
        bytes([data[0] ^ 1]) + data[1:],
        data[:-20] + b"x" + data[-19:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            load(str(path))
