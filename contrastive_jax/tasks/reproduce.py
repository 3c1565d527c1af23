"""`codegraph reproduce oecl`: the published settings on the image sets of this computer."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem
from codegraph_jax.core.reproduction import Published, Reproduction
from contrastive_jax.config import read_oecl_config
from contrastive_jax.data.sources import class_names
from contrastive_jax.objectives import OBJECTIVES
from contrastive_jax.tasks import sweep


def run(
    tables: Sequence[tuple[Published, Mapping[str, Any]]],
    workdir: Path,
    sources: Sequence[str],
    groups: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Reproduction]:
    """Trains and tests each table whose image sets are at hand.

    Args:
        tables: published tables and their settings.
        workdir: each table is a sweep in a directory below it, which resumes.
        sources: the training set and the set of outlier exposure; empty: as in the settings.
        groups: numbers of the classes; empty: all.
        seeds: the seeds; empty: 0.
    """
    return [_one(published, values, workdir, sources, groups, seeds) for published, values in tables]


def _one(
    published: Published,
    values: Mapping[str, Any],
    workdir: Path,
    sources: Sequence[str],
    groups: Sequence[str],
    seeds: Sequence[int],
) -> Reproduction:
    config = read_oecl_config(published.settings(values))
    if sources:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, train=sources[0]))
    if len(sources) > 1:
        config = dataclasses.replace(config, oe=dataclasses.replace(config.oe, source=sources[1]))
    missing = []
    needed = [config, *([_as_training(config)] if OBJECTIVES[config.train.mode].needs_oe else [])]
    for one in needed:
        try:
            class_names(one)
        except UserError as error:
            missing.append(f"{one.data.train}, {published.data} ({error})")
    if missing:
        return Reproduction(published, None, missing)
    print(f"\n{published.title}", flush=True)
    home = workdir / file_stem(published.title.replace(" ", "_"))
    chosen = [group for group in published.among if not groups or group in groups]
    return Reproduction(published, sweep.run(dataclasses.asdict(config), str(home), (), chosen, seeds=seeds))


def _as_training(config: Any) -> Any:
    """The settings with the set of outlier exposure as the training set, to see whether it can be read."""
    data = dataclasses.replace(config.data, train=config.oe.source, train_split=config.oe.split, classes=())
    return dataclasses.replace(config, data=data)
