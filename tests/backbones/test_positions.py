import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.backbones.positions import Interpolation, resampling_matrix
from tests.backbones.tiny import GOLDEN

sides = st.integers(1, 40)
kinds = st.sampled_from(["cubic", "antialiased", "linear"])


@given(source=sides, target=sides, offset=st.sampled_from([0.0, 0.1]), kind=kinds)
def test_rows_sum_to_one(source: int, target: int, offset: float, kind: Interpolation) -> None:
    weights = resampling_matrix(source, target, offset, kind)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


@given(side=sides, kind=kinds)
def test_the_same_grid_is_left_alone(side: int, kind: Interpolation) -> None:
    np.testing.assert_allclose(resampling_matrix(side, side, kind=kind), np.eye(side), atol=1e-12)


@given(source=sides, target=sides, kind=kinds)
def test_both_ends_are_treated_alike(source: int, target: int, kind: Interpolation) -> None:
    weights = resampling_matrix(source, target, kind=kind)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-9)


def test_straight_lines_stay_straight_inside() -> None:
    """Keys' kernel with a = -0.5 and the triangle reproduce polynomials of first degree; so do their widened forms."""
    sizes: tuple[tuple[int, int], ...] = ((20, 64), (64, 20))
    kinds: tuple[Interpolation, ...] = ("antialiased", "linear")
    for (source, target), kind in itertools.product(sizes, kinds):
        read = resampling_matrix(source, target, kind=kind) @ np.arange(source)
        expected = (np.arange(target) + 0.5) * source / target - 0.5
        np.testing.assert_allclose(read[8:-8], expected[8:-8], atol=0.03 if kind == "linear" else 0.02)


@pytest.mark.parametrize("target", [8, 3])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_equals_torch(target: int, offset: float) -> None:
    golden = np.load(GOLDEN / "positions.npz")[f"to_{target}_offset_{offset}"]
    np.testing.assert_allclose(resampling_matrix(5, target, offset), golden, atol=1e-6)


@pytest.mark.parametrize("kind", ["antialiased", "linear"])
def test_antialiasing_averages_when_it_reduces(kind: Interpolation) -> None:
    alternating = np.tile([-1.0, 1.0, 1.0, -1.0], 10)
    assert np.abs(resampling_matrix(40, 10, kind=kind) @ alternating).max() < 0.2
    assert np.abs(resampling_matrix(40, 10) @ alternating).max() > 0.9
