"""The training step on the device: views, network, loss, gradient, update; several steps in one call.

Each device runs the step on its shard of the batch: BatchNorm and the loss sum over the mesh axis, negatives are
gathered over it, and the gradient of the replicated parameters is the sum over devices. Random keys follow from the
seed, the step and the index of an image in the global batch, so that the number of devices changes only the order of
additions.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

from contrastive_jax import losses
from contrastive_jax.config import OeclConfig
from contrastive_jax.network.resnet import ContrastiveResNet
from contrastive_jax.objectives import OBJECTIVES
from contrastive_jax.training.mesh import BATCH_AXIS
from contrastive_jax.training.state import TrainState
from contrastive_jax.views.augment import augment_batch, rotate

NORMAL_ROTATIONS, OE_ROTATIONS = (0, 90), (180, 270)
"""Degrees by which `self_oecl` rotates normal views, each an instance of its own, and by which it rotates them
to make OE views [arXiv:2312.15288]."""


Batch = dict[str, Array]
"""Images of a step on a device: "normal", and "oe" if the objective uses OE images; uint8 [b, h, w, 3]."""
StepMetrics = dict[str, Float[Array, ""]]


def oe_weight(config: OeclConfig, total_steps: int, step: Int[Array, ""]) -> Float[Array, ""]:
    """alpha: 0 during the first share `oe.warmup` of the run, then constant."""
    return jnp.where(step < round(config.oe.warmup * total_steps), 0.0, config.oe.alpha)


def image_keys(key: Array, count: int, view: int) -> Array:
    """A key for one view of each of the `count` images of this device, by index in the global batch."""
    indices = jax.lax.axis_index(BATCH_AXIS) * count + jnp.arange(count)
    return jax.vmap(lambda index: jax.random.fold_in(jax.random.fold_in(key, view), index))(indices)


def draw_views(config: OeclConfig, key: Array, batch: Batch) -> tuple[list[Array], list[Array]]:
    """Two normalised views of every instance: ([normal first, second], [OE first, second] or []).

    If the OE views are rotated normal views, each (image, rotation) is an instance.
    """

    def two_views(images: UInt8[Array, "b h w 3"], key: Array) -> list[Array]:
        return [
            augment_batch(image_keys(key, len(images), view), images, config.augment, config.data.image_size)
            for view in range(2)
        ]

    normal_key, oe_key = jax.random.split(key)
    normal = two_views(batch["normal"], normal_key)
    exposure = OBJECTIVES[config.train.objective].exposure
    if exposure == "rotated":

        def rotated(angles: tuple[int, ...]) -> list[Array]:
            return [jnp.concatenate([rotate(view, angle) for angle in angles]) for view in normal]

        return rotated(NORMAL_ROTATIONS), rotated(OE_ROTATIONS)
    return normal, two_views(batch["oe"], oe_key) if exposure else []


def loss_of_views(
    config: OeclConfig,
    network: ContrastiveResNet,
    params: Any,
    batch_stats: Any,
    normal: list[Float[Array, "n s s 3"]],
    oe: list[Float[Array, "m s s 3"]],
    alpha: Float[Array, ""],
    valid: Bool[Array, " b"],
) -> tuple[Float[Array, ""], tuple[Any, StepMetrics]]:
    """The loss of a batch of views; one call of the network, so that BatchNorm averages over normal and OE views.

    `valid` is False for images that are padding.

    Returns:
        The loss, and (the new running statistics, the logged values of the step).
    """
    normal_valid, oe_valid = (jnp.tile(valid, sum(map(len, views)) // len(valid)) for views in (normal, oe))
    heads, updated = network.apply(
        {"params": params, "batch_stats": batch_stats},
        jnp.concatenate(normal + oe),
        train=True,
        valid=jnp.concatenate([normal_valid, oe_valid]),
        mutable=["batch_stats"],
    )
    axis, objective = network.axis_name, OBJECTIVES[config.train.objective]
    normal_heads, oe_heads = heads[: len(normal_valid)], heads[len(normal_valid) :]
    logged = {"normal_norm": losses.mean_norm(normal_heads, normal_valid, axis)}
    if oe:
        logged["oe_norm"] = losses.mean_norm(oe_heads, oe_valid, axis)
    if objective.baseline:
        loss = objective.baseline(normal_heads, oe_heads, normal_valid, oe_valid, axis)
    else:
        first, second = jnp.split(normal_heads, 2)
        loss = losses.nt_xent(first, second, config.train.temperature, normal_valid[: len(first)], axis)
        logged["contrastive"] = loss
        if oe:
            logged["alpha"] = alpha
            loss = loss + alpha * logged["oe_norm"]
    logged["loss"] = loss
    return loss, (updated["batch_stats"], logged)


def train_step(
    config: OeclConfig,
    network: ContrastiveResNet,
    optimizer: optax.GradientTransformation,
    total_steps: int,
    seed: UInt32[Array, ""],
    state: TrainState,
    batch: Batch,
    valid: Bool[Array, " b"],
) -> tuple[TrainState, StepMetrics]:
    """One step on this device's shard of the batch; runs inside `shard_map` over the axis `BATCH_AXIS`."""
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    normal, oe = draw_views(config, key, batch)
    alpha = oe_weight(config, total_steps, state.step)

    def loss_of(params: Any) -> tuple[Array, tuple[Any, StepMetrics]]:
        return loss_of_views(config, network, params, state.batch_stats, normal, oe, alpha, valid)

    grads, (batch_stats, logged) = jax.grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state), logged


