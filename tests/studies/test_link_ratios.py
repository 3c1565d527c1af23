import numpy as np
import pytest

from codegraph_jax.consistency.links import find_links
from codegraph_jax.scoring.distances import as_distances
from studies.link_ratios import STATISTICS
from tests.support import planted


@pytest.mark.parametrize("statistic", ["weighted", "endurance"])
def test_the_ratio_statistics_rank_planted_links_first(statistic):
    tokens = planted.draw()
    _, distances = planted.table(tokens)
    links = find_links(as_distances(distances[0], np.arange(len(tokens))), STATISTICS[statistic]).select(slice(0, 200))
    assert ((links.image < 10) & (links.target < 10)).mean() > 0.9
