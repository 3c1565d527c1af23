"""Reads the tensors of an ONNX file without the onnx package and without running it.

Only the initialisers of the graph and the inputs and outputs of its nodes are read from the protobuf (onnx.proto3, IR
version 7). Every length is checked against the file size before anything is allocated.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from codegraph_jax.backbones.errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DTYPES = {1: np.dtype("<f4"), 7: np.dtype("<i8"), 10: np.dtype("<f2"), 11: np.dtype("<f8"), 16: ml_dtypes.bfloat16}
MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Node:
    """One operation: its type, and the names of its inputs and outputs."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Initialisers by name, and nodes in the order of the file."""

    tensors: dict[str, np.ndarray]
    nodes: list[Node]


def read_onnx(path: str | Path) -> Graph:
    """Reads the graph of an ONNX file.

    Raises:
        WeightsError: the file is truncated or malformed, or a tensor has external data or another type.
    """
    data = memoryview(Path(path).read_bytes())
    try:
        return parse_onnx(data)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or not an ONNX model; download it again") from None


def parse_onnx(data: memoryview) -> Graph:
    """The graph of an ONNX file in memory; tensors are views of `data`."""
    graphs = [value for number, value in _fields(data) if number == 7 and isinstance(value, memoryview)]
    if len(graphs) != 1:
        raise WeightsError(f"expected one graph, found {len(graphs)}")
    tensors: dict[str, np.ndarray] = {}
    nodes = []
    for number, value in _fields(graphs[0]):
        if number == 1:
            nodes.append(_node(_message(value)))
        elif number == 5:
            name, tensor = _tensor(_message(value))
            if name in tensors:
                raise WeightsError(f"initialiser {name!r} occurs twice")
            tensors[name] = tensor
    return Graph(tensors, nodes)


def _node(data: memoryview) -> Node:
    op, inputs, outputs = "", [], []
    for number, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            op = _text(value)
    return Node(op, tuple(inputs), tuple(outputs))


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    """The name and the values of an initialiser."""
    name, kind = "", 0
    raw: memoryview | None = None
    dims: list[int] = []
    floats: list[memoryview] = []
    for number, value in _fields(data):
        if number == 1:
            # packed, as usual in proto3, or one field per dimension
            dims.extend(_varints(value) if isinstance(value, memoryview) else [value])
        elif number == 2:
            kind = _number(value)
        elif number == 4:
            floats.append(_message(value))
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _message(value)
        elif number == 13 or (number == 14 and value != 0):
            raise WeightsError("a tensor has its data in another file")
    return name, _values(name, kind, dims, raw, floats)


def _values(name: str, kind: int, dims: list[int], raw: memoryview | None, floats: list[memoryview]) -> np.ndarray:
    if kind not in DTYPES:
        raise WeightsError(f"initialiser {name!r} has element type {kind}, which is not supported")
    if raw is None:
        if kind != 1:
            raise WeightsError(f"initialiser {name!r} has no raw data")
        raw = memoryview(b"".join(floats))
    if len(dims) > MAX_DIMENSIONS:
        raise WeightsError(f"initialiser {name!r} has {len(dims)} dimensions")
    dtype = np.dtype(DTYPES[kind])
    if math.prod(dims) * dtype.itemsize != len(raw):
        raise WeightsError(f"initialiser {name!r} of shape {tuple(dims)} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """(field number, value) of each field of a protobuf message: an int for varints, bytes for all other types."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WeightsError(f"field number 0 at byte {at}")
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WeightsError(f"wire type {wire} at byte {at}")
        if size > len(data) - at:
            raise WeightsError(f"a field of {size} bytes where {len(data) - at} are left")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WeightsError("ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WeightsError("a number of more than ten bytes")


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _message(value: "int | memoryview") -> memoryview:
    if not isinstance(value, memoryview):
        raise WeightsError("a number where bytes were expected")
    return value


def _number(value: "int | memoryview") -> int:
    if isinstance(value, memoryview):
        raise WeightsError("bytes where a number was expected")
    return value


def _text(value: "int | memoryview") -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError:
        raise WeightsError("a name that is not UTF-8") from None
