"""Reads the tensors of an ONNX file with protobuf, without the onnx package and without running the model."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from codegraph_jax.backbones.errors import WeightsError

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
