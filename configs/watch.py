"""A folder into which pictures of parts come: each is judged once it is whole, and the verdict is kept.

    codegraph watch parts.safetensors /photos/of/the/line --out=runs/line

What lies in the folder already is judged first, in the order of its time; then every new file, until the command is
interrupted. Verdicts, alarms and what the monitors have learnt are in line.sqlite of the workdir, from which the next
start goes on: no part is judged twice, and none is left out (docs/line.md). A file that cannot be read is listed as
failed, with its reason. Folders on network shares tell nothing of new files: --config.watch.events=poll looks for them.

    codegraph parts runs/line --out=runs/table      (all parts as CSV)
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import WatchConfig


def get_config() -> ConfigDict:
    return to_config_dict(WatchConfig())
