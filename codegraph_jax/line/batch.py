"""Rows of a ledger for images that were inspected together."""

import os
from pathlib import Path

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.data.images import page_of
from codegraph_jax.line.part import Part, file_key, judged_part, now
from codegraph_jax.report.pictures import Picture
from codegraph_jax.report.records import Record


def inspected_part(bank: ReferenceBank, record: Record, picture: Picture, name: str) -> Part:
    """The row of an image that the bank has judged; `name` is what it is called."""
    result, moment = record.outcome.result, now()
    part = Part(_key_of(name, record.path), name, _place(record.path), moment, moment, "judged", layer=picture.layer)
    content = result.placement.content(record.index)
    seen = [s.pattern for s in result.consistency.sightings if record.index in s.images]
    return judged_part(
        part,
        bank,
        (record.score_raw, record.p_value, record.flagged),
        (picture.image_width, picture.image_height),
        content.cut(result.patch_scores[record.index]),
        seen,
        picture.regions,
    )


def unreadable_part(path: str, name: str, reason: str) -> Part:
    """The row of an image that cannot be read."""
    moment = now()
    return Part(_key_of(name, path), name, _place(path), moment, moment, "failed", reason)


def _place(path: str) -> str:
    """Where a picture is, wherever the ledger is read from; the name of one that no file holds."""
    return os.path.abspath(path) if os.path.isfile(page_of(path)[0]) else path  # noqa: PTH100, PTH113


def _key_of(name: str, path: str) -> str:
    """Of an image that no file holds, or that has gone meanwhile, its name alone."""
    try:
        return file_key(name, Path(page_of(path)[0]).stat().st_mtime_ns)
    except (OSError, ValueError):
        return name
