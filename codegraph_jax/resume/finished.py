"""Saves the result of a finished category in one file of arrays and JSON; values are restored bit for bit."""

from pathlib import Path

from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors
from codegraph_jax.result import DetectionResult


def write_result(path: Path, result: DetectionResult) -> None:
    """Writes a result without its bank.

    Raises:
        OSError: the file cannot be written.
    """
    write_tensors(path, *result.parts())


def read_result(path: Path) -> DetectionResult:
    """The result from a file of `write_result`.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedTensorsError: the file is damaged or has another format.
    """
    arrays, about = read_tensors(path)
    try:
        return DetectionResult.of_parts(arrays, about)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedTensorsError(f"{type(error).__name__}: {error}") from None
