"""Scores photos with an exported bank; needs jax, numpy and flatbuffers.

    python exported_scorer.py parts.stablehlo photo.npy ...
    score = load("parts.stablehlo"); greatest, flagged, patches = score(photo)

A photo is uint8 [S, S, 3], RGB, resized with antialiasing (Pillow's bicubic or bilinear filter, as the export printed).
`greatest` is the score of the photo, `flagged` whether it reaches the threshold, `patches` [h, w] the patch scores.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax import export

DIGEST = 16
"""Bytes at the end of the file."""


def load(path: str) -> Callable[[np.ndarray], tuple[float, bool, np.ndarray]]:
    """Loads the scorer from a file; the first call compiles it for the default device."""
    data = Path(path).read_bytes()
    program, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.blake2b(program, digest_size=DIGEST).digest() != digest:
        raise ValueError(f"{path}: is damaged, or is not an exported program")
    exported = export.deserialize(bytearray(program))
    call, (wanted,) = jax.jit(exported.call), exported.in_avals

    def score(picture: np.ndarray) -> tuple[float, bool, np.ndarray]:
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.shape != wanted.shape:
            raise ValueError(f"a photo must be uint8 {wanted.shape}, got {picture.dtype} {picture.shape}")
        greatest, flagged, patches = call(picture)
        if not np.isfinite(greatest):
            raise ValueError("the score is not a finite number")
        return float(greatest), bool(flagged), np.asarray(patches)

    return score


if __name__ == "__main__":
    scorer = load(sys.argv[1])
    for file in sys.argv[2:]:
        greatest, flagged, _ = scorer(np.load(file, allow_pickle=False))
        print(f"{file}: {greatest:.4f}{' flagged' if flagged else ''}")
