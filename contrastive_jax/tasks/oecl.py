"""The task `oecl`: trains a network and tests it."""

from contrastive_jax.config import OeclConfig
from contrastive_jax.trainer import train


def run(config: OeclConfig, workdir: str) -> None:
    """Runs `trainer.train`."""
    train(config, workdir)
