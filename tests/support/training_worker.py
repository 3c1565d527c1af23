"""One process of several: `python -m tests.support.training_worker PORT PROCESSES PROCESS_ID WORKDIR [EPOCH]`.

It trains; with EPOCH it says `ready` when the epoch after that is trained and not yet kept, and goes no further.
"""

import dataclasses
import sys
import time
from typing import Any

import jax

from codegraph_jax.distributed import processes
from contrastive_jax import trainer
from contrastive_jax.config import OeclConfig
from tests.contrastive.meshes import small_config


def config() -> OeclConfig:
    """A batch that does not divide by the devices, from the host, as images are that are too many; alpha counts."""
    small = small_config(batch_size=95, epochs=2, checkpoint_every=1, learning_rate=0.01)
    return dataclasses.replace(
        small,
        data=dataclasses.replace(small.data, residence="host"),
        oe=dataclasses.replace(small.oe, warmup=0.0),
        evaluation=dataclasses.replace(small.evaluation, every=1),
    )


def main(port: str, count: str, number: str, workdir: str, after: str = "") -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    if after:
        measured, clean = [], trainer._clean_auroc

        def measure(*arguments: Any) -> float | None:
            if len(measured) == int(after) + 1:
                print("ready", flush=True)
                time.sleep(300)
            measured.append(clean(*arguments))
            return measured[-1]

        trainer._clean_auroc = measure
    with processes.joined(f"127.0.0.1:{port}", int(count), int(number)):
        trainer.train(config(), workdir)


if __name__ == "__main__":
    main(*sys.argv[1:])
