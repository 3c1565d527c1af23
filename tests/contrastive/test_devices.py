"""The number of devices, the steps per call and the memory of the images change only the rounding."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from contrastive_jax import losses
from contrastive_jax.data import feeding
from contrastive_jax.data.feeding import Feeder, max_device_bytes
from contrastive_jax.data.sources import read_run_data
from contrastive_jax.evaluation.evaluate import build_scorer
from contrastive_jax.network.batch_norm import BatchNorm
from contrastive_jax.network.resnet import build_network
from contrastive_jax.training.mesh import BATCH_AXIS
from contrastive_jax.training.state import build_optimizer, initial_state
from contrastive_jax.training.step import build_train_call
from tests.support.training import mesh_of, small_training

pytestmark = pytest.mark.usefixtures("quick_training")

STEPS = 2


@functools.cache
def take_steps(config, devices):
    """Parameters, statistics and metrics after two steps in float64, in which rounding has no effect.

    In float32 an activation can be so close to 0 that the order of additions determines whether ReLU passes its
    gradient."""
    with jax.enable_x64(True):
        data, mesh = read_run_data(config), mesh_of(devices)
        network = build_network(config.model, config.train.objective, BATCH_AXIS).clone(dtype=jnp.float64)
        optimizer = build_optimizer(config.train, 100)
        state = initial_state(network, optimizer, config.data.image_size, config.seed)
        state = jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        feeder = Feeder(config, data.normal, data.oe, mesh)
        call = build_train_call(config, network, optimizer, 100, mesh, feeder.on_device)
        logged, taken = [], 0
        for images, rows, count in feeder.epoch(0):
            state, values = call(state, images, rows, np.int32(min(int(count), STEPS - taken)), np.uint32(config.seed))
            logged.append({name: np.asarray(value)[:count] for name, value in values.items()})
            taken += int(count)
            if taken == STEPS:
                break
        # full calls and a shorter one, the first state and later ones: all use one program
        assert call._cache_size() == 1
        joined = {name: np.concatenate([part[name] for part in logged]) for name in logged[0]}
        assert joined["loss"].dtype == np.float64
        return jax.tree.map(np.asarray, (state.params, state.batch_stats, joined))


def assert_equal_within(first, second, tolerance):
    """Differences within `tolerance` of each array's scale."""

    def compare(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(a).max()))

    jax.tree.map(compare, first, second)


def eager_config(objective, batch_size):
    """alpha is used from the first step on."""
    config = small_training(objective, batch_size)
    return dataclasses.replace(config, oe=dataclasses.replace(config.oe, warmup=0.0))


CONFIG = eager_config("oecl", 16)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [8, 3], ids=["divided", "padded"])
def test_several_devices_agree_with_one(devices):
    """Also if the batch of 16 is not a multiple of their number; `tests/runs/test_processes_oecl.py` trains by eight
    each time."""
    assert_equal_within(take_steps(CONFIG, 1), take_steps(CONFIG, devices), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["simclr", "self_oecl", "hsc", "bce"])
def test_several_devices_agree_with_one_with_the_other_objectives(objective):
    config = eager_config(objective, 10)
    assert_equal_within(take_steps(config, 1), take_steps(config, 4), 1e-9)


@pytest.mark.slow
def test_streamed_images_and_several_steps_in_a_call(monkeypatch):
    stored = take_steps(CONFIG, 1)
    monkeypatch.setattr(feeding, "max_device_bytes", lambda mesh: 0)
    monkeypatch.setattr(Feeder, "_max_steps_per_call", lambda feeder: 2)
    assert_equal_within(stored, take_steps.__wrapped__(CONFIG, 1), 1e-9)


def test_large_memory_holds_large_sets():
    def mesh(*limits):
        devices = [SimpleNamespace(process_index=0, memory_stats=lambda limit=limit: limit) for limit in limits]
        return SimpleNamespace(devices=np.array(devices, object))

    assert max_device_bytes(mesh_of(2)) == 2 << 30
    assert max_device_bytes(mesh({"bytes_limit": 80 << 30}, {"bytes_limit": 64 << 30})) == 16 << 30
    assert max_device_bytes(mesh({"bytes_limit": 80 << 30}, {})) == 2 << 30


def run_sharded(function, devices, *arrays):
    """`function` on rows split over devices, its results replicated."""
    mesh, split = mesh_of(devices), PartitionSpec(BATCH_AXIS)
    mapped = jax.shard_map(function, mesh=mesh, in_specs=(split,) * len(arrays), out_specs=PartitionSpec())
    return jax.jit(mapped)(*arrays)


def test_padding_rows_touch_neither_losses_nor_statistics():
    rng = np.random.default_rng(0)
    first, second = (jnp.asarray(rng.normal(size=(5, 4)), jnp.float32) for _ in range(2))
    padded = [jnp.concatenate([x, jnp.full((3, 4), 1e3)]) for x in (first, second)]
    valid = jnp.arange(8) < 5

    def padded_loss(a, b, v):
        return losses.nt_xent(a, b, 0.5, v, BATCH_AXIS) + losses.mean_norm(a, v, BATCH_AXIS)

    whole = losses.nt_xent(first, second, 0.5) + losses.mean_norm(first)
    for devices in (1, 8):
        np.testing.assert_allclose(run_sharded(padded_loss, devices, *padded, valid), whole, rtol=1e-6)

    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), first, True)
    _, expected = norm.apply(variables, first, True, mutable=["batch_stats"])

    def statistics(x, v):
        return BatchNorm(BATCH_AXIS).apply(variables, x, True, v, mutable=["batch_stats"])[1]

    assert_equal_within(run_sharded(statistics, 4, padded[0], valid), expected, 1e-6)


def test_scores_depend_on_the_image_alone():
    config = small_training()
    network = build_network(config.model, "oecl", BATCH_AXIS)
    state = initial_state(network, build_optimizer(config.train, 1), 8, 0)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)

    def score(rows, batch, devices):
        limited = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, batch_size=batch))
        scorer = build_scorer(network, limited, mesh_of(devices), 2)
        return scorer(variables, images[rows])["mean_feature"]

    whole = score(np.arange(11), 11, 1)
    shuffled = np.random.default_rng(1).permutation(11)[:7]
    np.testing.assert_allclose(score(shuffled, 4, 4), whole[shuffled], rtol=1e-5)
