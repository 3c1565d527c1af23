"""Network, losses, scores and a whole step against float64 PyTorch (tests/golden/contrastive/make_golden.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import losses
from contrastive_jax.config import ModelConfig, OeclConfig, TrainConfig
from contrastive_jax.network.resnet import build_network
from contrastive_jax.objectives import view_scores
from contrastive_jax.training.state import build_optimizer
from contrastive_jax.training.step import loss_of_views
from tests.support.training import GOLDEN, nested


def assert_close(actual, expected, tolerance=1e-5):
    """Absolute difference within `tolerance` of the array's scale."""
    expected = np.asarray(expected)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(params=[("cifar", 32), ("imagenet", 48)], ids=lambda p: p[0])
def case(request):
    stem, size = request.param
    arrays = np.load(GOLDEN / f"network_{stem}_{size}.npz")
    config = OeclConfig(
        model=ModelConfig(stem=stem, width=2, head_dim=8),
        train=TrainConfig(learning_rate=float(arrays["learning_rate"])),
    )
    return config, build_network(config.model, "oecl"), arrays


@pytest.mark.usefixtures("quick_compile")
def test_the_network_in_evaluation_equals_torch(case):
    _, network, arrays = case
    variables = {"params": nested(arrays, "params"), "batch_stats": nested(arrays, "batch_stats")}
    with jax.default_matmul_precision("highest"):
        head = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, arrays["views"])
    assert_close(head, arrays["head_eval"])


@pytest.mark.usefixtures("quick_compile")
def test_a_training_step_equals_torch(case):
    config, network, arrays = case
    params, stats = nested(arrays, "params"), nested(arrays, "batch_stats")
    views = jnp.split(jnp.asarray(arrays["views"]), 4)

    def loss(p):
        alpha, valid = jnp.asarray(arrays["alpha"]), jnp.ones(len(views[0]), bool)
        return loss_of_views(config, network, p, stats, views[:2], views[2:], alpha, valid)

    with jax.default_matmul_precision("highest"):
        (value, (new_stats, logged)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert_close(value, arrays["loss"])
    for name in ("contrastive", "oe_norm", "normal_norm"):
        assert_close(logged[name], arrays[name])
    jax.tree.map(assert_close, grads, nested(arrays, "grads"))
    jax.tree.map(assert_close, new_stats, nested(arrays, "new_batch_stats"))

    optimizer = build_optimizer(config.train, total_steps=100)
    opt_state = optimizer.init(params)
    opt_state = (opt_state[0], (optax.TraceState(nested(arrays, "momentum")), *opt_state[1][1:]))
    updates, _ = optimizer.update(grads, opt_state, params)
    jax.tree.map(assert_close, optax.apply_updates(params, updates), nested(arrays, "new_params"))


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("nt_xent", ("first", "second")),
        ("mean_norm", ("oe",)),
        ("hypersphere", ("normal", "oe")),
        ("binary_cross_entropy", ("normal", "oe")),
    ],
)
def test_losses_equal_torch(name, inputs):
    arrays = np.load(GOLDEN / "losses.npz")
    arguments = [jnp.asarray(arrays[f"{name}/{key}"], jnp.float32) for key in inputs]
    function = getattr(losses, name)
    extra = (0.5,) if name == "nt_xent" else ()
    gradient = jax.value_and_grad(lambda *a: function(*a, *extra), tuple(range(len(inputs))))
    value, grads = jax.jit(gradient)(*arguments)
    assert_close(value, arrays[name])
    for key, grad in zip(inputs, grads):
        assert_close(grad, arrays[f"{name}/grad_{key}"])


def test_scores_of_views_equal_torch():
    arrays = np.load(GOLDEN / "losses.npz")
    for name, values in view_scores(jnp.asarray(arrays["views"], jnp.float32), "oecl").items():
        assert_close(values, arrays[f"scores/{name}"])


def test_scores_of_the_baselines_are_larger_for_normal_images():
    near, far = np.full((3, 1, 4), 0.1, np.float32), np.full((3, 1, 4), 2.0, np.float32)
    for name, values in view_scores(jnp.asarray(near), "hsc").items():
        assert values[0] > view_scores(jnp.asarray(far), "hsc")[name][0]
    for name, values in view_scores(jnp.asarray(far[..., :1]), "bce").items():
        assert values[0] > view_scores(jnp.asarray(near[..., :1]), "bce")[name][0]


def test_norm_has_a_gradient_at_the_origin():
    grads = jax.grad(lambda x: losses.mean_norm(x))(jnp.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(grads, [[0, 0], [0.3, 0.4]], atol=1e-7)


def test_losses_are_finite_for_degenerate_features():
    @jax.jit
    def values(zeros):
        return (
            losses.nt_xent(zeros, zeros, 0.5),
            losses.hypersphere(zeros, zeros),
            losses.binary_cross_entropy(zeros[:, :1], 100 + zeros[:, :1]),
            jax.grad(lambda a, b: losses.nt_xent(a, b, 0.5) + losses.hypersphere(a, b), (0, 1))(zeros, zeros),
        )

    assert all(np.isfinite(value).all() for value in jax.tree.leaves(values(jnp.zeros((3, 4)))))
