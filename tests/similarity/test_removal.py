from itertools import product

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.pair_distances import DistanceOptions, cosine_maxima, cosine_to_distance, prepare
from codegraph_jax.similarity.removal import changes_by_removal
from tests.similarity.tokens import DEGREES, GRID, draw, table
from tests.support import reference


def without_patches(before, normalised, removed, references):
    after = before.copy()
    options = DistanceOptions("reuse", DEGREES, GRID, "float32")
    for degree, changes in zip(after, changes_by_removal(before, normalised, removed, references, options)):
        changes.apply(degree)
    return after


def recomputed(tokens, removed):
    """All distances computed again in float64, without the removed patches of the references."""
    tables = []
    for degree in DEGREES:
        features = reference.aggregate(tokens, degree, GRID)
        n, p, _ = features.shape
        out = np.full((n, n, p), np.inf)
        for i in range(n):
            for j in range(n):
                bank = features[j][~removed[j]]
                if i != j and len(bank):
                    out[i, j] = np.linalg.norm(features[i][:, None] - bank[None], axis=-1).min(axis=1)
        tables.append(out)
    return np.stack(tables)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_removal_equals_computing_all_distances_again(seed, share):
    tokens = draw(4, seed=seed)
    tokens[1] = tokens[0] + 0.01 * tokens[2]  # near duplicates: their patches are each other's nearest
    removed = np.random.default_rng(seed).uniform(size=tokens.shape[:2]) < share
    removed[3] = False
    got = without_patches(table(tokens), normalise(jnp.asarray(tokens)), removed, np.arange(4))
    want = recomputed(tokens, removed)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite] ** 2, want[finite] ** 2, atol=6e-6)


def by_the_kernel(normalised, removed, options):
    """All distances computed again by the kernel, without the removed patches of the references."""
    patches = prepare(normalised, options)
    lost = patches._replace(penalty=jnp.where(jnp.asarray(removed), -jnp.inf, 0.0)[None])
    masked = options._replace(masked=True)
    rows = jax.jit(lambda i, j: cosine_to_distance(cosine_maxima(patches.select(i), lost.select(j), masked)[0][:, 0]))
    n = len(removed)
    out = np.full((len(options.degrees), n, n, removed.shape[1]), np.inf, np.float32)
    for i in range(n):
        for j in range(n):
            if i != j:
                out[:, i, j] = rows(i, j)
    return out


WIDE, NARROW = np.float32, ml_dtypes.bfloat16
# every pair of values; other combinations are marked slow
PAIRED = [
    ("reuse", "float32", WIDE),
    ("reuse", "bfloat16", NARROW),
    ("direct", "float32", NARROW),
    ("direct", "bfloat16", WIDE),
]
OTHERS = [case for case in product(("reuse", "direct"), ("float32", "bfloat16"), (WIDE, NARROW)) if case not in PAIRED]


@pytest.mark.parametrize(
    "kernel,precision,features", [*PAIRED, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]
)
def test_removal_rounds_as_the_kernel_does(kernel, precision, features):
    tokens = draw(4, seed=3, c=96)
    tokens[1] = tokens[0] + 0.01 * tokens[2]
    normalised = normalise(jnp.asarray(tokens)).astype(features)
    removed = np.random.default_rng(3).uniform(size=tokens.shape[:2]) < 0.3
    options = DistanceOptions(kernel, DEGREES, GRID, precision)
    nothing = np.zeros_like(removed)
    before = by_the_kernel(normalised, nothing, options)
    after, found = before.copy(), 0
    for degree, changes in zip(after, changes_by_removal(before, normalised, removed, np.arange(4), options)):
        changes.apply(degree)
        found += len(changes.image)
    want = by_the_kernel(normalised, removed, options)
    finite = np.isfinite(want)
    np.testing.assert_allclose(after[finite] ** 2, want[finite] ** 2, atol=6e-6)
    assert found >= (want[finite] > before[finite] + 1e-3).sum() > 100


def test_an_image_without_remaining_patches_is_not_a_reference():
    tokens = draw(4)
    removed = np.zeros(tokens.shape[:2], bool)
    removed[2] = True
    got = without_patches(table(tokens), normalise(jnp.asarray(tokens)), removed, np.arange(4))
    assert np.isinf(got[:, :, 2]).all()
    assert np.isfinite(got[:, 2, [0, 1, 3]]).all(), "its own patches are still scored"


@pytest.mark.parametrize("references", [np.array([0, 3]), np.array([2])])
def test_removal_with_few_references_equals_columns_of_the_whole_table(references):
    tokens = draw(5)
    removed = np.random.default_rng(1).uniform(size=tokens.shape[:2]) < 0.3
    normalised = normalise(jnp.asarray(tokens))
    everything = without_patches(table(tokens), normalised, removed, np.arange(5))
    some = without_patches(table(tokens, references=references), normalised, removed, references)
    np.testing.assert_allclose(some, everything[:, :, references], atol=1e-6)
