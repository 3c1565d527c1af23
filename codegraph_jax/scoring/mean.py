"""The mean distances of a comparison, wherever its tables are."""

import numpy as np
from jaxtyping import Float

from codegraph_jax.scoring.distances import Distances, HostDistances
from codegraph_jax.scoring.on_device import DeviceDistances
from codegraph_jax.scoring.spread import SpreadDistances
from codegraph_jax.similarity.comparison import Comparison, mean_distances
from codegraph_jax.similarity.resident import ResidentTables


def mean_of(comparison: Comparison) -> Distances:
    """Mean over layers and degrees, on which all decisions are made; nothing of the comparison is changed."""
    if isinstance(comparison.tables, ResidentTables):
        parts = list(map(DeviceDistances.of, comparison.tables.means))
        return parts[0] if len(parts) == 1 else SpreadDistances(parts)
    return HostDistances(mean_distances(comparison.tables))


def as_distances(distances: Distances | Float[np.ndarray, "n m p"]) -> Distances:
    """An array of the host as the later stages ask for distances."""
    return HostDistances(distances) if isinstance(distances, np.ndarray) else distances
