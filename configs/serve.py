"""An HTTP server that judges parts, and a page that shows them as they come.

    pip install -r requirements.txt "fastapi>=0.136.3" "starlette>=1.3" "python-multipart>=0.0.18" "uvicorn>=0.30" \\
        "prometheus-client>=0.20" "watchdog>=4"
    python main.py --config=configs/serve.py --config.bank.path=parts.safetensors --workdir=runs/line
    curl --data-binary @part.jpg -H "Content-Type: image/jpeg" -H "Idempotency-Key: 4711" http://127.0.0.1:8000/parts

The page is http://127.0.0.1:8000; /openapi.json describes all requests, /metrics is for Prometheus. The server listens
on this machine alone. Elsewhere it asks for a token:

    python main.py --config=configs/serve.py --config.bank.path=parts.safetensors --workdir=runs/line \\
        --config.serve.host=0.0.0.0 --config.serve.token_file=token.txt

With --config.watch.root=DIR it watches a folder too, as configs/watch.py does. Verdicts are kept in line.sqlite of the
workdir and pictures that were sent in pictures/ beside it (docs/line.md).
"""

from ml_collections import ConfigDict

from codegraph_jax.config import to_config_dict
from codegraph_jax.line.settings import ServeConfig


def get_config() -> ConfigDict:
    return to_config_dict(ServeConfig())
