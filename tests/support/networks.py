"""The network of tests: `dinov2-small` with random weights on small images, and detectors and banks with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codegraph_jax.backbones.presets import PRESETS
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BackboneConfig, BankConfig, Config, ParallelConfig
from codegraph_jax.detector import CoDeGraph

NAME, DEPTH = "dinov2-small", 4
RANDOM_FLAGS = (f"--config.backbone.name={NAME}", "--config.backbone.weights=random", "--config.backbone.image_size=56")


@contextmanager
def shallow_backbone() -> Iterator[None]:
    """Shortens the preset `dinov2-small` from twelve blocks to four, since tests would mostly compile the others."""
    preset = PRESETS[NAME]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, NAME, replace(preset, architecture=replace(preset.architecture, depth=DEPTH)))
        yield


def random_backbone(image_size: int = 56, blocks: tuple[int, ...] = (1, 3), **settings: Any) -> BackboneConfig:
    """The network with random weights, of which two blocks are compared."""
    return BackboneConfig(name=NAME, weights="random", image_size=image_size, blocks=blocks, **settings)


def random_config(**groups: Any) -> Config:
    """The settings of a detection with this network on one device; `groups` replace groups of settings."""
    return Config(**{"backbone": random_backbone(), "parallel": ParallelConfig(devices=1)} | groups)


def small_bank(images: Sequence[np.ndarray], **settings: Any) -> ReferenceBank:
    """The reference bank of a set: a compact one of 64 patches, unless `settings` of the bank say otherwise."""
    bank = BankConfig(**settings or {"kind": "compact", "patch_count": 64})
    result = CoDeGraph(random_config()).detect(images, bank=bank)
    assert result.bank
    return result.bank
