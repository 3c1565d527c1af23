"""Exports a bank and its weights as one StableHLO program (`jax.export`), which runs without this project.

The program takes a resized photo, uint8 [S, S, 3], and returns its score, whether it is flagged, and the scores of its
patches. It runs on CPUs and NVIDIA GPUs. JAX guarantees that later versions can read the file for at least six months.
"""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Bool, Float, UInt8

from codegraph_jax.bank.exported_scorer import DIGEST
from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.pool import Pool, pool_scores
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.signature import DEGREE, Signature, unit_directions
from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.core.files import whole_file
from codegraph_jax.features.aggregation import aggregate
from codegraph_jax.features.tokens import image_tokens
from codegraph_jax.scoring.maps import anomaly_maps
from codegraph_jax.scoring.scores import NAMED_SCORES

PLATFORMS = ("cpu", "cuda")
LOADER = "exported_scorer.py"


def scorer(bank: ReferenceBank) -> Callable[[UInt8[Array, "s s 3"]], tuple[Array, Array, Array]]:
    """The bank as a pure function of a resized photo, for the default device.

    Raises:
        BankError: the bank is exact, keeps the aspect of photos, inspects only a part of each photo, or tolerates short
            defects.
    """
    pool = bank.active_references
    if not isinstance(pool, Pool):
        raise BankError("an exact bank cannot be exported; make a compact one, --config.bank.kind=compact")
    for kind, unsupported, remedy in (
        ("whose photos keep their aspect", bank.frame.fit != "squeeze", "with config.backbone.fit=squeeze"),
        ("with an inspected area (config.data.roi)", bank.roi is not None, "without"),
        ("that tolerates short defects", bank.calibration.min_defect_length, "without threshold.min_defect_length"),
    ):
        if unsupported:
            raise BankError(f"a bank {kind} cannot be exported; make it {remedy}")
    backbone = bank.backbone.portable()
    prepared, grid = pool.prepared, bank.frame.grid
    known = bank.known_patterns
    variants = [pattern.signature for pattern in known if pattern.verdict == "variant"]
    defects = [pattern.signature for pattern in known if pattern.verdict == "defect" and pattern.origin == "photo"]
    contrast = NAMED_SCORES[bank.score_name].subtract_median

    def score(picture: UInt8[Array, "s s 3"]) -> tuple[Array, Array, Array]:
        mean, std = (jnp.asarray(values, jnp.float32) for values in (backbone.mean, backbone.std))
        image = (picture.astype(jnp.float32) / 255 - mean) / std
        layers, _ = image_tokens(backbone, bank.frame, image[None], None)
        tokens = tuple(layer[0].astype(bank.token_dtype) for layer in layers)
        scores = pool_scores(tokens, *prepared, pool.options)
        if variants:
            shown = jnp.stack([_shown(signature, tokens, grid) for signature in variants]).any(axis=0)
            scores = jnp.where(shown, jnp.minimum(scores, jnp.median(scores)), scores)
        scores = scores - jnp.median(scores) if contrast else scores
        maps = jnp.maximum(scores, 0).reshape(1, *grid)
        greatest = anomaly_maps(maps, bank.frame.size).max()
        flagged = greatest >= bank.calibration.threshold
        for signature in defects:
            flagged |= _shown(signature, tokens, grid).any()
        return greatest, flagged, maps[0]

    return score


def export_bank(bank: ReferenceBank, path: str) -> Path:
    """Writes a compact bank as a program, with a module in the same directory that loads it.

    Returns:
        Path of the module.

    Raises:
        BankError: see `scorer`.
        MissingPackageError: flatbuffers is not installed, which JAX needs for the export.
        OSError: a file cannot be written.
    """
    function = scorer(bank)
    try:
        import flatbuffers  # noqa: F401, PLC0415
    except ImportError:
        raise MissingPackageError("export", "flatbuffers", "app") from None
    height, width = bank.frame.size
    shape = jax.ShapeDtypeStruct((height, width, 3), jnp.uint8)
    data = export.export(jax.jit(function), platforms=PLATFORMS)(shape).serialize()
    with whole_file(path) as name:
        # JAX ignores the digest at the end of the file
        Path(name).write_bytes(data + hashlib.blake2b(data, digest_size=DIGEST).digest())
    loader = Path(path).with_name(LOADER)
    with whole_file(loader) as name:
        Path(name).write_bytes((files("codegraph_jax.bank") / LOADER).read_bytes())
    return loader


def _shown(signature: Signature, tokens: tuple[Any, ...], grid: tuple[int, int]) -> Bool[Array, " p"]:
    """`Signature.match_mask` in JAX."""
    parts = [aggregate(layer[None], DEGREE, grid)[0] for layer in tokens]
    vectors = jnp.concatenate(parts, axis=-1) / np.float32(np.sqrt(len(parts)))
    prototypes: Float[np.ndarray, "q d"] = unit_directions(signature.prototypes)
    products = jnp.matmul(vectors, prototypes.T, precision=jax.lax.Precision.HIGHEST)
    near = (jnp.maximum(1 - products, 0) / signature.outside_distances).min(axis=-1) <= signature.limit
    return near & (near.sum() >= signature.min_patch_count)
