"""All commands in one table, `COMMANDS`: a command is added by one entry here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

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
        module: the module whose `run(config, workdir)` runs the task; its last name is the value of `config.task`.
            Empty if the command runs no config.
        settings: the dataclass of the settings, as `module:class`.
        config: name of the default config.
        arguments: (name in the usage, setting) of each positional argument. The default workdir is named after PHOTOS.
        flags_photos: whether the task flags photos, so that `--exit-code` is allowed.
        resumes: whether an interrupted run always resumes.
        has_workdir: whether the task writes a directory of results; otherwise it writes the file of a setting.
        sweeps: modules whose `run` sweeps over the settings of a config, by its task; such a command takes any of them.
    """

    name: str
    area: str
    help: str
    module: str = ""
    settings: str = ""
    config: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    flags_photos: bool = False
    resumes: bool = False
    has_workdir: bool = True
    sweeps: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The value of `config.task`; empty if the command runs no config."""
        return self.module.rpartition(".")[2]

    @property
    def clone_only(self) -> bool:
        """Whether it runs only from a clone, since benchmarks and studies are not installed."""
        return self.module.startswith(("benchmarks.", "studies."))


BANK = ("BANK", "bank.path")
DETECT = Command(
    name="detect",
    area=PHOTOS,
    help="finds defective parts in a folder of photos, marks the defects, and groups recurring ones",
    module="codegraph_jax.tasks.detect",
    settings="codegraph_jax.config:Config",
    config="folder",
    arguments=(("PHOTOS", "data.root"),),
    flags_photos=True,
)
ALL = (
    Command("app", PHOTOS, "opens the app in the browser: no command line is needed", arguments=(("RUNS", ""),)),
    replace(DETECT, name="demo", help="draws 48 machined parts and finds their defects", config="demo", arguments=()),
    DETECT,
    Command(
        name="inspect",
        area=PHOTOS,
        help="inspects new photos with a saved reference bank",
        module="codegraph_jax.tasks.inspect",
        settings="codegraph_jax.config:InspectConfig",
        config="inspect",
        arguments=(BANK, ("PHOTOS", "data.root")),
        flags_photos=True,
    ),
    Command(
        name="choose",
        area=PHOTOS,
        help="compares networks on your photos",
        module="codegraph_jax.tasks.choose",
        settings="codegraph_jax.tasks.choose:ChooseConfig",
        config="choose",
        arguments=(("PHOTOS", "data.root"),),
    ),
    Command(
        name="compare",
        area=PHOTOS,
        help="shows what changed between two runs on the same photos: ranks, flags, metrics and settings",
        module="codegraph_jax.tasks.compare",
        settings="codegraph_jax.config:CompareConfig",
        config="compare",
        arguments=(("RUN", "first"), ("RUN", "second")),
    ),
    Command(
        name="watch",
        area=LINE,
        help="inspects photos as they arrive in a folder",
        module="codegraph_jax.tasks.watch",
        settings="codegraph_jax.line.settings:WatchConfig",
        config="watch",
        arguments=(BANK, ("FOLDER", "watch.root")),
        resumes=True,
    ),
    Command(
        name="serve",
        area=LINE,
        help="inspects photos that are sent over HTTP, and shows them on a web page",
        module="codegraph_jax.tasks.serve",
        settings="codegraph_jax.line.settings:ServeConfig",
        config="serve",
        arguments=(BANK,),
        resumes=True,
    ),
    Command(
        name="parts",
        area=LINE,
        help="exports the inspected parts of a line as a table",
        module="codegraph_jax.tasks.parts",
        settings="codegraph_jax.line.settings:PartsConfig",
        config="parts",
        arguments=(("LINE", "line"),),
    ),
    Command(
        name="extend",
        area=LINE,
        help="adds good or defective photos to a bank, or restores an earlier revision",
        module="codegraph_jax.tasks.extend",
        settings="codegraph_jax.config:ExtendConfig",
        config="extend",
        arguments=(BANK, ("PHOTOS", "data.root")),
        has_workdir=False,
    ),
    Command(
        name="export",
        area=LINE,
        help="writes a compact bank as a program that runs without this package",
        module="codegraph_jax.tasks.export",
        settings="codegraph_jax.config:ExportConfig",
        config="export",
        arguments=(BANK, ("FILE", "save")),
        has_workdir=False,
    ),
    Command(
        name="train",
        area=NETWORKS,
        help="trains a network for out-of-distribution detection (OECL)",
        module="contrastive_jax.tasks.oecl",
        settings="contrastive_jax.config:OeclConfig",
        config="folder_oecl",
        arguments=(("NORMAL", "data.train"), ("OTHER", "oe.source")),
        resumes=True,
    ),
    Command(
        name="score",
        area=NETWORKS,
        help="scores photos with a trained network",
        module="contrastive_jax.tasks.oecl_score",
        settings="contrastive_jax.config:ScoreConfig",
        config="folder_oecl:score",
        arguments=(("RUN", "run"), ("PHOTOS", "images")),
    ),
    replace(
        DETECT,
        name="sweep",
        area=RESEARCH,
        help="compares settings, scores or seeds on labelled images, with error bars",
        flags_photos=False,
        sweeps={"detect": "codegraph_jax.tasks.sweep", "oecl": "contrastive_jax.tasks.sweep"},
    ),
    Command(
        "reproduce",
        RESEARCH,
        "measures the tables of a paper with its settings, beside the published numbers",
        arguments=(("PAPER", ""), ("DATA", "")),
    ),
    Command(
        name="recurring",
        area=MEASUREMENTS,
        help="measures the gain from detecting recurring defects",
        module="studies.recurring",
        settings="studies.recurring:StudyConfig",
        config="recurring",
    ),
    Command(
        name="thresholds",
        area=MEASUREMENTS,
        help="measures the accuracy of the threshold",
        module="studies.thresholds",
        settings="studies.thresholds:ThresholdStudyConfig",
        config="thresholds",
    ),
    Command(
        name="answers",
        area=MEASUREMENTS,
        help="measures the gain from a few answers about photos",
        module="studies.answers",
        settings="studies.answers:AnswersStudyConfig",
        config="answers",
    ),
    Command(
        name="benchmark",
        area=MEASUREMENTS,
        help="measures the speed of this machine",
        module="benchmarks.benchmark",
        settings="benchmarks.settings:BenchmarkConfig",
        config="benchmark",
    ),
    Command("settings", HELP, "lists all settings, or those that contain a word", arguments=(("WORD", ""),)),
    Command("doctor", HELP, "checks this computer, and prints what is missing and how to fix it"),
)
"""Every command, in the order of `codegraph --help`."""

COMMANDS = {command.name: command for command in ALL if clone_root() or not command.clone_only}
"""The commands that this installation has, by name."""
CLONE_ONLY = {command.name: command for command in ALL if command.clone_only}
"""The commands that run only from a clone, by name; their configs are in configs/studies/."""
TASKS = {command.task: command for command in COMMANDS.values() if command.module and not command.sweeps}
"""The command of each task."""
