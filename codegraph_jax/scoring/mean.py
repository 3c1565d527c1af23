"""The mean distances of a comparison, wherever its tables are."""

import numpy as np
from jaxtyping import Float

from codegraph_jax.scoring.distances import Distances, HostDistances
from codegraph_jax.scoring.on_device import DeviceDistances
from codegraph_jax.scoring.spread import SpreadDistances
from codegraph_jax.similarity.comparison import Comparison


def mean_of(comparison: Comparison) -> Distances:
    """Mean over layers and degrees, on which all decisions are made; nothing of the comparison is changed."""
    means = comparison.tables.means()
    if isinstance(means[0], np.ndarray):
        return HostDistances(means[0])
    parts = list(map(DeviceDistances.of, means))
    return parts[0] if len(parts) == 1 else SpreadDistances(parts)


def as_distances(distances: Distances | Float[np.ndarray, "n m p"]) -> Distances:
    """An array of the host as the later stages ask for distances."""
    return HostDistances(distances) if isinstance(distances, np.ndarray) else distances
