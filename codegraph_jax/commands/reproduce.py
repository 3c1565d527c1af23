"""The command `codegraph reproduce`: published results beside measured ones, as a page to hand in."""

import argparse
import importlib
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import UserError

PAPERS = {
    "musc": ("codegraph_jax.evaluation.published", "codegraph_jax.tasks.reproduce"),
    "codegraph": ("codegraph_jax.evaluation.published", "codegraph_jax.tasks.reproduce"),
    "oecl": ("contrastive_jax.evaluation.published", "contrastive_jax.tasks.reproduce"),
}
"""Modules with the published tables and with the task, by paper."""
PAGE = "reproduce.md"
EPILOG = "What is missing on this computer is listed, with the place it comes from; a finished part is not repeated."


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="codegraph reproduce", description="measures the tables of a paper with its settings", epilog=EPILOG
    )
    made.add_argument("paper", choices=list(PAPERS))
    made.add_argument("data", nargs="*", help="directories of the data sets; for oecl the training and the OE source")
    made.add_argument("--out", help="directory of the results (runs/reproduce-PAPER)")
    made.add_argument("--categories", "--classes", default="", help="names of categories or numbers of classes")
    made.add_argument("--subsets", type=int, default=0, help="random halves of the images, for error bars")
    made.add_argument("--seeds", default="", help="seeds, for oecl (0)")
    made.add_argument("--weights", action="append", default=[], metavar="PRESET=FILE", help="weights of a network")
    return made


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    given = parser().parse_args(words)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    try:
        _reproduce(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; start the same command again to resume", file=sys.stderr)
        return 130
    return 0


def _reproduce(given: argparse.Namespace) -> None:
    from codegraph_jax.commands.config_files import load_config
    from codegraph_jax.core import reproduction
    from codegraph_jax.core.environment import device_summary, package_versions, remember_command, require_devices
    from codegraph_jax.core.file_ownership import note_written
    from codegraph_jax.core.files import write_text
    from codegraph_jax.core.programs import enable_compilation_cache

    enable_compilation_cache()
    require_devices()
    remember_command(["codegraph", "reproduce", *sys.argv[2:]])
    numbers, task = PAPERS[given.paper]
    tables = importlib.import_module(numbers).PAPERS[given.paper]
    settings = [(table, load_config(table.config).to_dict()) for table in tables]
    home = Path(given.out or f"runs/reproduce-{given.paper}").expanduser()
    found = importlib.import_module(task).run(
        settings, home, given.data, [name for name in given.categories.split(",") if name], **_own(given)
    )
    facts = {
        "command": f"`{shlex.join(['codegraph', 'reproduce', *sys.argv[2:]])}`",
        "device": str(device_summary()),
        "versions": ", ".join(f"{name} {version}" for name, version in package_versions().items()),
    }
    home.mkdir(parents=True, exist_ok=True)
    note_written(home, [PAGE])
    write_text(home / PAGE, reproduction.page(given.paper, found, facts))
    print(f"{reproduction.text(found)}\n\npage: {home / PAGE}")


def _own(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments that only one kind of paper has."""
    if given.paper == "oecl":
        if given.subsets or given.weights:
            raise UserError("codegraph reproduce oecl: has --seeds, but neither --subsets nor --weights")
        seeds = [seed for seed in given.seeds.split(",") if seed]
        if wrong := [seed for seed in seeds if not seed.isdecimal()]:
            raise UserError(f"--seeds: {wrong[0]!r} is not a whole number from 0")
        return {"seeds": [int(seed) for seed in seeds]}
    if given.seeds:
        raise UserError("--seeds: detection has no seed; give --subsets=5 for random halves of the images")
    if wrong := [entry for entry in given.weights if not all(entry.partition("="))]:
        raise UserError(f"--weights: {wrong[0]!r} is not PRESET=FILE")
    return {"subsets": given.subsets, "weights": dict(entry.split("=", 1) for entry in given.weights)}
