"""Parts of a line."""

from codegraph_jax.line.part import Part, ReceivedPhoto, utc_now

MOMENT = "2026-01-02T03:04:05.678+00:00"


def part(key: str = "a", **fields) -> Part:
    given = {
        "score": 0.25, "p_value": 0.5, "threshold": 0.4, "flagged": False, "width": 8, "height": 6,
        "peak_position": (0.1, 0.9), "patterns": ("imprint",), "regions": ({"region": 1, "box": [1, 2, 3, 4]},),
        "statistics": {"score": 0.25}, "seconds": 0.01, "heatmap": b"png",
    }  # fmt: skip
    received = ReceivedPhoto(key, f"{key}.png", f"/x/{key}.png", received_at=MOMENT)
    return inspected_part(received, inspected_at=MOMENT, **given | fields)


def inspected_part(photo: ReceivedPhoto, **fields) -> Part:
    return Part(**vars(photo) | {"inspected_at": utc_now(), "status": "inspected"} | fields)
