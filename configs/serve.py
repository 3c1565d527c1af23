"""An HTTP server that inspects parts, with a web page of the results.

    codegraph serve parts.safetensors --out=runs/line
    curl --data-binary @part.jpg -H "Content-Type: image/jpeg" -H "Idempotency-Key: 4711" http://127.0.0.1:8000/parts

`codegraph doctor` lists the packages that it needs. The page is http://127.0.0.1:8000; /openapi.json describes all
requests, /metrics is for Prometheus. By default, the server accepts requests from this computer only. Other addresses
need a token:

    codegraph serve parts.safetensors --out=runs/line --host=0.0.0.0 --token-file=token.txt

With --watch=DIR it also watches a folder, as `codegraph watch` does. Verdicts are stored in line.sqlite in
the workdir, and photos that were sent in received/ (docs/line.md).
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import ServeConfig


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(ServeConfig())
