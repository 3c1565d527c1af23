"""Rows of a ledger for images that were inspected together."""

import os
from dataclasses import replace
from pathlib import Path

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.data.images import page_of
from codegraph_jax.line.part import Part, content_of_file, file_key, judged_part, look_of, now
from codegraph_jax.report.pictures import Picture
from codegraph_jax.report.records import Record


def inspected_part(bank: ReferenceBank, record: Record, picture: Picture, name: str) -> Part:
    """The row of an image that the bank has judged; `name` is what it is called."""
    result = record.outcome.result
    part = replace(_blank(record.path, name), layer=picture.layer)
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
    return replace(_blank(path, name), status="failed", reason=reason)


def _place(path: str) -> str:
    """Where a picture is, wherever the ledger is read from; the name of one that no file holds."""
    return os.path.abspath(path) if os.path.isfile(page_of(path)[0]) else path  # noqa: PTH100, PTH113


def _blank(path: str, name: str) -> Part:
    """The row of an image before anything is known of it but its file."""
    moment = now()
    try:
        status, content = Path(page_of(path)[0]).stat(), content_of_file(page_of(path)[0])
        key, look = file_key(name, status, content), look_of(status)
    except (OSError, ValueError):  # no file holds it, or it has gone meanwhile: its name alone
        key, content, look = name, "", ""
    return Part(key, name, _place(path), moment, moment, "judged", content=content, look=look)
