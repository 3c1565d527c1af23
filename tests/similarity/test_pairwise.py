import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.data.batches import image_key
from codegraph_jax.features.aggregation import aggregate, inverse_norms, normalise
from codegraph_jax.similarity.pair_distances import DistanceOptions, pair_distances, prepare
from codegraph_jax.similarity.references import choose_references
from codegraph_jax.similarity.ring import pairwise_distances
from tests.similarity.tokens import DEGREES, GRID, draw, expected, table
from tests.support import reference


@pytest.mark.parametrize("degree", [1, 3, 5, 7])
def test_aggregation_is_the_zero_padded_mean_of_the_neighbourhood(degree):
    tokens = draw()
    got = aggregate(normalise(jnp.asarray(tokens)), degree, GRID)
    np.testing.assert_allclose(got, reference.aggregate(tokens, degree, GRID), atol=2e-6)


@pytest.mark.parametrize("kernel,pairs", [("reuse", 1), ("direct", 1), ("direct", 3)])
def test_distances_equal_the_float64_definition(kernel, pairs):
    tokens = draw()
    got, want = table(tokens, kernel, pairs=pairs), expected(tokens)
    assert got.dtype == np.float32
    assert np.isinf(got[:, np.arange(4), np.arange(4)]).all()
    # near zero the root magnifies the rounding of the product, so squares are compared
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(got[:, off] ** 2, want[:, off] ** 2, atol=5e-6)


@pytest.mark.parametrize("kernel", ["reuse", "direct"])
def test_bfloat16_products_keep_the_order(kernel):
    tokens = draw(c=96)
    off = ~np.eye(4, dtype=bool)
    exact, rough = table(tokens, kernel)[:, off], table(tokens, kernel, "bfloat16")[:, off]
    assert np.abs(exact - rough).max() < 0.03
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.999
    assert np.abs(exact - rough).max() > 0, "bfloat16 must really be used"


@pytest.mark.parametrize("kernel,precisions", [("reuse", ["float32", "bfloat16"]), ("direct", ["float32"])])
def test_products_of_rounded_tokens_are_exact(kernel, precisions):
    rounded = normalise(jnp.asarray(draw(c=96))).astype(jnp.bfloat16)
    off = ~np.eye(4, dtype=bool)
    wide = DistanceOptions(kernel, DEGREES, GRID, "float32")
    want = pairwise_distances(rounded.astype(jnp.float32), wide, np.arange(4))[:, off]
    for precision in precisions:
        got = pairwise_distances(rounded, wide._replace(precision=precision), np.arange(4))[:, off]
        np.testing.assert_allclose(got**2, want**2, atol=5e-6)


def test_no_wide_copy_is_made_of_a_layer_of_rounded_tokens():
    n, p, c = 64, 35, 96
    layer = jax.ShapeDtypeStruct((n, p, c), jnp.bfloat16)
    options, some = DistanceOptions("reuse", DEGREES, GRID, "float32"), jax.ShapeDtypeStruct((9,), jnp.int32)
    prepared = jax.eval_shape(lambda tokens: prepare(tokens, options), layer)
    assert prepared.vectors[0].dtype.itemsize == 2

    def temporary(function, *arguments):
        return function.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    # one narrow copy during preparation, none in calls of the kernel
    wide = 4 * n * p * c
    assert temporary(inverse_norms, layer, DEGREES, GRID) < 0.7 * wide
    assert temporary(aggregate, layer, 3, GRID, jnp.bfloat16) < 0.7 * wide
    assert temporary(pair_distances, prepared, prepared, some, some, options) < 0.1 * wide


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_a_permutation_of_the_images_permutes_the_table(n, seed):
    tokens = draw(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    straight, shuffled = table(tokens), table(tokens[order])
    # the product of a pair is computed in the other order, so the last bits may differ
    mask = ~np.eye(n, dtype=bool)
    difference = straight[:, order][:, :, order][:, mask] ** 2 - shuffled[:, mask] ** 2
    assert np.abs(difference).max() < 4e-6


def test_references_select_columns():
    tokens = draw(6)
    chosen = np.array([1, 4])
    np.testing.assert_array_equal(table(tokens, references=chosen), table(tokens)[:, :, chosen])


def keys(n):
    return [image_key(np.array([[[i]]], np.float32)) for i in range(n)]


@given(st.integers(1, 100), st.none() | st.integers(1, 120), st.randoms())
@settings(deadline=None)
def test_references_are_the_same_in_any_order(n, limit, random):
    order = list(range(n))
    random.shuffle(order)
    chosen = choose_references(keys(n), limit)
    assert len(chosen) == (min(n, limit) if limit else n)
    assert (np.diff(chosen) > 0).all()
    shuffled = choose_references([keys(n)[i] for i in order], limit)
    assert sorted(order[i] for i in shuffled) == chosen.tolist()


@pytest.mark.parametrize(("n", "limit", "period"), [(511, 256, 2), (512, 128, 4), (1000, 250, 4), (999, 333, 3)])
def test_references_are_independent_of_periods_in_the_file_list(n, limit, period):
    # evenly spaced references would all be even places: one of two alternating views would have no reference
    shares = np.bincount(choose_references(keys(n), limit) % period, minlength=period) / limit
    assert np.abs(shares - 1 / period).max() < 0.25 / period


def test_progress_counts_every_pair():
    done = []
    tokens = draw(5)
    options = DistanceOptions("reuse", (1,), GRID, "float32")
    pairwise_distances(normalise(jnp.asarray(tokens)), options, np.arange(5), done.append)
    assert sum(done) == 10
