"""All commands in one table, `COMMANDS`: a command is added by one entry here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]

PHOTOS, LINE, NETWORKS = "Photos in a folder", "A production line", "Networks for out-of-distribution detection"
RESEARCH, MEASUREMENTS, HELP = "Research", "Measurements", "Help"
"""Headings of `codegraph --help`."""


def clone_root() -> Path | None:
    """The root of the repository if the package is imported from a clone, otherwise None."""
    root = PACKAGE.parent
    return root if (root / "benchmarks").is_dir() and not (PACKAGE / "configs").is_dir() else None


@dataclass(frozen=True)
class Command:
    """One command, and the task that it runs.

    Attributes:
        name: the word after `codegraph`.
        area: its heading in `codegraph --help`.
        help: one line of help.
        module: the module whose `run(config, workdir)` runs the task; it returns the outcomes if the task flags photos.
            The last part of its name is the value of `config.task`. Empty if the command runs no config.
        entry_point: the function that runs the command, as `module:function`: it takes the arguments of the command and
            returns the exit status. Empty if `commands.launch` runs it.
        settings: the dataclass of the settings, as `module:class`.
        config: name of the default config; empty: the defaults of the settings.
        arguments: (name in the usage, setting) of each positional argument. The default workdir is named after PHOTOS.
        flags_photos: whether the task flags photos, so that `--exit-code` is allowed.
        resumes: whether an interrupted run always resumes.
        several_processes: whether it can run in several processes (`--coordinator`).
        has_workdir: whether the task writes a directory of results; otherwise it writes the file of a setting.
        other_tasks: tasks whose configs it takes too.
        names_task: whether it is the command of its task in messages; each task has one.
        unlisted: short flags that its help leaves out, since they are of no use with it.
        flags: (flag, meaning) of flags that do not set a setting, for the help.
    """

    name: str
    area: str
    help: str
    module: str = ""
    entry_point: str = ""
    settings: str = ""
    config: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    flags_photos: bool = False
    resumes: bool = False
    several_processes: bool = False
    has_workdir: bool = True
    other_tasks: tuple[str, ...] = ()
    names_task: bool = True
    unlisted: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def task(self) -> str:
        """The value of `config.task`; empty if the command runs no config."""
        return self.module.rpartition(".")[2]

    @property
    def clone_only(self) -> bool:
        """Whether it runs only from a clone, since benchmarks and studies are not installed."""
        return (self.entry_point or self.module).startswith(("studies.", "benchmarks."))


def _command(name: str, area: str, help: str, settings: str, *arguments: tuple[str, str], **about: Any) -> Command:
    """A command whose task has its name."""
    about = {"module": f"codegraph_jax.tasks.{name}", "arguments": arguments} | about
    return Command(name, area, help, settings=settings, **about)


HALVES = ("--subsets 5", "also 5 random halves of the images, for error bars")
BANK, DATA = ("BANK", "bank.path"), ("PHOTOS", "data.root")
CONFIG, LINE_CONFIG = "codegraph_jax.config", "codegraph_jax.line.settings"
# fmt: off
DETECT = _command("detect", PHOTOS,
                  "finds defective parts in a folder of photos, marks the defects, and groups recurring ones",
                  f"{CONFIG}:Config", DATA, config="folder", flags_photos=True, several_processes=True)
ALL = (
    Command("app", PHOTOS, "opens the app in the browser; its results are in RUNS (./runs)",
            entry_point="codegraph_jax.app.main:main", arguments=(("[RUNS]", ""),)),
    replace(DETECT, name="demo", help="draws 48 machined parts and finds their defects", config="demo", arguments=(),
            several_processes=False, names_task=False, unlisted=("fit", "roi", "good", "save-bank", "csv")),
    DETECT,
    _command("inspect", PHOTOS, "inspects new photos with a saved reference bank",
             f"{CONFIG}:InspectConfig", BANK, DATA, flags_photos=True),
    _command("choose", PHOTOS, "compares networks on your photos", "codegraph_jax.tasks.choose:ChooseConfig", DATA),
    _command("compare", PHOTOS,
             "shows what changed between two runs on the same photos: ranks, flags, metrics and settings",
             f"{CONFIG}:CompareConfig", ("RUN", "before"), ("RUN", "after")),
    _command("watch", LINE, "inspects photos as they arrive in a folder",
             f"{LINE_CONFIG}:WatchConfig", BANK, ("FOLDER", "watch.root"), resumes=True),
    _command("serve", LINE, "inspects photos that are sent over HTTP, and shows them on a web page",
             f"{LINE_CONFIG}:ServeConfig", BANK, resumes=True),
    _command("parts", LINE, "exports the inspected parts of a line as a table",
             f"{LINE_CONFIG}:PartsConfig", ("LINE_DIR", "line")),
    _command("extend", LINE, "adds good or defective photos to a bank; without photos, restores or lists its revisions",
             f"{CONFIG}:ExtendConfig", BANK, ("[PHOTOS]", "data.root"), has_workdir=False),
    _command("export", LINE, "writes a compact bank as a program that runs without this package",
             f"{CONFIG}:ExportConfig", BANK, ("FILE", "save"), has_workdir=False),
    _command("train", NETWORKS, "trains a network for out-of-distribution detection (OECL)",
             "contrastive_jax.config:OeclConfig", ("NORMAL", "data.train"), ("OTHER", "oe.source"),
             module="contrastive_jax.tasks.oecl", config="folder_oecl", resumes=True, several_processes=True),
    _command("score", NETWORKS, "scores photos with a trained network (larger = more normal)",
             "contrastive_jax.config:ScoreConfig", ("RUN", "run"), ("PHOTOS", "images"),
             module="contrastive_jax.tasks.oecl_score"),
    replace(DETECT, name="sweep", area=RESEARCH, entry_point="studies.sweeps.command:main", flags_photos=False,
            help="compares settings, scores or seeds on labelled images, with error bars", other_tasks=("oecl",),
            resumes=True, names_task=False, unlisted=("review", "save-bank", "csv", "false-alarms", "threshold"),
            flags=(("--vary FIELD=A,B", "a setting and its values; several flags: all combinations"),
                   ("--categories NAMES", "only these categories"),
                   ("--classes NAMES", "only with a training's config, such as cifar10_oecl: its classes"),
                   HALVES, ("--seeds 0,1,2", "only with a training's config: its seeds"))),
    Command("reproduce", RESEARCH, "measures the tables of a paper with its settings, next to the published numbers",
            entry_point="studies.papers.command:main",
            arguments=(("musc|codegraph|oecl", ""), ("DATA", ""), ("...", "")),
            flags=(("--categories, --classes NAMES", "some categories, or numbers of classes"), HALVES,
                   ("--seeds 0,1,2", "the seeds, for oecl (0)"), ("--weights PRESET=FILE", "weights of a network"))),
    _command("recurring", MEASUREMENTS, "measures the gain from detecting recurring defects",
             "studies.recurring:RecurringStudyConfig", module="studies.recurring", config="recurring"),
    _command("thresholds", MEASUREMENTS, "measures the accuracy of the threshold",
             "studies.thresholds:ThresholdStudyConfig", module="studies.thresholds", config="thresholds"),
    _command("answers", MEASUREMENTS, "measures the gain from a few answers about photos",
             "studies.answers:AnswersStudyConfig", module="studies.answers", config="answers"),
    _command("plates", MEASUREMENTS, "measures how small defects are found in large photos",
             "studies.plates:PlatesStudyConfig", module="studies.plates", config="plates"),
    _command("benchmark", MEASUREMENTS, "measures the speed of this machine",
             "benchmarks.settings:BenchmarkConfig", module="benchmarks.benchmark", config="benchmark",
             unlisted=("backbones",)),
    Command("settings", HELP, "lists all settings, those that mention WORD, or all of the command WORD",
            entry_point="codegraph_jax.commands.listing:main", arguments=(("[WORD]", ""),)),
    Command("doctor", HELP, "checks this computer, and prints what is missing and how to fix it",
            entry_point="codegraph_jax.commands.doctor:main"),
)
# fmt: on
"""Every command, in the order of `codegraph --help`."""

COMMANDS = {command.name: command for command in ALL if clone_root() or not command.clone_only}
"""The commands that this installation has, by name."""
CLONE_ONLY = {command.name: command for command in ALL if command.clone_only}
"""The commands that run only from a clone, by name; their configs are in configs/studies/."""
TASKS = {command.task: command for command in COMMANDS.values() if command.module and command.names_task}
"""The command of each task."""
