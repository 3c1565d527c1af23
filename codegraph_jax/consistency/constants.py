"""Constants of the search for recurring defects, with their sources (docs/method.md section 4); they are not settings.

Links are found by the burnout test [ours: exact, needs no tail index]; `find_consistent` takes another `LinkFinder`,
such as by the paper's ratio d(k) / d(omega) (studies/link_ratios.py).
"""

MAX_LINK_P_VALUE = 1e-4
"""Largest p-value of a burnout that gives links [ours: it only limits the links; communities are tested]."""

SIGNIFICANCE = 0.01
"""Probability of a community in a set without recurring patterns [ours: the usual 1%]; greater if images are similar to
each other."""

WINDOWS = (0.25, 0.5, 0.95)
"""Window sizes of the burnout test, as shares of the references [ours: a group of g images needs a window of 2 g
references, so the largest window finds groups of up to half its size]."""

ANOMALY_QUANTILE = 0.95
"""Quantile of d(omega) over the set that a patch must exceed [ours: a patch that is similar to all images outside its
group is not anomalous]."""

SMALLEST_WINDOW = 8
"""Least number of references in a window [ours: half of fewer has too few spacings]."""

COVERAGE = 0.95
"""Share of the images that the selected links must touch [paper, by name; value ours]."""

RESOLUTION = 0.5
"""Least resolution of the constant Potts model: mean number of links between two members [paper, by name; value
ours]."""

PERMUTATIONS = 199
"""Number of shuffled graphs in the test of communities [ours: p-values in steps of 1 in 200]."""
