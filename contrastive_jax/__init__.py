"""OECL in JAX: contrastive training with outlier exposure, scored by the norm of the features (arXiv:2312.15288)."""

from contrastive_jax.config import OeclConfig, ScoreConfig
from contrastive_jax.model import OECL
from contrastive_jax.objectives import OBJECTIVES, Objective
from contrastive_jax.trainer import TrainingDivergedError, train

__all__ = ["OBJECTIVES", "OECL", "Objective", "OeclConfig", "ScoreConfig", "TrainingDivergedError", "train"]
