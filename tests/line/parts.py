"""A part of a line."""

from codegraph_jax.line.part import Part

MOMENT = "2026-01-02T03:04:05.678+00:00"


def part(key: str = "a", **fields) -> Part:
    given = {
        "score": 0.25, "p_value": 0.5, "threshold": 0.4, "flagged": False, "width": 8, "height": 6,
        "peak_position": (0.1, 0.9), "patterns": ("imprint",), "regions": ({"region": 1, "box": [1, 2, 3, 4]},),
        "statistics": {"score": 0.25}, "seconds": 0.01, "heatmap": b"png",
    }  # fmt: skip
    return Part(key, f"{key}.png", f"/x/{key}.png", MOMENT, MOMENT, "inspected", **given | fields)
