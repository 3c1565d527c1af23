"""Settings of the tasks that judge parts as they come; `codegraph_jax.core.settings.read_config` checks them."""

from dataclasses import dataclass, field

from codegraph_jax.config import BankThresholdConfig, SavedBackboneConfig, SavedBankConfig
from codegraph_jax.core.settings import at_least, choice, path_like, within


@dataclass(frozen=True)
class FolderSettings:
    """A folder into which pictures come."""

    root: str = field(default="", metadata=path_like())
    """The folder, whose folders are watched too; pictures that lie there already are judged first."""
    events: str = field(default="auto", metadata=choice("auto", "poll"))
    """`auto` is told by the system of new files, and looks by itself every half minute; `poll` looks every `interval`
    seconds, as network shares need it, which tell nothing."""
    interval: float = field(default=1.0, metadata=within(0.05, 3600))
    """How many seconds pass between two looks with `poll`."""
    settle: float = field(default=0.5, metadata=within(0.0, 3600))
    """For how many seconds a file must not have changed before it counts as whole."""
    patience: float = field(default=10.0, metadata=within(0.0, 3600))
    """For how many seconds a file that cannot be decoded is tried again: it may still be being written."""


@dataclass(frozen=True)
class MonitorSettings:
    """When a line raises an alarm."""

    mean_run: float = field(default=10_000.0, metadata=at_least(100))
    """How many parts lie between two false alarms of drift on average."""


@dataclass(frozen=True)
class ImageSettings:
    """What pictures may be."""

    max_megapixels: float = field(default=0.0, metadata=at_least(0))
    """The largest photograph that is decoded, in millions of pixels; larger ones fail. 0 means four times the largest
    photograph of the set that made the bank. Decoding takes 5 to 42 bytes a pixel, WebP the most."""


@dataclass(frozen=True)
class WebSettings:
    """The HTTP server."""

    host: str = "127.0.0.1"
    """The address at which it listens; any other than this machine's own needs a token."""
    port: int = field(default=8000, metadata=within(0, 65535))
    """The port; 0 takes a free one, and the first line says which."""
    token_file: str = field(default="", metadata=path_like())
    """The file whose first line is the token that requests must carry; empty means none is asked for."""
    max_megabytes: float = field(default=50.0, metadata=at_least(0.001))
    """The largest picture that is taken, as a file."""
    queue: int = field(default=64, metadata=at_least(1))
    """How many pictures may wait; more are refused with status 503, to be sent again."""
    timeout: float = field(default=30.0, metadata=at_least(0.1))
    """How many seconds the headers of a request may take to arrive, and then its body."""
    csv_mark: bool = False
    """Whether /parts.csv begins with a byte order mark, by which Excel knows that names are in UTF-8."""
    keep: str = field(default="all", metadata=choice("all", "flagged"))
    """Which of the pictures that were sent are kept on disk; `flagged` keeps besides those of which one normal part in
    ten scores so high, which the search for what recurs may show."""


@dataclass(frozen=True)
class WatchConfig:
    """A folder that is watched."""

    task: str = field(default="watch", metadata=choice("watch"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    threshold: BankThresholdConfig = field(default_factory=BankThresholdConfig)
    watch: FolderSettings = field(default_factory=FolderSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    data: ImageSettings = field(default_factory=ImageSettings)


@dataclass(frozen=True)
class ServeConfig(WatchConfig):
    """A server, which may watch a folder too."""

    task: str = field(default="serve", metadata=choice("serve"))
    """The task that this config is for."""
    serve: WebSettings = field(default_factory=WebSettings)


@dataclass(frozen=True)
class PartsConfig:
    """The table of a line."""

    task: str = field(default="parts", metadata=choice("parts"))
    """The task that this config is for."""
    line: str = field(default="", metadata=path_like())
    """The workdir of the line."""
    csv_mark: bool = False
    """Whether parts.csv begins with a byte order mark, by which Excel knows that names are in UTF-8."""
