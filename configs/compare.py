"""Compares two finished runs on the same photos: ranks, flags, metrics and settings. Takes seconds.

codegraph compare runs/first runs/second

Prints the differences and writes compare.html.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import CompareConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(CompareConfig())
