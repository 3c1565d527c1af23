"""The command `codegraph reproduce`: published results beside measured ones, as a page to hand in."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from codegraph_jax.commands.config_files import load_config
from codegraph_jax.commands.launch import WORKDIR, ending_in_one_line, parse_flags
from codegraph_jax.core.compilation_cache import enable_compilation_cache
from codegraph_jax.core.environment import device_summary, package_versions, require_devices
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import writing_own
from codegraph_jax.core.files import write_text
from codegraph_jax.core.settings import with_settings
from codegraph_jax.core.started_command import remember_command
from studies.flags import define, sweep_arguments
from studies.papers import detection, detection_tables, training, training_tables
from studies.papers.reproduction import Published, page, require_groups, text

PAPERS = {
    "musc": (detection_tables, detection),
    "codegraph": (detection_tables, detection),
    "oecl": (training_tables, training),
}
"""The published tables and the task, by paper."""
PAGE = "reproduce.md"
FLAGS = ("workdir", "out", "categories", "classes", "subsets", "seeds", "weights")


def main(*words: str) -> int:
    """Runs the command; returns the exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    with ending_in_one_line("start the same command again to resume"):
        _reproduce(words)
    return 0


def _reproduce(words: Sequence[str]) -> None:
    define()
    weights_given = flags.DEFINE_multi_string("weights", [], "Weights of a network, PRESET=FILE.")
    command = ["codegraph", "reproduce", *words]
    paper, *data = parse_flags(words) or [""]
    if unknown := [word for word in (paper, *data) if word.startswith("-")]:
        raise UserError(f"codegraph reproduce: {unknown[0]}: no such flag; codegraph reproduce --help lists all")
    for name in sorted(flags.FLAGS):
        if flags.FLAGS[name].present and name not in FLAGS and not name.startswith("jax_"):
            raise UserError(f"codegraph reproduce: --{name} has no effect; leave it out")
    if paper not in PAPERS:
        given = f"there is no paper {paper!r}; " if paper else ""
        raise UserError(f"codegraph reproduce: {given}name one of {', '.join(PAPERS)}, then directories of its data")
    if wrong := [entry for entry in weights_given.value if not all(entry.partition("="))]:
        raise UserError(f"--weights: {wrong[0]!r} is not PRESET=FILE")
    weights = dict(entry.split("=", 1) for entry in weights_given.value)
    enable_compilation_cache()
    require_devices()
    remember_command(command)
    numbers, task = PAPERS[paper]
    arguments = sweep_arguments(task.REFUSED) | ({"weights": weights} if weights else {})
    require_groups(arguments["groups"], numbers.PAPERS[paper])
    tables = [(table, settings_of(table)) for table in numbers.PAPERS[paper]]
    out = Path(WORKDIR.value or f"runs/reproduce-{paper}").expanduser()
    reproductions = task.run(tables, out, data, **arguments)
    facts = {
        "command": f"`{shlex.join(command)}`",
        "device": str(device_summary()),
        "versions": ", ".join(f"{name} {version}" for name, version in package_versions().items()),
    }
    with writing_own(out, [PAGE]):
        write_text(out / PAGE, page(paper, reproductions, facts))
    print(f"{text(reproductions)}\n\npage: {out / PAGE}")


def settings_of(table: Published) -> Any:
    """The settings that give a published table."""
    return with_settings(load_config(table.config), table.changes)
