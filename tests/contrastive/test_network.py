"""The parts of the network that the golden arrays do not cover."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax.config import ModelConfig, TrainConfig
from contrastive_jax.network.resnet import build_network, conv
from contrastive_jax.training.state import build_optimizer, initial_state
from tests.support.training import GOLDEN, nested

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 1), (2, 2), (4, 2), (5, 2)])
def test_small_maps_are_convolved_as_large_ones(side, stride):
    """Maps smaller than the kernel take another code path to the same numbers."""
    x = jax.random.normal(jax.random.key(0), (3, side, side, 4))
    layer = conv(5, 3, stride, jnp.float32, jax.lax.Precision.HIGHEST, "conv")
    variables = layer.init(jax.random.key(1), x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_bfloat16_computes_in_half_the_bits_and_keeps_the_rest():
    arrays = np.load(GOLDEN / "network_cifar_32.npz")
    variables = {"params": nested(arrays, "params"), "batch_stats": nested(arrays, "batch_stats")}
    network = build_network(ModelConfig(width=2, head_dim=8, dtype="bfloat16"), "oecl")
    head, updated = jax.jit(lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, arrays["views"]
    )
    assert head.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    difference = np.abs(np.asarray(head) - arrays["head_train"])
    assert 0 < difference.max() < 0.15 * np.abs(arrays["head_train"]).max()


def test_initial_parameters_follow_from_the_seed():
    config = ModelConfig(width=2, head_dim=8)
    network, optimizer = build_network(config, "oecl"), build_optimizer(TrainConfig(), 10)
    first, again, other = (initial_state(network, optimizer, 8, seed).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernel = np.asarray(first["stage4_block2"]["conv1"]["kernel"])
    assert (kernel != np.asarray(other["stage4_block2"]["conv1"]["kernel"])).all()
    bound = (9 * 16) ** -0.5
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert build_network(config, "bce").head_dim == 1


def test_the_rate_falls_along_a_cosine_to_nothing():
    config = TrainConfig(weight_decay=0.0, learning_rate=0.2)
    optimizer, params = build_optimizer(config, 4, momentum=0.0), {"w": jnp.ones((2, 2))}
    state, sizes = optimizer.init(params), []
    for _ in range(5):
        updates, state = optimizer.update({"w": jnp.ones((2, 2))}, state, params)
        sizes.append(float(-updates["w"][0, 0]))
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(np.array(sizes) / sizes[0], expected, atol=1e-6)
    assert sizes[0] == pytest.approx(0.2)


def test_weight_decay_joins_the_gradient_of_every_parameter():
    optimizer = build_optimizer(dataclasses.replace(TrainConfig(), weight_decay=0.5), 4, momentum=0.0)
    params = {"scale": jnp.full(3, 2.0), "kernel": jnp.full((2, 2), 4.0)}
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(moved["scale"], 2 - 0.1 * 0.5 * 2)
    np.testing.assert_allclose(moved["kernel"], 4 - 0.1 * 0.5 * 4)


@pytest.mark.parametrize(("dtype", "stated"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_no_product_leaves_its_precision_to_the_platform(dtype, stated, stem):
    """A GPU could use TF32 for float32, which no test on a CPU would notice."""
    network = build_network(ModelConfig(stem=stem, width=4, dtype=dtype), "oecl")
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), images)

    def loss(parameters, images):
        return network.apply(parameters, images, train=False).sum()

    text = jax.jit(jax.grad(loss)).lower(shapes, images).as_text()
    products = re.findall(r"stablehlo\.(?:convolution|dot_general|dot).*", text)
    assert len(products) > 40
    assert all(line.count(f"precision {stated}>") or f"[{stated}, {stated}]" in line for line in products), products[0]
