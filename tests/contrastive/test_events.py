"""The event file, taken apart by hand."""

import struct

import pytest

from contrastive_jax.report.events import EventFile, masked_crc
from contrastive_jax.report.log import Records


def payloads(data):
    """The payloads of a TFRecord file; checks both checksums of each."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12])[0] == masked_crc(data[:8])
        payload = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc(payload)
        yield payload
        data = data[16 + length :]


def test_checksum():
    """CRC-32C of nine digits is 0xE3069283 (RFC 3720, appendix B.4, gives the same polynomial's vectors)."""
    mask = (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == mask


def test_events(tmp_path):
    file = EventFile(tmp_path / "events")
    file.add(300, {"train/loss": 1.5, "é": -2.0})
    file.close()
    version, event = payloads((tmp_path / "events").read_bytes())
    assert version[0] == 0x09 and version[9:] == b"\x1a\x0dbrain.Event:2"
    # wall_time, step = 300, summary with two values
    assert event[0] == 0x09 and event[9:12] == b"\x10\xac\x02"
    loss = b"\x0a\x0atrain/loss\x15" + struct.pack("<f", 1.5)
    other = b"\x0a\x02" + "é".encode() + b"\x15" + struct.pack("<f", -2.0)
    summary = b"".join(b"\x0a" + bytes([len(value)]) + value for value in (loss, other))
    assert event[12:] == b"\x2a" + bytes([len(summary)]) + summary


@pytest.mark.parametrize("kept", [1, 2])
def test_a_resumed_run_begins_its_events_with_what_it_keeps(tmp_path, kept):
    first = Records(tmp_path / "metrics.jsonl", 0)
    for epoch in (1, 2):
        first.add("train", epoch, 3 * epoch, {"loss": float(epoch)})
    first.close()
    Records(tmp_path / "metrics.jsonl", kept).close()
    assert len(list(payloads((tmp_path / "events.out.tfevents.0").read_bytes()))) == 1 + kept
