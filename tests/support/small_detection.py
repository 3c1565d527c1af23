"""A run of one second: two categories of drawn parts, a tiny network."""

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from codegraph_jax import detector
from codegraph_jax.backbones import load_backbone
from codegraph_jax.config import Config, DataConfig, ParallelConfig
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.resume import budget
from tests.support.tiny_backbones import tiny_backbone, tiny_presets

CATEGORIES = {"gear": 14, "plate": 12}


def write_drawn_set(root: Path) -> None:
    """Both categories in MVTec's form, without masks."""
    for seed, (category, count) in enumerate(CATEGORIES.items()):
        drawn = draw_set(count, 64, seed, 0.2, (0.3,))
        for name, image in zip(drawn.names, drawn.images):
            file = root / category / "test" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def small_detection(root: Path, **changes) -> Config:
    """The settings of a run on the photos with the tiny network on one device."""
    data = DataConfig(layout="mvtec", root=str(root))
    return Config(data=data, backbone=tiny_backbone(), parallel=ParallelConfig(devices=1), **changes)


@contextmanager
def stored_at_once() -> Iterator[None]:
    """The tiny network, loaded (and so compiled) once; all intermediate results are stored, even quick ones."""
    with tiny_presets(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "load_backbone", functools.cache(load_backbone))
        patch.setattr(budget, "WRITING_SHARE", 1e6)
        yield


def contents(workdir: Path) -> dict:
    """All files of a workdir; of manifest and report all but the times, the command and the memory."""
    files: dict = {str(p.relative_to(workdir)): p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    for name in ("seconds", "peak_memory_bytes", "date", "command"):
        del manifest[name]
    if "report.html" in files:
        said = rb'<p class="run">.*?</p>|<code id="command">.*?</code>'
        files["report.html"] = re.sub(said, b"", files["report.html"])
    return files | {"manifest.json": manifest}
