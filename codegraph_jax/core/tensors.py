"""Arrays in safetensors files with a digest over the whole content.

The digest covers the names, types, shapes and bytes of the arrays and the metadata. A file that was truncated, changed
or swapped does not match its digest and counts as damaged.

The safetensors library limits the header to 100 MB, checks declared shapes against the file size, and maps the file, so
a damaged file cannot cause a large allocation. It raises many kinds of errors (`READ_ERRORS`).
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
"""Errors that reading a damaged or hostile safetensors file raises; an unknown type is an AttributeError."""

METADATA_KEY = "piece"
"""The only metadata key; safetensors writes several keys in no fixed order."""


class DamagedTensorsError(Exception):
    """The file was not written by `write_tensors`, or was changed since."""


def write_tensors(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], about: Any = None) -> None:
    """Writes arrays and metadata.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(about, allow_nan=False)
    with whole_file(path) as name:
        try:
            save_file(arrays, name, {METADATA_KEY: f"{content_digest(arrays, text)} {text}"})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the metadata of a file from `write_tensors`.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedTensorsError: the file is damaged or has another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            digest, text = (file.metadata() or {})[METADATA_KEY].split(" ", 1)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest != content_digest(arrays, text):
            raise DamagedTensorsError("its digest does not match")
        return arrays, json.loads(text)
    except FileNotFoundError:
        raise
    except (*READ_ERRORS, KeyError) as error:
        raise DamagedTensorsError(f"{type(error).__name__}: {error}") from None


def content_digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """Digest of the names, types, shapes and bytes of arrays, and of a text."""
    digest = blake2b(text.encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
