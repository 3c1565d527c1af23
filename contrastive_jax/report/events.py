"""Scalars in the file format that TensorBoard reads, without TensorBoard or TensorFlow.

A file is a row of records: length (uint64), its checksum, payload, its checksum (TFRecord; CRC-32C, masked). A payload
is an `Event` protocol buffer: wall_time (1, double), step (2, varint), file_version (3, string) or summary (5), which
holds one value (1) for each scalar: tag (1, string) and simple_value (2, float).
"""

import struct
import time
from pathlib import Path

POLYNOMIAL = 0x82F63B78
"""Of CRC-32C (Castagnoli), bits reversed."""


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, rotated and offset as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class EventFile:
    """One event file, begun anew when it is opened."""

    def __init__(self, path: Path):
        """Opens the file and writes the version that TensorBoard looks for."""
        self._stream = path.open("wb")
        self._write(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one event with all `scalars`."""
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in scalars.items()
        )
        self._write(_double(1, time.time()) + b"\x10" + _varint(step) + _bytes(5, values))

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        checks = (struct.pack("<I", masked_crc(part)) for part in (length, event))
        self._stream.write(length + next(checks) + event + next(checks))
        self._stream.flush()


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(encoded) + bytes([number])


def _bytes(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _double(field: int, number: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", number)
