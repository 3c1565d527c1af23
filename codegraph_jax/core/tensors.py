"""Arrays on disk that a later run may trust: safetensors, with a digest over everything.

The digest covers the names, types, shapes and bytes of the arrays and what the file says of itself. A file that was cut
off, changed or swapped does not fit its digest and counts as damaged; nothing in it is run.

The library bounds the header (100 MB), checks declared shapes against the size of the file, and maps the file, so that
nothing is allocated that it does not hold. Its errors are many, though: a type that NumPy lacks is an AttributeError.
"""

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegraph_jax.core.files import whole_file

READ_ERRORS = (SafetensorError, OSError, ValueError, TypeError, AttributeError, OverflowError)
"""All that a damaged or hostile safetensors file was seen to raise, and their kin."""

KEY = "piece"
"""Metadata of the file: one entry, since safetensors writes several in no fixed order."""


class DamagedTensors(Exception):
    """The file is not what `write_tensors` has written."""


def write_tensors(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], about: Any = None) -> None:
    """Writes arrays, and what they are.

    Args:
        path: the file; one that is there is replaced.
        arrays: by name.
        about: whatever JSON can hold.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(about, allow_nan=False)
    with whole_file(path) as name:
        try:
            save_file(arrays, name, {KEY: f"{_digest(arrays, text)} {text}"})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays of a file that `write_tensors` has written, and what it says of itself.

    Raises:
        FileNotFoundError: there is none.
        DamagedTensors: there is something else.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            digest, text = (file.metadata() or {})[KEY].split(" ", 1)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest != _digest(arrays, text):
            raise DamagedTensors("its digest does not fit")
        return arrays, json.loads(text)
    except FileNotFoundError:
        raise
    except (*READ_ERRORS, KeyError) as error:
        raise DamagedTensors(f"{type(error).__name__}: {error}") from None


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    digest = blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
