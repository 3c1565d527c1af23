"""The commands in the documentation and in the configs, parsed but not run."""

import re
import shlex

from absl import flags

from codegraph_jax.commands.launch import parse_command_line, parse_flags
from codegraph_jax.commands.registry import COMMANDS
from studies.flags import define_vary
from studies.sweeps.sweep import read_points
from tests.support import ROOT
from tests.support.commands import fresh_process

PAGES = sorted(p for place in (".", "docs", "examples", "benchmarks/log") for p in (ROOT / place).glob("*.md"))
CONFIGS = sorted((ROOT / "configs").rglob("[!_]*.py"))
NAMES = "|".join(name for name, command in COMMANDS.items() if command.module)
COMMAND = re.compile(
    r"(?:python|python3) main\.py[^\n`#]*|"
    rf"(?:(?<=`)|(?<=\n)|(?<=    )|(?<=n )|(?<=DIR )|(?<=-c 0 ))codegraph (?:{NAMES})\b[^\n`#]*"
)


def commands_in(text):
    """(name, words) of each command, lines that end in a backslash joined; a name is empty for main.py.

    Text in round brackets is a remark.
    """
    joined = re.sub(r"\s*\\+\n\s*", " ", text)
    found = []
    for match in COMMAND.findall(joined):
        words = shlex.split(re.sub(r"\s{2,}.*|\s\(.*|[.,;:|)]+\s.*", "", match).rstrip(".,;:|) "))
        # JAX declares its own flags
        words = [word for word in words if not word.startswith("--jax_")]
        if words[0] == "codegraph":
            if "--help" not in words:
                found.append((words[1], words[2:]))
        elif any(word.startswith("--config=") for word in words):
            found.append(("", [word for word in words[2:] if word.startswith("--")]))
    return found


def config_name(name, words):
    """The config of a command."""
    with fresh_process():
        parse_flags(words)
        return flags.FLAGS.config or COMMANDS[name].config


def check_command(name, words):
    """Raises an error if a command has an unknown config, variant, flag or field, or an invalid value."""
    with fresh_process():
        if name == "sweep":
            define_vary()
        found = parse_command_line(words, COMMANDS.get(name)).config
        if "vary" in flags.FLAGS:
            read_points(flags.FLAGS.vary, found)
    return found
