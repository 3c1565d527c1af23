"""The task `oecl`: trains a network and tests it."""

from collections.abc import Mapping
from typing import Any

from contrastive_jax.config import read_oecl_config
from contrastive_jax.trainer import train


def run(values: Mapping[str, Any], workdir: str) -> None:
    """Runs `trainer.train` with a ConfigDict, see `contrastive_jax.config.OeclConfig`."""
    train(read_oecl_config(values), workdir)
