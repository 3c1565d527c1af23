"""A backbone of four blocks instead of twelve, since tests would mostly compile the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from codegraph_jax.backbones.presets import PRESETS

NAME, DEPTH = "dinov2-small", 4


@contextmanager
def shallow_backbone() -> Iterator[None]:
    """Shortens the preset `dinov2-small`."""
    preset = PRESETS[NAME]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, NAME, replace(preset, architecture=replace(preset.architecture, depth=DEPTH)))
        yield
