"""OECL in JAX: contrastive training with outlier exposure, scored by the norm of the features (arXiv:2312.15288)."""
