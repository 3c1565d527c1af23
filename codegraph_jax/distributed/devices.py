"""The devices of a run, and functions that run on all of them.

Code for several devices is written once, for a single device; `DeviceMesh.spread` runs it on all devices with
`jax.shard_map` under `jit` or with `jax.pmap`, with the same results. Arrays on the devices have a leading axis with
one entry per device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from codegraph_jax.config import DevicesConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.transfers import to_device

AXIS = "devices"
"""Name of the only mesh axis; images are split over it."""


@dataclass(frozen=True)
class DeviceMesh:
    """The devices of a run, ordered by process."""

    devices: tuple[jax.Device, ...]
    backend: str = "shard_map"

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def local(self) -> "DeviceMesh":
        """The devices of this process."""
        return DeviceMesh(tuple(d for d in self.devices if d.process_index == jax.process_index()), self.backend)

    @property
    def spans_processes(self) -> bool:
        """Whether the devices belong to several processes."""
        return len(self.local) < len(self)

    @property
    def sharding(self) -> NamedSharding:
        """One entry of the leading axis on each device."""
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,)), P(AXIS))

    def spread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function that runs on all devices at once.

        Args:
            function: takes one device's arrays, without the device axis; it may use collectives over `AXIS`.

        Returns:
            A compiled function of arrays with a leading device axis. Reuse it: every call of `spread` compiles again.
        """
        if self.backend == "pmap" and len(self) > 1:
            return jax.pmap(function, axis_name=AXIS, devices=self.devices)

        def on_shard(*shards: Any) -> Any:
            results = function(*jax.tree.map(lambda x: x[0], shards))
            return jax.tree.map(lambda x: x[None], results)

        if len(self) == 1:
            return jax.jit(on_shard)
        mesh = self.sharding.mesh
        return jax.jit(jax.shard_map(on_shard, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS), check_vma=False))

    def put_shards(self, shards: Sequence[Any]) -> Any:
        """Puts one pytree on each device of this process; returns a pytree of arrays with a device axis."""

        def put(*parts: Any) -> Array:
            shards = [to_device(np.asarray(x)[None], d) for x, d in zip(parts, self.local.devices, strict=True)]
            shape = (len(self), *shards[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.sharding, shards)

        return jax.tree.map(put, *shards)

    def copy_to_all(self, tree: Any) -> Any:
        """The same pytree on every device of this process."""
        return self.put_shards([tree] * len(self.local))


def device_mesh(config: DevicesConfig) -> DeviceMesh:
    """The devices that the settings ask for, of every process.

    Raises:
        ConfigError: more devices than a process has.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    fewest = min(len(devices) for devices in by_process.values())
    if (config.devices or 0) > fewest:
        raise ConfigError(f"config.parallel.devices: {config.devices} requested, but only {fewest} available")
    chosen = [d for _, devices in sorted(by_process.items()) for d in devices[: config.devices or None]]
    return DeviceMesh(tuple(chosen), config.backend)
