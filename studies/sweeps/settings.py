"""Changed settings by their dotted paths."""

import copy
from collections.abc import Mapping
from typing import Any

from codegraph_jax.core.settings import ConfigError, setting_at


def with_settings(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with some values replaced, by their dotted paths.

    Raises:
        ConfigError: there is no such setting.
    """
    copied = copy.deepcopy({**values})
    for path, value in changes.items():
        above, _, name = path.rpartition(".")
        try:
            group = setting_at(copied, above) if above else copied
            group[name]  # noqa: B018  it must exist
        except (KeyError, TypeError):
            raise ConfigError(f"config.{path}: no such setting") from None
        group[name] = value
    return copied
