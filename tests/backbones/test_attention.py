from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codegraph_jax.backbones.attention import attention, fastest_route


@pytest.mark.parametrize("route", ["by_head", "batched"])
def test_equals_the_definition_in_float64(route: str) -> None:
    draw = np.random.default_rng(0)
    query, key, value = (3 * draw.standard_normal((2, 7, 3, 5)) for _ in range(3))
    scores = np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(5)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhts,bshd->bthd", weights / weights.sum(-1, keepdims=True), value)
    operands = (jnp.asarray(x, jnp.float32) for x in (query, key, value))
    found = attention(*operands, route, lax.Precision.HIGHEST)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("route", ["by_head", "batched"])
def test_large_scores_do_not_overflow(route: str) -> None:
    query = jnp.full((1, 4, 1, 8), 100.0)
    found = attention(query, query, query, route, lax.Precision.HIGHEST)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, query)


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "route"),
    [
        ("cpu", None, "float32", "by_head"),
        ("cpu", None, "bfloat16", "by_head"),
        ("gpu", "9.0", "bfloat16", "cudnn"),
        ("gpu", "7.5", "bfloat16", "batched"),
        ("gpu", "9.0", "float32", "batched"),
        ("gpu", "gfx942", "bfloat16", "batched"),
        ("tpu", None, "bfloat16", "batched"),
    ],
)
def test_each_platform_has_its_route(
    monkeypatch: pytest.MonkeyPatch, platform: str, capability: str | None, dtype: str, route: str
) -> None:
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert fastest_route(jnp.dtype(dtype)) == route
