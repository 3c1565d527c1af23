"""The task `extend`: adds good or defective parts to a bank, or returns the bank to an earlier revision."""

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import ExtendConfig
from codegraph_jax.core.names import printable
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tables import text_table
from codegraph_jax.core.workdir import written_to
from codegraph_jax.data.decoding import MAX_MEGAPIXELS, allow_megapixels
from codegraph_jax.data.search import find_images
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.tasks.paths import require_bank, require_line, require_writable


def run(config: ExtendConfig, workdir: str) -> None:
    """Extends a bank or returns it to a revision, then prints its history; without either, only prints the history.

    Raises:
        ConfigError, BankError, LedgerError, UnreadableImageError, WorkdirError: the bank is unchanged.
    """
    require_bank(config.bank.path)
    images = _parts_to_add(config)
    if images and config.back_to is not None:
        raise ConfigError("config.back_to: cannot be combined with photos or parts to add; go back first, then extend")
    target = config.bank.path
    require_writable("config.bank.path", target)
    bank = ReferenceBank.load(config.bank.path, config.backbone.weights, config.backbone.name)
    allow_megapixels(max(bank.max_photo_pixels / 1e6, MAX_MEGAPIXELS))
    if images:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        bank = bank.extend(list(images.values()), names=list(images), when=when, defective=config.defective)
    elif config.back_to is not None:
        bank = bank.back_to(config.back_to)
    if images or config.back_to is not None:
        with written_to(target):
            bank.save(target)
        print(f"{target}: {bank.active_references}; threshold {bank.calibration.threshold:.4f}")
        if images:
            print(_scored_again(bank, images))
    print(_history(bank))


def _parts_to_add(config: ExtendConfig) -> dict[str, str]:
    """{name: file} of the parts to add."""
    photos = find_images(config.data.root) if config.data.root else {}
    if config.line or config.part_numbers:
        with closing(Ledger(require_line(config.line))) as ledger:
            for number in config.part_numbers:
                part = ledger.by_number(number)
                if part is None or part.status == "not_inspected":
                    raise ConfigError(f"config.part_numbers: the line has inspected no part {number}")
                if not Path(part.path).is_file():
                    raise ConfigError(
                        f"config.part_numbers: the photo of part {number} no longer exists ({part.path!r})"
                    )
                photos[f"{number}: {part.name}"] = part.path
    if config.data.root and not photos:
        raise ConfigError(f"config.data.root: {config.data.root!r} contains no photos")
    return photos


def _scored_again(bank: ReferenceBank, images: Mapping[str, str]) -> str:
    """A table of the added parts with their scores against the extended bank."""
    inspection = bank.inspect(list(images.values()))
    names, scores = [list(images)[i] for i in inspection.kept], inspection.scores
    rows = [
        [printable(name), f"{score:.4f}", "flagged" if flag else "passed"]
        for name, score, flag in zip(names, scores, inspection.flagged)
    ]
    return text_table(["scored again", "score", "verdict"], rows)


def _history(bank: ReferenceBank) -> str:
    rows = []
    for number, revision in enumerate(bank.history):
        names = ", ".join(map(printable, revision.names[:3])) + (" ..." if len(revision.names) > 3 else "")
        answer = "called defective" if revision.defective else "called good"
        parts = f"{len(revision.names)} {answer}: {names}" if revision.names else "made from a set"
        rows.append([str(number), revision.when or "-", parts])
    return text_table(["revision", "when", "parts"], rows)
