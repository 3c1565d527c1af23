"""Which devices work on a run, and how one device's function is spread over them.

Everything that runs on several devices is written once, as the function of a single device; `DeviceMesh.spread` runs it
on all of them, by `jax.shard_map` under `jit` or by `jax.pmap`, with the same numbers. Arrays that belong to the
devices have a leading axis with one entry a device.
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
"""Name of the one mesh axis: images are split over it."""


@dataclass(frozen=True)
class DeviceMesh:
    """Devices that share the work, in the order of their processes, and the way to reach them."""

    devices: tuple[jax.Device, ...]
    backend: str = "shard_map"

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def local(self) -> "DeviceMesh":
        """The members that this process feeds."""
        return DeviceMesh(tuple(d for d in self.devices if d.process_index == jax.process_index()), self.backend)

    @property
    def first(self) -> "DeviceMesh":
        """One device, as each has when it works alone."""
        return DeviceMesh(self.devices[:1], self.backend)

    @property
    def spans_processes(self) -> bool:
        return len(self.local) < len(self)

    @property
    def sharding(self) -> NamedSharding:
        """One entry of the leading axis on each device."""
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,)), P(AXIS))

    def spread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` on every device at once.

        Args:
            function: of one device's arrays, without the device axis; with several devices it may use collectives over
                `AXIS`.

        Returns:
            A compiled function of arrays with a leading device axis. Keep it: each call of `spread` compiles anew.
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

    def place(self, shards: Sequence[Any]) -> Any:
        """One pytree for each device of this process, as a pytree of arrays with the device axis."""

        def place_leaf(*parts: Any) -> Array:
            shards = [to_device(np.asarray(x)[None], d) for x, d in zip(parts, self.local.devices, strict=True)]
            shape = (len(self), *shards[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.sharding, shards)

        return jax.tree.map(place_leaf, *shards)

    def copy_to_all(self, tree: Any) -> Any:
        """The same pytree on every device of this process."""
        return self.place([tree] * len(self.local))


def device_mesh(config: DevicesConfig) -> DeviceMesh:
    """The devices that the settings ask for, of every process.

    Raises:
        ConfigError: more devices than a process has.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    fewest = min(len(devices) for devices in by_process.values())
    if config.devices > fewest:
        raise ConfigError(f"config.parallel.devices: {config.devices} are asked for, {fewest} are here")
    chosen = [d for _, devices in sorted(by_process.items()) for d in devices[: config.devices or None]]
    return DeviceMesh(tuple(chosen), config.backend)
