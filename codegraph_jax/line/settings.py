"""Settings of the tasks `watch`, `serve` and `parts`."""

from dataclasses import dataclass, field

from codegraph_jax.config import BankThresholdConfig, LimitsConfig, SavedBackboneConfig, SavedBankConfig, TablesConfig
from codegraph_jax.core.settings import Settings, at_least, choice, path_like, within
from codegraph_jax.line.targets import require_targets


@dataclass(frozen=True)
class FolderConfig(Settings):
    """A folder that receives photos."""

    root: str = field(default="", metadata=path_like())
    """Folder to watch, with its subfolders; photos that are already there are inspected first."""
    events: str = field(default="auto", metadata=choice("auto", "poll"))
    """`auto` uses the file events of the operating system, and scans the folder every 30 seconds; `poll` scans it every
    second, needed on network shares, which send no events."""


@dataclass(frozen=True)
class MonitorConfig(Settings):
    """Alarms of a line."""

    parts_per_false_alarm: float = field(default=10_000.0, metadata=at_least(100))
    """Average number of parts between two false alarms of drift; a larger number also delays true alarms."""


@dataclass(frozen=True)
class WebConfig(Settings):
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on; all but loopback addresses need a token."""
    port: int = field(default=8000, metadata=within(0, 65535))
    """Port; 0: a free one, which is printed at the start."""
    token_file: str = field(default="", metadata=path_like())
    """File whose first line is the token that requests must carry; empty: no token is needed."""
    max_megabytes: float = field(default=50.0, metadata=at_least(0.001))
    """Largest photo that is accepted, as a file."""
    keep: str = field(default="all", metadata=choice("all", "high_scores"))
    """Photos that were sent: keep `all` on disk, or with `high_scores` only the flagged ones and, for contact sheets,
    the tenth of the passed ones with the highest scores."""


@dataclass(frozen=True)
class WatchConfig(Settings):
    """A watched folder."""

    task: str = field(default="watch", metadata=choice("watch"))
    """Task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    threshold: BankThresholdConfig = field(default_factory=BankThresholdConfig)
    watch: FolderConfig = field(default_factory=FolderConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    send: tuple[str, ...] = field(default=(), metadata={"check": require_targets})
    """Where each result is sent: webhooks (https://HOST/PATH), MQTT topics (mqtts://HOST/TOPIC), and tables to which a
    row is appended (PATH.csv). Results wait in line.sqlite until they are accepted."""
    data: LimitsConfig = field(default_factory=LimitsConfig)


@dataclass(frozen=True)
class ServeConfig(WatchConfig, TablesConfig):
    """An HTTP server, which may also watch a folder."""

    task: str = field(default="serve", metadata=choice("serve"))
    """Task that this config is for."""
    serve: WebConfig = field(default_factory=WebConfig)


@dataclass(frozen=True)
class PartsConfig(TablesConfig):
    """The table of a line's parts."""

    task: str = field(default="parts", metadata=choice("parts"))
    """Task that this config is for."""
    line: str = field(default="", metadata=path_like())
    """Workdir of the line."""
