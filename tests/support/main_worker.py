"""`python -m tests.support.main_worker SECONDS FLAGS`: main.py with a shorter wait for other processes."""

import runpy
import sys

from codegraph_jax.distributed import processes
from tests.support import ROOT

if __name__ == "__main__":
    processes.CONNECT_SECONDS = int(sys.argv.pop(1))
    sys.argv[0] = str(ROOT / "main.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
