"""Arrays and values in two files that any program can read: NAME.npz for NumPy and NAME.json, without pickle."""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file, write_json
from codegraph_jax.core.tensors import content_digest

READ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError, zipfile.BadZipFile,
               zlib.error)  # fmt: skip


class SavedFilesError(UserError):
    """Files are missing, damaged, do not belong together, or have another format; the message names the file."""


def write_pair(
    directory: str | os.PathLike[str], name: str, form: str, arrays: Mapping[str, np.ndarray], values: Any
) -> None:
    """Writes NAME.npz and then NAME.json, which has a digest of both.

    Args:
        directory: made if it is missing.
        name: name of the files without suffix; existing files are replaced.
        form: name of the format, with its version.
        arrays: arrays by name.
        values: any JSON value.

    Raises:
        OSError: the files cannot be written.
        ValueError: a value is infinite or not a number.
    """
    base = Path(directory)
    digest = content_digest(arrays, _text(values))
    with whole_file(base / f"{name}.npz") as path, Path(path).open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_json(base / f"{name}.json", {"format": form, "digest": digest, "values": values})


def read_pair(directory: str | os.PathLike[str], name: str, form: str) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and values of files from `write_pair`.

    Raises:
        SavedFilesError: see there.
    """
    json_file, npz_file = (Path(directory) / f"{name}{suffix}" for suffix in (".json", ".npz"))
    for file in (json_file, npz_file):
        if not file.is_file():
            raise SavedFilesError(f"{str(directory)!r}: holds no {file.name}; give the directory that `save` wrote")
    try:
        content = json.loads(json_file.read_text(encoding="ascii"))
        found, digest, values = content["format"], content["digest"], content["values"]
    except READ_ERRORS as error:
        raise SavedFilesError(
            f"{str(json_file)!r}: is damaged ({type(error).__name__}); save the result again"
        ) from None
    if found != form:
        raise SavedFilesError(
            f"{str(json_file)!r}: has the format {str(found)[:60]!r}, but this version reads {form!r}; save it again"
        )
    try:
        with np.load(npz_file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except READ_ERRORS as error:
        raise SavedFilesError(
            f"{str(npz_file)!r}: is damaged ({type(error).__name__}); save the result again"
        ) from None
    if digest != content_digest(arrays, _text(values)):
        raise SavedFilesError(
            f"{str(directory)!r}: {npz_file.name} and {json_file.name} were changed or do not belong together; "
            "save the result again"
        )
    return arrays, values


def _text(values: Any) -> str:
    return json.dumps(values, allow_nan=False)
