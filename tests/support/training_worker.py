"""One process of several: `python -m tests.support.training_worker PORT PROCESSES PROCESS_ID WORKDIR [stop]`.

It trains; with `stop` it prints `ready` after the first checkpoint, and stops there.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from codegraph_jax.distributed import processes
from contrastive_jax import trainer
from contrastive_jax.config import OeclConfig
from contrastive_jax.data import feeding
from contrastive_jax.training.checkpoints import Checkpoints
from tests.support.training import shallow_resnet, small_training


def config() -> OeclConfig:
    """The batch is not a multiple of the devices, its images are in host memory, and alpha has an effect."""
    small = small_training(batch_size=95, epochs=2, checkpoint_every=1)
    return dataclasses.replace(
        small,
        oe=dataclasses.replace(small.oe, warmup=0.0),
        evaluation=dataclasses.replace(small.evaluation, views=0),
    )


@contextmanager
def exactly() -> Iterator[None]:
    """Training in float64: in float32 the order of additions may determine whether ReLU passes a gradient."""
    build, begin = trainer.build_network, trainer.initial_state

    def wide(*arguments: Any) -> Any:
        state = begin(*arguments)
        return jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)

    with (
        jax.enable_x64(True),
        mock.patch.object(feeding, "max_device_bytes", lambda mesh: 0),
        mock.patch.object(trainer, "build_network", lambda *arguments: build(*arguments).clone(dtype=jnp.float64)),
        mock.patch.object(trainer, "initial_state", wide),
    ):
        yield


def main(port: str, count: str, number: str, workdir: str, stop: str = "") -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_disable_most_optimizations", True)
    keep = Checkpoints.save

    def keep_and_stop(*arguments: Any) -> None:
        keep(*arguments)
        print("ready", flush=True)
        time.sleep(300)

    if stop:
        Checkpoints.save = keep_and_stop  # type: ignore[method-assign]
    with processes.connected(f"127.0.0.1:{port}", int(count), int(number)), exactly(), shallow_resnet():
        trainer.train(config(), workdir)


if __name__ == "__main__":
    main(*sys.argv[1:])
