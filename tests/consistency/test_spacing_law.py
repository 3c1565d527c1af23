import numpy as np
import pytest

from codegraph_jax.consistency.spacing_law import measure_spacing_law
from codegraph_jax.report.spacing_figure import spacing_caption, spacing_figure
from codegraph_jax.scoring.distances import as_distances


def table(alpha=6.0, n=60, p=40, seed=0):
    """Distances [n, m, p] that follow the law with tail index alpha."""
    uniform = np.random.default_rng(seed).uniform(size=(n, n, p))
    distances = (uniform ** (1 / alpha)).astype(np.float32)
    distances[np.arange(n), np.arange(n)] = np.inf
    return distances


def measure(distances, flagged=None):
    scores = np.sort(distances, axis=1)[:, :10].mean(axis=1)
    return measure_spacing_law(
        as_distances(distances), scores, np.zeros(scores.shape, bool) if flagged is None else flagged
    )


def test_the_fit_to_data_from_the_law_has_a_small_departure():
    law = measure(table())
    assert law.tail_index_quartiles[1] == pytest.approx(6.0, rel=0.1)
    assert law.ks_distance < 0.06
    assert law.share_below["0.2"] == pytest.approx(0.2, abs=0.04)
    growth = np.array(law.growth["normal"])
    np.testing.assert_allclose(growth, 1 / (6.0 * np.arange(1, len(growth) + 1)), rtol=0.25)
    assert sum(law.p_value_histogram) == pytest.approx(1.0)


def test_recurring_patches_jump_where_their_group_ends():
    distances, flagged = table(), np.zeros((60, 40), bool)
    distances[:9, :9, :4] *= 0.3
    flagged[:9, :4] = True
    law = measure(distances, flagged)
    growth = np.array(law.growth["recurring"]) * np.arange(1, len(law.growth["recurring"]) + 1)
    assert growth.argmax() == 7, "eight others have the defect: the jump is from the eighth to the ninth"


def test_a_small_set_has_no_window():
    assert measure(table(n=10)) is None


def test_the_figure_is_an_image_and_reproducible():
    law = measure(table())
    first, second = spacing_figure(law), spacing_figure(law)
    assert first[:4] == b"\x89PNG" and first == second
    assert "Tail index" in str(spacing_caption(law))
