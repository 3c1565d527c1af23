"""Reads the weights in an ONNX file with protobuf, without the onnx package and without running the model."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from codegraph_jax.backbones.errors import UnreachableError, WeightsError
from codegraph_jax.backbones.presets import PackageSource
from codegraph_jax.backbones.safetensors_files import Checkpoint, sha256
from codegraph_jax.core.installing import install_command

# name, number, whether there are several, and type of the fields of onnx.proto3 that are read; the others are skipped
MESSAGES = {
    "Model": [("graph", 7, False, "Graph")],
    "Graph": [("node", 1, True, "Node"), ("initializer", 5, True, "Tensor")],
    "Node": [("input", 1, True, "STRING"), ("output", 2, True, "STRING"), ("op_type", 4, False, "STRING")],
    "Tensor": [
        ("dims", 1, True, "INT64"),
        ("data_type", 2, False, "INT32"),
        ("name", 8, False, "STRING"),
        ("raw_data", 9, False, "BYTES"),
    ],
}
FLOAT32 = 1
"""The only supported type of an initialiser, as a number of onnx.proto3."""


def open_package(source: PackageSource) -> Checkpoint:
    """Opens the ONNX file inside an installed package; the package's code does not run.

    Raises:
        UnreachableError: the package is not installed.
        WeightsError: the sha256 of the file differs from the expected one, or the file cannot be read.
    """
    path = source.path
    if path is None:
        reason = f"{source.requirement} is not installed"
        raise UnreachableError(f"{reason}: {source.command}", reason)
    digest = sha256([path])
    if digest != source.sha256:
        raise WeightsError(
            f"{path}: sha256 is {digest}, expected {source.sha256}; "
            + install_command([source.requirement], "--no-deps --force-reinstall")
        )
    tensors = name_onnx_tensors(*read_onnx(path))
    readers: dict[str, Callable[[], np.ndarray]] = {
        name: partial(np.asarray, tensor) for name, tensor in tensors.items()
    }
    return Checkpoint(readers, f"{source.requirement} ({path.name}, sha256 {digest})")


def read_onnx(path: str | Path) -> tuple[dict[str, np.ndarray], list[Any]]:
    """The initialisers of an ONNX file by name; and its nodes, with `op_type`, `input` and `output`.

    Raises:
        WeightsError: the file is malformed, or an initialiser is not float32 or has its data elsewhere.
    """
    try:
        graph = _model_class().FromString(Path(path).read_bytes()).graph
        return {tensor.name: _values(tensor) for tensor in graph.initializer}, list(graph.node)
    except (DecodeError, ValueError) as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or not an ONNX model; download it again") from None


def _values(tensor: Any) -> np.ndarray:
    if tensor.data_type != FLOAT32:
        raise ValueError(f"initialiser {tensor.name!r} has element type {tensor.data_type}, which is not supported")
    return np.frombuffer(tensor.raw_data, "<f4").reshape(tuple(tensor.dims))


@cache
def _model_class() -> Any:
    """The class of the protobuf message `Model` of `MESSAGES`."""
    file = FileDescriptorProto(name="onnx_initialisers.proto", package="onnx", syntax="proto3")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, several, kind in fields:
            field = described.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if several else field.LABEL_OPTIONAL
            if kind in MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".onnx.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind}")
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))


def name_onnx_tensors(tensors: dict[str, np.ndarray], nodes: list[Any]) -> dict[str, np.ndarray]:
    """Restores the names of the anonymous constants in an exported DINOv2.

    The exporter transposes the weights of Linear layers and drops their names. The name of a weight follows from the
    MatMul that reads it, as the next Add has the bias with its name. The positions are two constants, of shapes
    (1, 1, c) for the class token and (1, p, c) for the patches.
    """
    tensors = dict(tensors)
    readers_of: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers_of.setdefault(name, []).append(node)
    for node in nodes:
        weight = node.input[1] if node.op_type == "MatMul" and len(node.input) == 2 else ""
        if weight not in tensors or len(node.output) != 1:
            continue
        for add in readers_of.get(node.output[0], []):
            biases = [name for name in add.input if name in tensors and name.endswith(".bias")]
            if add.op_type == "Add" and len(biases) == 1:
                named = biases[0].removesuffix("bias") + "weight"
                if named in tensors:
                    raise WeightsError(f"two weights belong to the bias {biases[0]!r}")
                tensors[named] = tensors.pop(weight).T
                break
    token = tensors.get("backbone.embeddings.cls_token")
    if token is not None:
        anonymous = {n: t for n, t in tensors.items() if n.startswith("onnx::") and t.ndim == 3 and len(t) == 1}
        first = [n for n, t in anonymous.items() if t.shape == token.shape]
        rest = [n for n, t in anonymous.items() if t.shape[1] > 1 and t.shape[2] == token.shape[-1]]
        if len(first) == len(rest) == 1:
            parts = [tensors.pop(first[0]), tensors.pop(rest[0])]
            tensors["backbone.embeddings.position_embeddings"] = np.concatenate(parts, axis=1)
    return tensors
