"""Entry point: `python main.py --config=configs/mvtec.py --out=runs/mvtec --config.data.root=DIR`."""

import sys

from codegraph_jax.commands.launch import launch

if __name__ == "__main__":
    launch(sys.argv)
