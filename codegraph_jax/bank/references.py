"""The references of a bank: whole images (`bank.exact`), or a pool of patches (`bank.pool`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from codegraph_jax.bank.exact import ReferenceImages
from codegraph_jax.bank.pool import Pool
from codegraph_jax.config import Config, FeatureConfig, SimilarityConfig
from codegraph_jax.core.settings import read_config
from codegraph_jax.similarity.kernels import distance_options

References = ReferenceImages | Pool
KINDS: dict[str, type[ReferenceImages] | type[Pool]] = {"exact": ReferenceImages, "compact": Pool}
"""Classes of references by `config.bank.kind`."""


def content_of(references: References, dtype: DTypeLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and settings of references, on which all scores depend; patch tokens or vectors in `dtype`.

    `references_of` restores them.
    """
    tensors, about = references.content()
    tensors |= {f"layer{k}": np.asarray(layer).astype(dtype) for k, layer in enumerate(references.layers)}
    tensors["additions"] = references.addition_numbers
    options = {name: getattr(references.options, name) for name in ("degrees", "radius", "masked", "precision")}
    return tensors, about | options | {"layers": len(references.layers)}


def references_of(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any], grid: tuple[int, int]) -> References:
    """The references from the values of `content_of`; malformed ones raise KeyError, TypeError or ValueError."""
    radius = about["radius"]
    if type(radius) is not int or radius < 0:
        raise ValueError(f"radius: expected a number of patches, got {radius!r:.80}")
    similarity = SimilarityConfig(radius=radius or "all")
    precision = read_config(Config, {"precision": about["precision"]}).precision
    degrees = read_config(FeatureConfig, {"degrees": about["degrees"]}, "features").degrees
    options = distance_options(similarity, precision, degrees, grid, bool(about["masked"])).unfused()
    layers = [tensors[f"layer{k}"] for k in range(int(about["layers"]))]
    return KINDS[about["kind"]].from_content(options, layers, tensors["additions"].astype(int), tensors, about)
