"""Watches a folder and inspects new photos of parts as soon as they are complete.

    codegraph watch parts.safetensors /photos/of/the/line --out=runs/line

Photos that are already in the folder are inspected first, by time; then every new file, until the command is
interrupted. Verdicts, alarms and the state of the monitors are stored in line.sqlite in the workdir, from which the
next start resumes: no part is inspected twice, and none is missed (docs/line.md). A file that cannot be read is listed
as failed, with the reason. Network shares send no events for new files: use --config.watch.events=poll there.

    codegraph parts runs/line --out=runs/table      (all parts as CSV)
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import WatchConfig


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(WatchConfig())
