"""A compact bank with its weights as one file that needs nothing of this project: for an edge device, another service.

    pip install flatbuffers
    codegraph export parts.safetensors parts.stablehlo
    python exported_scorer.py parts.stablehlo picture.npy

The program (StableHLO, by jax.export) takes a resized picture, uint8 [S, S, 3], and gives its score, whether it is
flagged, and the scores of its patches, on CPUs and NVIDIA GPUs. exported_scorer.py, written beside it, loads it with
jax, flatbuffers and numpy. It holds the weights, and features from which much of the set's pictures can be guessed.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import ExportConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(ExportConfig())
