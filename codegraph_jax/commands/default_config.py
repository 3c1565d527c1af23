"""The config of the commands that have none in configs/: the defaults of their settings."""

from ml_collections import ConfigDict

from codegraph_jax.commands.launch import settings_class
from codegraph_jax.config import to_config_dict


def get_config(task: str) -> ConfigDict:
    """The settings of a task."""
    return to_config_dict(settings_class(task)())
