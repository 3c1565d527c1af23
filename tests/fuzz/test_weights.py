"""Checkpoints: safetensors files, their indices and settings, ONNX files."""

import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from codegraph_jax.backbones.assembly import assemble
from codegraph_jax.backbones.checkpoints import open_directory, open_file
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.onnx_reader import read_onnx
from tests.support.damage import BUDGET, EDITS, JSON, damaged
from tests.support.onnx_files import SMALL as MODEL
from tests.support.tiny_backbones import GOLDEN, TINY

WHOLE = (GOLDEN / "dinov2.safetensors").read_bytes()
SMALL = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)})
TYPES = st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "X"])
SIZES = st.sampled_from([0, 1, 2, 3, 4, 24, 2**31, 2**32, 2**62, 2**63, 2**64, -1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def read_all(path):
    """Opens a file and reads all its tensors; the documented error is accepted."""
    try:
        checkpoint = open_file(path)
        return [reader() for reader in checkpoint.readers.values()]
    except WeightsError as error:
        assert path.parent.name in str(error)
        return None


@BUDGET
@given(EDITS, st.integers(1, 10), st.booleans())
def test_damaged_safetensors_are_read_or_refused(folder, edits, keep, small):
    path = folder / "a.safetensors"
    path.write_bytes(damaged(SMALL if small else WHOLE, edits, keep, near=0 if small else 8000))
    read_all(path)
    if not small:
        with suppress(WeightsError):
            assemble(TINY["dinov2"], TINY["dinov2"].architecture, open_file(path))


@BUDGET
@given(st.dictionaries(st.text(max_size=4), st.tuples(TYPES, st.lists(SIZES, max_size=5), st.lists(SIZES)), max_size=3))
def test_hostile_headers_are_read_or_refused(folder, tensors):
    path = folder / "b.safetensors"
    header = {name: {"dtype": d, "shape": s, "data_offsets": o} for name, (d, s, o) in tensors.items()}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    read_all(path)


@BUDGET
@given(st.integers(0, 2**64 - 1), st.binary(max_size=40))
def test_hostile_header_lengths_are_read_or_refused(folder, length, rest):
    path = folder / "c.safetensors"
    path.write_bytes(struct.pack("<Q", length) + rest)
    assert read_all(path) in (None, [])


@BUDGET
@given(JSON, JSON | st.just("weight_map"), st.booleans())
def test_hostile_indices_and_settings_are_read_or_refused(folder, value, settings, deep):
    text = "[" * 100_000 if deep else json.dumps({"weight_map": value} if settings == "weight_map" else value)
    (folder / "model.safetensors.index.json").write_text(text)
    (folder / "config.json").write_text(json.dumps(settings))
    read_all(folder / "model.safetensors.index.json")
    (folder / "only").mkdir(exist_ok=True)
    (folder / "only" / "model.safetensors").write_bytes(SMALL)
    (folder / "only" / "config.json").write_text(text)
    try:
        assert isinstance(open_directory(folder / "only").settings, dict)
    except WeightsError as error:
        assert "config.json" in str(error)


@BUDGET
@given(EDITS, st.integers(1, 10))
def test_damaged_onnx_is_read_or_refused(folder, edits, keep):
    path = folder / "a.onnx"
    path.write_bytes(damaged(MODEL, edits, keep))
    try:
        read_onnx(path)
    except WeightsError as error:
        assert "a.onnx" in str(error)
