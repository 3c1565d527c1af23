"""Exports the parts of a line as parts.csv, also while the line runs.

codegraph parts runs/line --out=runs/table
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import PartsConfig


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(PartsConfig())
