import pytest

from codegraph_jax.core.arrays import evenly


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 1000])
def test_a_sample_is_spread_evenly_and_has_the_first_and_the_last(count):
    chosen = evenly(count, 32).tolist()
    assert len(chosen) == min(count, 32) and (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = [b - a for a, b in zip(chosen, chosen[1:])]
    assert not gaps or max(gaps) - min(gaps) <= 1