def build_train_call(
    config: OeclConfig,
    network: ContrastiveResNet,
    optimizer: optax.GradientTransformation,
    total_steps: int,
    mesh: Mesh,
    on_device: bool,
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Builds the jitted function that runs several steps in one call.

    Its arguments are (state, images, rows, count, seed). If `on_device`, `images` are the whole sets {"normal": uint8
    [n, h, w, 3], ...} and each step gathers its `rows` {"normal": int32 [k, b], ...}; otherwise `images` are the
    batches of the steps [k, b, h, w, 3] and `rows` is ignored. b is padded to a multiple of the devices. `count` <= k
    is the number of steps: a value and no shape, so that an incomplete call needs no further compilation. Returns the
    new state and the metrics of each step [k] (0 beyond `count`). The buffers of the old state are donated.
    """
    batch_size = config.train.batch_size
    per_device = -(-batch_size // mesh.size)

    def shard(
        state: TrainState, images: Batch, rows: Batch, count: Int[Array, ""], seed: UInt32[Array, ""]
    ) -> tuple[TrainState, StepMetrics]:
        valid = jax.lax.axis_index(BATCH_AXIS) * per_device + jnp.arange(per_device) < batch_size

        def one_step(carry: tuple[TrainState, StepMetrics], i: Int[Array, ""]) -> tuple[TrainState, StepMetrics]:
            state, history = carry
            if on_device:
                batch = {name: images[name][rows[name][i]] for name in images}
            else:
                batch = {name: images[name][i] for name in images}
            state, logged = train_step(config, network, optimizer, total_steps, seed, state, batch, valid)
            return state, {name: history[name].at[i].set(value) for name, value in logged.items()}

        steps = next(iter((rows if on_device else images).values())).shape[0]
        history = {name: jnp.zeros(steps) for name in OBJECTIVES[config.train.objective].logged}
        if steps == 1:
            # on CPUs, XLA compiles the gradients of convolutions 15 times faster outside loops
            return one_step((state, history), jnp.int32(0))
        return jax.lax.fori_loop(0, count, lambda i, carry: one_step(carry, i), (state, history))

    split = PartitionSpec(None, BATCH_AXIS)
    whole = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            shard,
            mesh=mesh,
            in_specs=(whole, whole if on_device else split, split if on_device else whole, whole, whole),
            out_specs=(whole, whole),
        ),
        donate_argnums=0,
    )
