"""What a line has judged, as a table: parts.csv with a row for each part. The line may be at work meanwhile.

codegraph parts runs/line --out=runs/table
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import PartsConfig


def get_config() -> ConfigDict:
    return to_config_dict(PartsConfig())
