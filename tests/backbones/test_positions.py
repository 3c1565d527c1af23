import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.backbones.positions import resampling_matrix
from tests.support.tiny_backbones import GOLDEN

sides = st.integers(1, 40)


@given(source=sides, target=sides)
def test_rows_sum_to_one(source: int, target: int) -> None:
    weights = resampling_matrix(source, target)
    assert weights.shape == (target, source)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


@given(side=sides)
def test_the_same_grid_is_left_alone(side: int) -> None:
    np.testing.assert_allclose(resampling_matrix(side, side), np.eye(side), atol=1e-12)


@given(source=sides, target=sides)
def test_both_ends_are_treated_alike(source: int, target: int) -> None:
    weights = resampling_matrix(source, target)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-9)


@pytest.mark.parametrize("target", [8, 3])
def test_equals_torch(target: int) -> None:
    golden = np.load(GOLDEN / "positions.npz")[f"to_{target}"]
    np.testing.assert_allclose(resampling_matrix(5, target), golden, atol=1e-6)
