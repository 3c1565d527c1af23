"""`codegraph reproduce musc|codegraph`: the published settings on the data and weights of this computer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codegraph_jax.backbones import PRESETS
from codegraph_jax.backbones.checkpoints import at_hand
from codegraph_jax.config import Config
from codegraph_jax.core.names import file_stem
from codegraph_jax.core.reproduction import Published, Reproduction
from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.search import LayoutError
from codegraph_jax.tasks import sweep
from codegraph_jax.tasks.places import require_there


def run(
    tables: Sequence[tuple[Published, Mapping[str, Any]]],
    workdir: Path,
    roots: Sequence[str],
    groups: Sequence[str] = (),
    weights: Mapping[str, str] | None = None,
    subsets: int = 0,
) -> list[Reproduction]:
    """Measures each table whose weights and some of whose categories are at hand.

    Args:
        tables: published tables and their settings.
        workdir: each table is a sweep in a directory below it, which resumes.
        roots: directories of data sets.
        groups: the categories; empty: all that are found.
        weights: places of weights by preset.
        subsets: number of random halves for the spread.

    Raises:
        ConfigError: `weights` names no preset, or a directory does not exist.
    """
    weights = weights or {}
    if unknown := [name for name in weights if name not in PRESETS]:
        raise ConfigError(f"--weights: unknown preset {unknown[0]!r}; presets: {', '.join(PRESETS)}")
    for root in roots:
        require_there("codegraph reproduce", root)
    return [_one(published, values, workdir, roots, groups, weights, subsets) for published, values in tables]


def _one(
    published: Published,
    values: Mapping[str, Any],
    workdir: Path,
    roots: Sequence[str],
    groups: Sequence[str],
    weights: Mapping[str, str],
    subsets: int,
) -> Reproduction:
    config = read_config(Config, published.settings(values))
    name, missing = config.backbone.name, []
    config = replace(config, backbone=replace(config.backbone, weights=weights.get(name, config.backbone.weights)))
    if not config.backbone.weights and not at_hand(PRESETS[name]):
        how = next((source.command for source in PRESETS[name].sources if source.command), "")
        missing.append(f"the weights of {name}: {how}; or --weights={name}=FILE")
    wanted = [group for group in published.among if not groups or group in groups]
    root, found = max((_found(config.data.layout, root, wanted) for root in roots), key=_count, default=("", []))
    if not found:
        missing.append(f"the data, {published.data}; give the directory")
    elif absent := [group for group in wanted if group not in found]:
        missing.append(f"{', '.join(absent)} of the data, {published.data}")
    if not found or (missing and missing[0].startswith("the weights")):
        return Reproduction(published, None, missing)
    print(f"\n{published.title}", flush=True)
    config = replace(config, data=replace(config.data, root=root))
    home = workdir / file_stem(published.title.replace("/", "-").replace(" ", "_"))
    return Reproduction(published, sweep.run(asdict(config), str(home), (), found, subsets), missing)


def _found(layout: str, root: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """The directory, and the wanted categories in it."""
    try:
        there = read_layout(layout, root)
    except LayoutError:
        return root, []
    return root, [group for group in wanted if group in there]


def _count(found: tuple[str, list[str]]) -> int:
    return len(found[1])
