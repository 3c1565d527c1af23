import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codegraph_jax.consistency.links import (
    Links,
    burnout_links,
    burnout_test,
    find_links,
    log_spacings,
    select_by_coverage,
    window_sizes,
)
from codegraph_jax.scoring.distances import as_distances
from tests.support import planted


def law_abiding(patches, images, alpha, seed=0):
    """Sorted distances whose lower tail is a power law, as extreme-value theory predicts for normal patches."""
    uniform = np.sort(np.random.default_rng(seed).uniform(size=(patches, images)), axis=1)
    return uniform ** (1.0 / alpha)


def test_spacings_of_a_power_law_are_exponential_with_its_tail_index():
    spacings = log_spacings(law_abiding(4000, 60, alpha=7.0))
    for i in (0, 5, 30):
        assert stats.kstest(spacings[:, i], "expon", args=(0, 1 / 7.0)).pvalue > 1e-3
    assert np.corrcoef(spacings[:, 3], spacings[:, 20])[0, 1] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("alpha", [3.0, 6.0, 40.0])
def test_p_values_are_uniform_under_the_law_for_every_tail_index(alpha):
    p_values = burnout_test(log_spacings(law_abiding(4000, 80, alpha, seed=int(alpha))), window=40)
    assert p_values.shape == (4000, 20)
    for k in (0, 9, 19):
        assert stats.kstest(p_values[:, k], "uniform").pvalue > 1e-3


def test_the_test_is_the_ratio_of_two_means():
    spacings = np.random.default_rng(1).exponential(size=(3, 40))
    k, middle, window = 4, 10, 21
    ratio = spacings[:, k - 1 : middle].mean(axis=1) / spacings[:, middle : window - 1].mean(axis=1)
    want = stats.f.sf(ratio, 2 * (middle - k + 1), 2 * (window - 1 - middle))
    np.testing.assert_allclose(burnout_test(spacings, window)[:, k - 1], want, rtol=1e-10)


@pytest.mark.parametrize("group,level", [(3, 1e-2), (8, 1e-4), (15, 1e-4)])
def test_a_burnout_is_found_at_its_place(group, level):
    ordered = law_abiding(200, 80, alpha=8.0)
    ordered[:, :group] *= 0.4
    p_values = burnout_test(log_spacings(ordered), window=40)
    assert np.median(p_values.min(axis=1)) < level
    assert np.median(p_values.argmin(axis=1)) + 1 == group


@pytest.mark.parametrize(
    "references,fractions,sizes",
    [(100, (0.25, 0.5, 0.95), [25, 50, 95]), (20, (0.25, 0.5, 0.95), [10, 19]), (7, (0.5, 0.95), []), (9, (1.0,), [8])],
)
def test_windows_that_are_too_small_or_repeat_are_left_out(references, fractions, sizes):
    assert window_sizes(references, fractions) == sizes


def test_links_connect_the_planted_group_and_no_others():
    tokens = planted.draw()
    _, distances = planted.table(tokens)
    links = find_links(as_distances(distances[0], np.arange(len(tokens))), burnout_links)
    assert len(links) > 100
    assert (np.diff(links.statistic) >= 0).all()
    assert (links.image != links.target).all()
    inside = (links.image < 10) & (links.target < 10)
    assert inside.mean() > 0.97
    assert np.isin(links.patch[inside], planted.REGION).mean() > 0.97


def test_links_only_lead_to_references():
    tokens = planted.draw(60)
    references = np.arange(0, 60, 2)
    _, distances = planted.table(tokens, references)
    links = find_links(as_distances(distances[0], references), burnout_links)
    assert len(links)
    assert np.isin(links.target, references).all()


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_small_sets_have_no_links(n):
    tokens = planted.draw(n, group=2, one_off=0)
    _, distances = planted.table(tokens)
    assert len(find_links(as_distances(distances[0], np.arange(n)), burnout_links)) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(1, 60), st.floats(0.05, 1.0), st.integers(0, 10**6))
def test_coverage_chooses_the_shortest_sufficient_prefix(images, count, coverage, seed):
    rng = np.random.default_rng(seed)
    value = np.sort(rng.uniform(size=count))
    links = Links(rng.integers(0, images, count), np.zeros(count, int), rng.integers(0, images, count), value)
    chosen = select_by_coverage(links, images, coverage)
    touched = [len({*links.image[:k], *links.target[:k]}) for k in range(count + 1)]
    enough = [k for k in range(count + 1) if touched[k] >= np.ceil(coverage * images)]
    assert len(chosen) == (enough[0] if enough else count)
