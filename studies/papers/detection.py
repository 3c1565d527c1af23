"""`codegraph reproduce musc|codegraph`: the published settings on the data and weights of this computer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from codegraph_jax.backbones import PRESETS
from codegraph_jax.backbones.checkpoints import weights_are_installed
from codegraph_jax.config import Config
from codegraph_jax.core.names import file_stem
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.search import LayoutError
from codegraph_jax.tasks.paths import require_exists
from studies.papers.reproduction import Published, Reproduction
from studies.sweeps import detection as sweep

REFUSED = sweep.REFUSED


def run(
    tables: Sequence[tuple[Published, Config]],
    workdir: Path,
    roots: Sequence[str],
    groups: Sequence[str] = (),
    subsets: int = 0,
    weights: Mapping[str, str] | None = None,
) -> list[Reproduction]:
    """Measures each table whose weights and some of whose categories are at hand.

    Args:
        tables: published tables and their settings.
        workdir: each table is a sweep in a directory below it, which resumes.
        roots: directories of data sets.
        groups: the categories; empty: all that are found.
        subsets: number of random halves for the spread.
        weights: files of weights by preset.

    Raises:
        ConfigError: `weights` names no preset, or a directory does not exist.
    """
    weights = weights or {}
    if unknown := [name for name in weights if name not in PRESETS]:
        raise ConfigError(f"--weights: unknown preset {unknown[0]!r}; presets: {', '.join(PRESETS)}")
    for root in roots:
        require_exists("codegraph reproduce", root)
    reproductions = []
    for published, config in tables:
        wanted = published.selected(groups)
        config, present, missing = _inputs(published, config, roots, wanted, weights)
        if present:
            print(f"\n{published.title}", flush=True)
            directory = workdir / file_stem(published.title.replace("/", "-").replace(" ", "_"))
            measured = sweep.run(config, str(directory), (), present, subsets)
            reproductions.append(Reproduction(published, measured, missing))
        else:
            reproductions.append(Reproduction(published, None, missing))
    return reproductions


def _inputs(
    published: Published,
    config: Config,
    roots: Sequence[str],
    wanted: Sequence[str],
    weights: Mapping[str, str],
) -> tuple[Config, list[str], list[str]]:
    """The settings, the categories that can be measured, and what is missing."""
    name, missing = config.backbone.name, []
    source = PRESETS[name].source
    assert not isinstance(source, Path)  # a directory is only the source of a preset for a path
    config = replace(config, backbone=replace(config.backbone, weights=weights.get(name, config.backbone.weights)))
    runs = bool(config.backbone.weights) or weights_are_installed(PRESETS[name])
    if not runs:
        missing.append(f"the weights of {name}: {source.command}; or --weights={name}=FILE")
    found = [(root, _categories(config.data.layout, wanted, root)) for root in roots]
    root, present = max(found, key=lambda pair: len(pair[1]), default=("", []))
    if not present:
        missing.append(f"the data, {published.data}; give the directory")
    elif absent := [group for group in wanted if group not in present]:
        missing.append(f"{', '.join(absent)} of the data, {published.data}")
    return replace(config, data=replace(config.data, root=root)), present if runs else [], missing


def _categories(layout: str, wanted: Sequence[str], root: str) -> list[str]:
    """The wanted categories in a directory."""
    try:
        found = read_layout(layout, root)
    except LayoutError:
        return []
    return [group for group in wanted if group in found]
