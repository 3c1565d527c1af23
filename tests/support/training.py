"""Meshes and small configs that several tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from contrastive_jax.config import (
    EvaluationConfig,
    ExposureConfig,
    ModelConfig,
    OeclConfig,
    OeclDataConfig,
    TrainConfig,
)
from contrastive_jax.network import resnet
from contrastive_jax.training.mesh import BATCH_AXIS
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "contrastive"


def mesh_of(devices: int) -> Mesh:
    """A mesh of the first `devices` devices."""
    return jax.make_mesh((devices,), (BATCH_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


@contextmanager
def shallow_resnet() -> Iterator[None]:
    """Networks of two blocks, one with a shortcut convolution, instead of eight: they compile in about half the time.

    For tests that do not test the network; `test_golden.py` and `test_network.py` have the whole one."""
    with mock.patch.object(resnet, "BLOCKS", (1, 1)):
        yield


def small_training(objective: str = "oecl", batch_size: int = 16, **train: object) -> OeclConfig:
    """A run on drawn patterns that takes seconds."""
    return OeclConfig(
        data=OeclDataConfig(train="patterns", target="disc", stored_size=8, image_size=8),
        oe=ExposureConfig(source="patterns", split="oe", warmup=0.25),
        model=ModelConfig(width=2, head_dim=8),
        train=TrainConfig(objective=objective, batch_size=batch_size, **train),  # type: ignore[arg-type]
        evaluation=EvaluationConfig(views=2, image_count=64, batch_size=32),
    )


def nested(arrays: np.lib.npyio.NpzFile, prefix: str) -> dict:
    """The arrays under `prefix/` of a golden file as nested dicts."""
    tree: dict = {}
    for name in arrays.files:
        if name.startswith(prefix + "/"):
            *scope, leaf = name.removeprefix(prefix + "/").split("/")
            place = tree
            for key in scope:
                place = place.setdefault(key, {})
            place[leaf] = arrays[name]
    return tree
