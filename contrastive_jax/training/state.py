"""The state of training, and the optimiser that updates it."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from contrastive_jax.config import TrainConfig
from contrastive_jax.network.resnet import ContrastiveResNet

MOMENTUM = 0.9
"""Momentum of SGD [arXiv:2312.15288]."""


@flax.struct.dataclass
class TrainState:
    """The state from which a run resumes; the randomness of a step follows from the seed and `step`.

    Attributes:
        step: optimiser steps taken.
        params: parameters, float32.
        batch_stats: running statistics of BatchNorm, float32.
        opt_state: state of the optimiser.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the network."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def build_optimizer(config: TrainConfig, total_steps: int, momentum: float = MOMENTUM) -> optax.GradientTransformation:
    """SGD with momentum; weight decay is added to the gradient, and the learning rate falls to 0 along a cosine.

    As in the released code, weight decay applies to all parameters, including biases and BatchNorm, and there is no
    warm-up. The LARS of that code never rescales a step, so it equals SGD.
    """
    schedule = optax.cosine_decay_schedule(config.learning_rate, total_steps)
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=momentum),
    )


def initial_state(
    network: ContrastiveResNet, optimizer: optax.GradientTransformation, image_size: int, seed: int
) -> TrainState:
    """Random parameters from the seed, and the initial state of the optimiser."""
    # initialisation runs outside the mesh, where its axis is not defined
    on_one_device = network.clone(axis_name=None)
    images = jnp.zeros((2, image_size, image_size, 3))
    # on CPUs, optimising this program takes ten times as long as running it
    options: dict[str, bool | str | int | float] = {}
    if jax.default_backend() == "cpu":
        options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    init = jax.jit(lambda key: on_one_device.init(key, images, train=False), compiler_options=options)
    variables = init(jax.random.key(seed))
    opt_state = optimizer.init(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)
