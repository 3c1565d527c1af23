"""Distances within a radius and without some patches, equal to their definition in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity import windows
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.query import distances_to_references, prepare_references
from codegraph_jax.similarity.removal import changes_by_removal
from codegraph_jax.similarity.ring import pairwise_distances
from tests.similarity.tokens import DEGREES, draw
from tests.support import reference

GRIDS = [(5, 7), (1, 9), (9, 1), (6, 6), (12, 5), (10, 11)]
# grid and radius: each pair is a program: no radius, a row, a column, a radius beyond the shorter side,
# and the nearest patches
SHAPES = [((5, 7), 0), ((1, 9), 2), ((9, 1), 3), ((12, 5), 7), ((10, 11), 1)]


def apart(grid):
    """Cells between each two patches, along the axis on which they are farther apart."""
    cells = np.indices(grid).reshape(2, -1)
    return np.abs(cells[:, :, None] - cells[:, None, :]).max(axis=0)


def tokens_of(grid, n, seed, hidden):
    """Normalised tokens, of which some patches do not count."""
    tokens = np.array(normalise(jnp.asarray(draw(n, grid, seed=seed))))
    counts = np.random.default_rng(seed).random(tokens.shape[:2]) >= hidden
    counts[:, 0] = True
    tokens[~counts] = 0
    return tokens, counts


def by_definition(tokens, counts, grid, radius, removed=None):
    """[r, n, n, p] in float64; rows of patches that do not count mean nothing."""
    n, p, _ = tokens.shape
    far = (apart(grid) > radius) if radius else np.zeros((p, p), bool)
    serves = counts if removed is None else counts & ~removed
    tables = []
    for degree in DEGREES:
        sums = reference.box_means(tokens.astype(np.float64), degree, grid)
        unit = sums / np.maximum(np.linalg.norm(sums, axis=-1, keepdims=True), 1e-12)
        out = np.full((n, n, p), np.inf)
        for i in range(n):
            for j in range(n):
                if i != j:
                    cosines = np.where(far | ~serves[j][None, :], -np.inf, unit[i] @ unit[j].T)
                    out[i, j] = np.sqrt(np.maximum(2 - 2 * cosines.max(axis=1), 0))
        tables.append(out)
    return np.stack(tables)


def assert_same_distances(got, want, counts):
    for i, own in enumerate(counts):
        a, b = got[:, i][:, :, own], want[:, i][:, :, own]
        np.testing.assert_array_equal(np.isinf(a), np.isinf(b))
        finite = np.isfinite(b)
        np.testing.assert_allclose(a[finite] ** 2, b[finite] ** 2, atol=6e-6)


def require_the_definition(grid, radius, hidden, kernel, at_once, seed):
    tokens, counts = tokens_of(grid, 3, seed, hidden)
    options = DistanceOptions(
        "direct" if radius else kernel, DEGREES, grid, "float32", 1 if radius else at_once, radius, True, at_once
    )
    got = pairwise_distances(jnp.asarray(tokens), options, np.arange(3))
    assert_same_distances(got, by_definition(tokens, counts, grid, radius), counts)


@pytest.mark.parametrize(
    "shape,kernel,at_once",
    [(SHAPES[0], "reuse", 3), *((shape, "direct", at_once) for at_once, shape in enumerate(SHAPES, start=1))],
)
def test_distances_equal_their_definition(shape, kernel, at_once):
    for seed, hidden in enumerate((0, 0.2, 0.8)):
        require_the_definition(*shape, hidden, kernel, at_once, seed)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(0, 12), st.floats(0, 0.8), st.sampled_from(["reuse", "direct"]),
       st.integers(1, 5), st.integers(0, 10**6))  # fmt: skip
def test_distances_equal_their_definition_on_any_grid(grid, radius, hidden, kernel, at_once, seed):
    require_the_definition(grid, radius, hidden, kernel, at_once, seed)


@pytest.mark.parametrize("block", [4, 7, 32])
def test_the_size_of_the_blocks_changes_nothing(monkeypatch, block):
    grid, radius = (19, 13), 3
    tokens, counts = tokens_of(grid, 2, 0, 0.2)
    axes = tuple(windows.Axis.of(cells, block, radius) for cells in grid)
    monkeypatch.setattr(windows, "cheapest_blocks", lambda grid, radius: axes)
    options = DistanceOptions("direct", DEGREES, grid, "float32", 1, radius, True, block)
    got = pairwise_distances(jnp.asarray(tokens), options, np.arange(2))
    assert_same_distances(got, by_definition(tokens, counts, grid, radius), counts)


def test_a_radius_as_large_as_the_grid_is_none():
    grid = (6, 9)
    tokens = jnp.asarray(tokens_of(grid, 4, 1, 0)[0])
    plain = DistanceOptions("direct", DEGREES, grid, "float32")
    want = pairwise_distances(tokens, plain, np.arange(4))
    got = pairwise_distances(tokens, plain._replace(radius=9), np.arange(4))
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(got[:, off] ** 2, want[:, off] ** 2, atol=3e-6)


def test_radius_reduces_the_products():
    patches = 107 * 143
    assert windows.products_of_a_pair((107, 143), 4) < patches**2 / 30
    assert windows.products_of_a_pair((107, 143), 8) < patches**2 / 12


def require_the_removal(grid, radius, hidden, share, seed):
    tokens, counts = tokens_of(grid, 4, seed, hidden)
    removed = (np.random.default_rng(seed + 1).uniform(size=counts.shape) < share) & counts
    removed[3] = False
    options = DistanceOptions("direct" if radius else "reuse", DEGREES, grid, "float32", 1, radius, True)
    table = pairwise_distances(jnp.asarray(tokens), options, np.arange(4))
    for i in range(4):
        table[:, i][:, :, ~counts[i]] = -1
    changes = changes_by_removal(table, jnp.asarray(tokens), removed, np.arange(4), options)
    for degree, changed in zip(table, changes):
        changed.apply(degree)
    assert_same_distances(table, by_definition(tokens, counts, grid, radius, removed), counts)
    assert all((table[:, i][:, :, ~counts[i]] == -1).all() for i in range(4)), "these stay invalid"


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_removal_equals_computing_all_distances_again(shape):
    for seed, (hidden, share) in enumerate([(0, 0.9), (0.5, 0.05), (0.2, 0.4)]):
        require_the_removal(*shape, hidden, share, seed)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(0, 6), st.floats(0, 0.5), st.floats(0.05, 0.9), st.integers(0, 10**6))
def test_removal_equals_computing_all_distances_again_on_any_grid(grid, radius, hidden, share, seed):
    require_the_removal(grid, radius, hidden, share, seed)


@pytest.mark.parametrize("radius", [0, 2])
def test_a_single_image_has_the_distances_that_it_has_in_a_set(radius):
    grid = (6, 8)
    tokens, counts = tokens_of(grid, 4, 3, 0.3)
    removed = (np.random.default_rng(0).random(counts.shape) < 0.3) & counts
    options = DistanceOptions("direct" if radius else "reuse", DEGREES, grid, "float32", 1, radius, True)
    references = prepare_references(jnp.asarray(tokens[1:]), jnp.asarray(removed[1:]), options)
    full, left = distances_to_references(jnp.asarray(tokens[0]), references, options)
    for got, out in ((full, None), (left, removed)):
        want = by_definition(tokens, counts, grid, radius, out)[:, :1, 1:]
        assert_same_distances(np.asarray(got)[:, None], want, counts[:1])
