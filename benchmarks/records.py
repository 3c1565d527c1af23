"""Records: the rows of a measurement, each a line of JSON and a row of the table."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from codegraph_jax.core.environment import device_summary, peak_memory
from codegraph_jax.core.tables import text_table
from codegraph_jax.core.timing import Timing

Record = dict[str, Any]
TORCH = "torch float32"
"""Name of the baseline."""

COLUMNS = {
    "name": "",
    "first_call_s": "first call s",
    "wall_s": "wall s",
    "cpu_s": "CPU s",
    "host_s": "of the host s",
    "copies": "copies",
    "copied_mib": "MiB copied",
    "rate": "rate",
    "gflop_per_s": "GFLOP/s",
    "share_of_peak": "of peak",
    "error": "error",
    "rank_correlation": "rank corr.",
    "speedup": "x torch",
    "median_ms": "median ms",
    "p99_ms": "99% ms",
    "cpu_ms": "CPU ms",
    "decode_ms": "decode",
    "backbone_ms": "backbone",
    "bank_ms": "bank",
    "rest_ms": "rest",
    "peak_gib": "peak GiB",
}


def record(
    measurement: str,
    name: str,
    timing: Timing,
    items: int,
    unit: str,
    flop: float | None = None,
    peak: float | None = None,
    devices: int = 1,
    **more: Any,
) -> Record:
    """One row of a measurement.

    Args:
        measurement: one of `MEASUREMENTS`.
        name: name of the row.
        timing: times of a call.
        items: number of items per call.
        unit: name of the items, such as pairs or images.
        flop: useful floating-point operations of a call.
        peak: FLOP/s of a matrix product of this precision, measured in this run.
        devices: number of devices.
        **more: further fields.
    """
    rate = items / timing.seconds
    speed = flop / timing.seconds if flop else None
    return {
        "measurement": measurement,
        "name": name,
        **device_summary(),
        "devices": devices,
        "first_call_s": timing.first_seconds,
        "wall_s": timing.wall_seconds,
        "cpu_s": timing.cpu_seconds,
        "rate": rate,
        "rate_per_device": rate / devices,
        "unit": f"{unit}/s",
        "flop_per_s": speed,
        "share_of_peak": speed / peak / devices if speed and peak else None,
        "peak_bytes": peak_memory(),
        "time": "cpu_s" if jax.default_backend() == "cpu" else "wall_s",
        **more,
    }


def speedup(times: Mapping[str, Timing], timing: Timing) -> float | None:
    """Time of the baseline in PyTorch as a multiple of `timing`; None without torch."""
    return times[TORCH].seconds / timing.seconds if TORCH in times else None


def table(records: Sequence[Record]) -> str:
    """The records of one measurement as a table without empty columns."""
    rows = [[_cell(record, field) for field in COLUMNS] for record in records]
    used = [column for column in range(len(COLUMNS)) if any(row[column] != "-" for row in rows)]
    titles = list(COLUMNS.values())
    return text_table([titles[column] for column in used], [[row[column] for column in used] for row in rows])


def _cell(record: Record, field: str) -> str:
    if field == "rate":
        return f"{record['rate']:.4g} {record['unit']}"
    if field == "gflop_per_s":
        return f"{record['flop_per_s'] / 1e9:.0f}" if record.get("flop_per_s") else "-"
    if field == "peak_gib":
        return f"{max(record['peak_bytes'].values()) / 2**30:.2f}"
    value = record.get(field)
    if value is None:
        return "-"
    if field == "share_of_peak":
        return f"{100 * value:.0f}%"
    if field == "error":
        return f"{value:.1e}"
    if field == "rank_correlation":
        return f"{value:.7f}"
    return value if isinstance(value, str) else f"{value:.3f}" if value < 100 else f"{value:.0f}"
