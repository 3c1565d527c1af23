"""An HTTP server that judges parts, and a page that shows them as they come.

    codegraph serve parts.safetensors --out=runs/line
    curl --data-binary @part.jpg -H "Content-Type: image/jpeg" -H "Idempotency-Key: 4711" http://127.0.0.1:8000/parts

`codegraph doctor` says which packages it needs besides. The page is http://127.0.0.1:8000; /openapi.json describes all
requests, /metrics is for Prometheus. The server listens on this machine alone. Elsewhere it asks for a token:

    codegraph serve parts.safetensors --out=runs/line --host=0.0.0.0 --config.serve.token_file=token.txt

With --config.watch.root=DIR it watches a folder too, as `codegraph watch` does. Verdicts are kept in line.sqlite of the
workdir and pictures that were sent in pictures/ beside it (docs/line.md).
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import ServeConfig


def get_config() -> ConfigDict:
    return to_config_dict(ServeConfig())
