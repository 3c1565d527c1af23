import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.backbones.positions import resampling_matrix
from tests.backbones.tiny import GOLDEN

sides = st.integers(1, 40)


@given(source=sides, target=sides, offset=st.sampled_from([0.0, 0.1]), antialias=st.booleans())
def test_rows_sum_to_one(source: int, target: int, offset: float, antialias: bool) -> None:
    weights = resampling_matrix(source, target, offset, antialias)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


@given(side=sides, antialias=st.booleans())
def test_the_same_grid_is_left_alone(side: int, antialias: bool) -> None:
    np.testing.assert_allclose(resampling_matrix(side, side, antialias=antialias), np.eye(side), atol=1e-12)


@given(source=sides, target=sides, antialias=st.booleans())
def test_both_ends_are_treated_alike(source: int, target: int, antialias: bool) -> None:
    weights = resampling_matrix(source, target, antialias=antialias)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-9)


def test_straight_lines_stay_straight_inside() -> None:
    """Keys' kernel with a = -0.5 reproduces polynomials of first degree; so does its widened form."""
    for source, target in ((20, 64), (64, 20)):
        read = resampling_matrix(source, target, antialias=True) @ np.arange(source)
        expected = (np.arange(target) + 0.5) * source / target - 0.5
        np.testing.assert_allclose(read[8:-8], expected[8:-8], atol=0.02)


@pytest.mark.parametrize("target", [8, 3])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_equals_torch(target: int, offset: float) -> None:
    golden = np.load(GOLDEN / "positions.npz")[f"to_{target}_offset_{offset}"]
    np.testing.assert_allclose(resampling_matrix(5, target, offset), golden, atol=1e-6)


def test_antialiasing_averages_when_it_reduces() -> None:
    alternating = np.tile([-1.0, 1.0, 1.0, -1.0], 10)
    assert np.abs(resampling_matrix(40, 10, antialias=True) @ alternating).max() < 0.2
    assert np.abs(resampling_matrix(40, 10) @ alternating).max() > 0.9
