"""What training carries from step to step, and the optimiser that moves it."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from contrastive_jax.config import TrainConfig
from contrastive_jax.constants import CONSTANTS
from contrastive_jax.network.resnet import ContrastiveResNet


@flax.struct.dataclass
class TrainState:
    """Everything a resumed run needs; the randomness of a step follows from the seed and `step`.

    Attributes:
        step: optimiser steps taken.
        params: parameters, float32.
        batch_stats: running statistics of BatchNorm, float32.
        opt_state: the optimiser's.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any


def build_optimizer(
    config: TrainConfig, total_steps: int, momentum: float = CONSTANTS.momentum
) -> optax.GradientTransformation:
    """SGD with momentum; the weight decay joins the gradient, the learning rate falls along a cosine to 0.

    The released code decays every parameter, BatchNorm's and biases included, and takes its learning rate from the
    fraction of the run that has passed; there is no warm-up. Its LARS
    never rescales a step, so SGD is what the paper ran.
    """
    schedule = optax.cosine_decay_schedule(config.learning_rate, total_steps)
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=momentum or None),
    )


def initial_state(
    network: ContrastiveResNet, optimizer: optax.GradientTransformation, image_size: int, seed: int
) -> TrainState:
    """Random parameters and zeroed optimiser state, from the seed alone."""
    # initialisation runs outside of the mesh, where its axis has no name
    lone = network.clone(axis_name=None)
    images = jnp.zeros((2, image_size, image_size, 3))
    # sixty small random arrays: optimising the program that draws them takes ten times as long as drawing them
    # (options of the CPU's compiler)
    options: dict[str, bool | str | int | float] = {}
    if jax.default_backend() == "cpu":
        options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    init = jax.jit(lambda key: lone.init(key, images, train=False), compiler_options=options)
    variables = init(jax.random.key(seed))
    params = variables["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], optimizer.init(params))
