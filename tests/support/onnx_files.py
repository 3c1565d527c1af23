"""Small ONNX files."""

import numpy as np

from codegraph_jax.backbones.onnx_reader import _model_class

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def onnx_file(dims: tuple[int, ...] = (2, 3), data_type: int = 1) -> bytes:
    """An ONNX file with one initialiser."""
    model = _model_class()()
    model.graph.initializer.add(name="w", dims=dims, data_type=data_type, raw_data=VALUES.tobytes())
    model.graph.node.add(op_type="MatMul", input=["x", "w"], output=["y"])
    data: bytes = model.SerializeToString()
    return data


SMALL = onnx_file()
