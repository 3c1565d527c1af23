"""`codegraph reproduce oecl`: the published settings on the image sets of this computer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem
from contrastive_jax.config import OeclConfig
from contrastive_jax.objectives import OBJECTIVES
from studies.papers.reproduction import Published, Reproduction
from studies.sweeps import training as sweep

REFUSED = sweep.REFUSED | {"weights": "the networks are trained here; leave it out"}


def run(
    tables: Sequence[tuple[Published, OeclConfig]],
    workdir: Path,
    sources: Sequence[str],
    groups: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Reproduction]:
    """Trains and tests each table whose image sets are at hand.

    Arguments as for `studies.papers.detection.run`; `sources` are the training set and the set of outlier exposure
    (empty: as in the settings), `groups` numbers of classes, and `seeds` those of the runs.
    """
    reproductions = []
    for published, config in tables:
        if not (classes := published.selected(groups)):
            continue
        if sources:
            config = replace(config, data=replace(config.data, train=sources[0]))
        if len(sources) > 1:
            config = replace(config, oe=replace(config.oe, source=sources[1]))
        if missing := _missing(config, published):
            reproductions.append(Reproduction(published, None, missing))
            continue
        print(f"\n{published.title}", flush=True)
        directory = workdir / file_stem(published.title.replace(" ", "_"))
        reproductions.append(Reproduction(published, sweep.run(config, str(directory), (), classes, seeds=seeds)))
    return reproductions


def _missing(config: OeclConfig, published: Published) -> list[str]:
    """The image sets that cannot be read."""
    missing, needed = [], [config]
    if OBJECTIVES[config.train.objective].needs_oe:
        exposure = replace(config.data, train=config.oe.source, train_split=config.oe.split, classes=())
        needed.append(replace(config, data=exposure))
    for one in needed:
        try:
            sweep.class_names(one)
        except UserError as error:
            missing.append(f"{one.data.train}, {published.data} ({error})")
    return missing
