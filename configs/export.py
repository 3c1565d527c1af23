"""Exports a compact bank with its weights as one file that runs without this project, such as on an edge device.

    pip install flatbuffers
    codegraph export parts.safetensors parts.stablehlo
    python exported_scorer.py parts.stablehlo picture.npy

The program (StableHLO, by jax.export) takes a resized photo, uint8 [S, S, 3], and returns its score, whether it is
flagged, and the scores of its patches, on CPUs and NVIDIA GPUs. exported_scorer.py, written beside it, loads it with
jax, flatbuffers and numpy. The file holds the weights, and features from which much of the photos can be guessed.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import ExportConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(ExportConfig())
