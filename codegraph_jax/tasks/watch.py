"""The task `watch`: inspects each new photo in a folder, until the command is interrupted."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.core.names import printable
from codegraph_jax.core.progress import Clock
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import locked
from codegraph_jax.data.decoding import MAX_MEGAPIXELS, allow_megapixels
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import Part
from codegraph_jax.line.sending import sending
from codegraph_jax.line.settings import FolderConfig, WatchConfig
from codegraph_jax.line.targets import open_target
from codegraph_jax.line.watcher import Folder, Watcher
from codegraph_jax.report.wording import few_photos, rarity
from codegraph_jax.tasks.paths import require_bank

SIZE_FACTOR = 4
"""A photo may have this many times the pixels of the largest photo in the bank's set."""
MIN_MEGAPIXELS = 8.0
"""The size limit is at least this; at most `MAX_MEGAPIXELS`, or the largest photo in the bank's set."""


def run(config: WatchConfig, workdir: str) -> None:
    """Watches until it is interrupted.

    Raises:
        ConfigError, BankError, LedgerError, MissingPackageError, WorkdirError: before any part is inspected.
    """
    require_bank(config.bank.path)
    if not config.watch.root:
        raise ConfigError("config.watch.root: is empty; name the folder to watch")
    require_folder(config.watch)
    with opened_line(config, Path(workdir)) as inspector:
        watcher = watcher_of(config.watch, inspector)
        print(f"watching {printable(config.watch.root)}; end with Ctrl+C", flush=True)
        with stopped_by_signals(watcher.stop):
            watcher.run()
        counts = inspector.ledger.counts()
        print(f"{counts['inspected']} parts inspected, {counts['flagged']} flagged, "
              f"{counts['not_inspected']} not inspected; "
              f"recorded in {printable(str(inspector.ledger.path))}", flush=True)  # fmt: skip


def require_folder(settings: FolderConfig) -> None:
    """Checks that the folder exists."""
    if not Path(settings.root).is_dir():
        raise ConfigError(f"config.watch.root: {settings.root!r} is not a directory")


@contextmanager
def opened_line(config: WatchConfig, workdir: Path) -> Iterator[Inspector]:
    """Yields a warmed-up inspector; locks its workdir."""
    require_bank(config.bank.path)
    for address in config.send:
        open_target(address)  # a missing package is named before the bank is loaded
    with locked(workdir), closing(Ledger(workdir / LEDGER_FILE)) as ledger:
        clock = Clock()
        with clock("ready"):
            bank = ReferenceBank.load(config.bank.path, config.backbone.weights, config.backbone.name)
            allow_megapixels(config.data.max_megapixels or most_megapixels(bank))
            monitor = config.monitor.parts_per_false_alarm
            inspector = Inspector(bank, ledger, workdir, monitor, config.threshold, config.bank.path)
            inspector.warm_up()
        print(f"weights: {bank.weights_name}", flush=True)
        print(f"bank: {bank.active_references}; threshold {inspector.bank.calibration.threshold:.4f}; "
            f"ready after {clock.seconds['ready']:.1f} s", flush=True)  # fmt: skip
        if bank.calibration.too_few_photos:
            print(few_photos(bank.calibration, of_bank=True), flush=True)
        with sending(ledger, config.send):
            yield inspector


def most_megapixels(bank: ReferenceBank) -> float:
    """The largest photo that a line decodes, in megapixels: decoding a huge file would delay all other parts."""
    largest = bank.max_photo_pixels / 1e6
    return max(MIN_MEGAPIXELS, min(SIZE_FACTOR * largest, max(largest, MAX_MEGAPIXELS))) if largest else MAX_MEGAPIXELS


def watcher_of(settings: FolderConfig, inspector: Inspector) -> Watcher:
    """The watcher of a folder, which prints a line for each part."""
    # the ledger stores absolute paths, so that it can be read from any directory
    folder = Folder(os.path.abspath(settings.root), inspector.ledger, inspector.workdir)  # noqa: PTH100
    return Watcher(folder, inspector, print_part, polls=settings.events == "poll")


def print_part(part: Part) -> None:
    """One line for a part, and one for each alarm that it raised."""
    if part.status == "not_inspected":
        print(f"{part.id} {printable(part.name)}: not inspected, {printable(part.failure)}", flush=True)
    else:
        verdict = "FLAGGED" if part.flagged else "to check" if part.verdict == "check" else part.verdict
        score = f"score {part.score:.4f}" + ("" if part.p_value is None else f", reached by {rarity(part.p_value)}")
        facts = ", ".join([verdict, score, *part.patterns, f"{part.seconds:.2f} s"])
        print(f"{part.id} {printable(part.name)}: {facts}", flush=True)
    for alarm in part.alarms:
        print(f"ALARM {alarm.id}: {alarm.message}", flush=True)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """On the first SIGINT or SIGTERM, calls `stop` so that the current part is finished; a second signal interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore() -> None:
        for name, former in before.items():
            signal.signal(name, former)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop()

    before = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
