"""Checks, before any slow work, that all processes of a run got the same settings, images and weights."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import jax

from codegraph_jax.backbones import weights_identity
from codegraph_jax.config import Config
from codegraph_jax.consistency.review import Review
from codegraph_jax.core.arrays import evenly
from codegraph_jax.core.json_fields import plain
from codegraph_jax.core.settings import settings_of, value_at
from codegraph_jax.data.decoding import page_of
from codegraph_jax.data.samples import Sample
from codegraph_jax.distributed import processes

MAY_DIFFER = {
    "config.review",
    "config.data.root",
    "config.data.add",
    "config.data.cache",
    "config.data.roi",
    "config.backbone.weights",
}
"""Settings that may differ between hosts, where the same files may have other paths; `config.resources` may too."""

SAMPLED = 32
"""Number of images, spread evenly over the run, whose file contents are compared."""


def check_agreement(
    config: Config, categories: Mapping[str, Sequence[Sample]], weights_name: str, review: Review | None = None
) -> None:
    """Compares settings, weights and images between processes: all names and file sizes, and the content of some files.

    Raises:
        UserError: in every process, if one differs; names the process and the difference.
    """
    if jax.process_count() == 1:
        return
    facts = _settings(config) | {"the categories": list(categories)}
    for category, samples in categories.items():
        facts[f"the image names in category {category!r}"] = _digest(sample.name for sample in samples)
        facts[f"the image files (by their sizes) in category {category!r}"] = _digest(_size(s.path) for s in samples)
    facts["the weights"] = weights_identity(weights_name)
    facts["the review"] = _digest([json.dumps(review.as_json())] if review else [])
    photos = [*itertools.chain.from_iterable(categories.values())]
    for sample in (photos[i] for i in evenly(len(photos), SAMPLED)):
        facts[f"the content of image {sample.name!r} in category {sample.category!r}"] = _content(sample.path)
    processes.require_equal(facts)


def _settings(config: Config) -> dict[str, Any]:
    """Settings that must be the same on all hosts, by path."""
    values = dataclasses.asdict(config)
    paths = [f"config.{setting.path}" for setting in settings_of(Config, without_flag=True)]
    same = [path for path in paths if path not in MAY_DIFFER and not path.startswith("config.resources.")]
    return {path: plain(value_at({"config": values}, path)) for path in same}


def _size(path: str) -> str:
    try:
        return str(Path(page_of(path)[0]).stat().st_size)
    except (OSError, ValueError):
        return "unreadable"


def _content(path: str) -> str:
    try:
        photo = Path(page_of(path)[0])
        # reading a pipe would block forever
        if photo.is_file():
            with photo.open("rb") as file:
                return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except (OSError, ValueError):
        pass
    return "unreadable"


def _digest(texts: Any) -> str:
    digest = blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()
