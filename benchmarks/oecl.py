"""Speed of training: the whole step, its augmentation, its network, and the same network in PyTorch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peaks import product_peak
from benchmarks.records import Record, record
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.core.timing import interleaved
from contrastive_jax.config import ModelConfig, OeclConfig, OeclDataConfig, TrainConfig
from contrastive_jax.data.feeding import Feeder
from contrastive_jax.network.resnet import BLOCKS, build_network
from contrastive_jax.training.mesh import BATCH_AXIS, put_on_mesh, run_mesh
from contrastive_jax.training.state import TrainState, build_optimizer, initial_state
from contrastive_jax.training.step import build_train_call, loss_of_views
from contrastive_jax.views.augment import augment_batch

STEPS = 1 << 20
"""Steps of the run, so many that the learning rate is constant in the measurement."""
STORED = 2048
"""Number of drawn images of each kind."""
TORCH = "network, torch float32"
"""Name of the row of PyTorch."""


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Times training on drawn images with each precision, and the same network in PyTorch if torch is installed.

    A step runs on all devices; its parts are timed on one.
    """
    if config.published:
        model, data, batch = ModelConfig(), OeclDataConfig(), TrainConfig().batch_size
    else:
        model, batch = ModelConfig(width=sizes.width), sizes.batch_size
        data = OeclDataConfig(stored_size=sizes.stored_size, image_size=sizes.view_size)
    functions: dict[str, Callable[[], Any]] = {}
    for dtype in config.precisions:
        typed = dataclasses.replace(model, dtype=dtype)
        training = OeclConfig(data=data, model=typed, train=TrainConfig(batch_size=batch))
        functions[f"step, {dtype}"], steps = _step(training)
        functions[f"network, {dtype}"] = _network(training)
    functions["augmentation"] = _augmentation(training)
    # two views of each normal and each OE image
    views = 4 * batch
    if config.torch and (torch := _torch(training, views)):
        functions[TORCH] = torch
    times = interleaved(functions, config.repeats)
    # the backward pass costs twice the forward pass
    flop = 3.0 * views * forward_flops(model, data.image_size)
    records = []
    for name, timing in times.items():
        what, _, precision = name.partition(", ")
        peak = product_peak(precision) if precision in config.precisions else None
        if what == "step":
            images = steps * batch
            records.append(
                record("oecl", name, timing, images, "normal images", steps * flop, peak, jax.device_count())
            )
        elif what == "network":
            speedup = times[TORCH].seconds / timing.seconds if TORCH in times else None
            records.append(record("oecl", name, timing, batch, "normal images", flop, peak, speedup=speedup))
        else:
            records.append(record("oecl", name, timing, views, "views"))
    return records


def forward_flops(config: ModelConfig, image_size: int) -> int:
    """Floating point operations (two per multiply-add) of the convolutions and the head for one image."""
    width, side, operations = config.width, image_size, 0
    if config.stem == "cifar":
        operations += side * side * 9 * 3 * width
    else:
        side = -(-side // 2)
        operations += side * side * 49 * 3 * width
        side = -(-side // 2)
    channels = width
    for stage, blocks in enumerate(BLOCKS):
        out = width * 2**stage
        for block in range(blocks):
            if stage > 0 and block == 0:
                side = -(-side // 2)
            operations += side * side * 9 * out * (channels + out)
            if channels != out:
                operations += side * side * channels * out
            channels = out
    return 2 * (operations + channels * (channels + config.head_dim))


def _drawn(config: OeclConfig, seed: int) -> np.ndarray:
    size = config.data.stored_size
    return np.random.default_rng(seed).integers(0, 256, (STORED, size, size, 3), np.uint8)


def _start(config: OeclConfig) -> tuple[Any, optax.GradientTransformation, TrainState]:
    """Network, optimiser and initial state, on the devices."""
    network = build_network(config.model, config.train.objective, BATCH_AXIS)
    optimizer = build_optimizer(config.train, STEPS)
    return network, optimizer, put_on_mesh(initial_state(network, optimizer, config.data.image_size, 0), run_mesh())


def _step(config: OeclConfig) -> tuple[Callable[[], Any], int]:
    """A call of the trainer's program on images in the device's memory, and its number of steps."""
    network, optimizer, state = _start(config)
    feeder = Feeder(config, _drawn(config, 0), _drawn(config, 1), run_mesh())
    call = build_train_call(config, network, optimizer, STEPS, run_mesh(), feeder.on_device)
    images, rows, count = next(iter(feeder.epoch(0)))
    states = [state]

    def step() -> Any:
        states[0], logged = call(states[0], images, rows, count, np.uint32(0))
        return logged

    return step, int(count)


def _network(config: OeclConfig) -> Callable[[], Any]:
    """Loss and gradient of given views, on one device."""
    network = build_network(config.model, config.train.objective)
    state = initial_state(network, build_optimizer(config.train, STEPS), config.data.image_size, 0)
    rng, size = np.random.default_rng(2), config.data.image_size
    shape = (2, config.train.batch_size, size, size, 3)
    normal, oe = (list(jnp.asarray(rng.normal(size=shape), jnp.float32)) for _ in range(2))
    valid = jnp.ones(config.train.batch_size, bool)

    @jax.jit
    def gradient(params: Any, normal: list[jax.Array], oe: list[jax.Array]) -> Any:
        def loss(params: Any) -> Any:
            return loss_of_views(config, network, params, state.batch_stats, normal, oe, jnp.float32(1), valid)

        return jax.grad(loss, has_aux=True)(params)

    return lambda: gradient(state.params, normal, oe)


def _augmentation(config: OeclConfig) -> Callable[[], Any]:
    """The augmentation of the views of a step."""
    count = 4 * config.train.batch_size
    images, keys = jnp.asarray(_drawn(config, 0)), jax.random.split(jax.random.key(0), count)

    @jax.jit
    def draw(images: jax.Array, keys: jax.Array) -> jax.Array:
        taken = images[jnp.arange(count) % len(images)]
        return augment_batch(keys, taken, config.augment, config.data.image_size)

    return lambda: draw(images, keys)


def _torch(config: OeclConfig, views: int) -> Callable[[], Any] | None:
    """Loss and gradient of the same number of views in plain PyTorch; None without torch."""
    try:
        from benchmarks import oecl_baseline
    except ImportError:
        return None
    return oecl_baseline.gradient(config.model, config.data.image_size, views, config.train.batch_size)
