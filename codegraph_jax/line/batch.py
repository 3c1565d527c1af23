"""Ledger rows for images that were inspected as a batch."""

import os
from dataclasses import replace
from pathlib import Path

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.data.images import page_of
from codegraph_jax.line.part import Part, blank_part, content_of_file, file_key, scored_part, stamp_of
from codegraph_jax.report.pictures import ReportPhoto


def inspected_part(bank: ReferenceBank, photo: ReportPhoto, name: str) -> Part:
    """The row of an image that was scored against the bank."""
    record, result = photo.record, photo.record.outcome.result
    part = replace(_blank(record.path, name), heatmap=photo.anomaly_png)
    rect = result.placement.rect(record.index)
    patterns = [match.pattern for match in result.consistency.matches if record.index in match.images]
    return scored_part(
        part,
        bank,
        score=record.score,
        p_value=record.p_value,
        flagged=record.flagged,
        size=photo.size,
        scores=rect.cut(result.patch_scores[record.index]),
        patterns=patterns,
        regions=photo.regions,
    )


def unreadable_part(path: str, name: str, reason: str) -> Part:
    """The row of an image that cannot be read."""
    return _blank(path, name).not_inspected(reason)


def _blank(path: str, name: str) -> Part:
    """The row of an image before it is scored, with the absolute path of its file."""
    file = page_of(path)[0]
    absolute = os.path.abspath(path) if os.path.isfile(file) else path  # noqa: PTH100, PTH113
    try:
        status, content = Path(file).stat(), content_of_file(file)
    except (OSError, ValueError):  # the image has no file, or the file was removed or cannot be read
        return blank_part(name, name, absolute)
    part = blank_part(file_key(name, status, content), name, absolute)
    return replace(part, content=content, stamp=stamp_of(status))
