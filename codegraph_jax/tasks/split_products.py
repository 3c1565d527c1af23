"""Splits a folder with several products into one category per product (`config.data.split=auto`)."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codegraph_jax.core.names import printable
from codegraph_jax.data.images import source_of
from codegraph_jax.data.samples import Sample
from codegraph_jax.detector import CoDeGraph


def by_product(detector: CoDeGraph, categories: Mapping[str, list[Sample]], first: bool) -> dict[str, list[Sample]]:
    """Samples by category; a category with several products becomes `parts-1`, `parts-2`, one for each product."""
    parted: dict[str, list[Sample]] = {}
    for category, samples in categories.items():
        found = detector.products([source_of(sample) for sample in samples], first)
        if not found.any():
            parted[category] = samples
            continue
        groups = {f"{category}-{k + 1}": np.flatnonzero(found == k) for k in range(found.max() + 1)}
        for name, indices in groups.items():
            parted[name] = [replace(samples[i], category=name) for i in indices]
        if first:
            listed = ", ".join(f"{printable(name)} ({len(indices)} photos)" for name, indices in groups.items())
            print(
                f"{printable(category)}: shows {len(groups)} products or views, each inspected separately: {listed}",
                flush=True,
            )
    return parted
