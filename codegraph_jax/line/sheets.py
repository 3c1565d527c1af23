"""Contact sheets of recurrence alarms: crops of the parts side by side."""

from collections.abc import Sequence

from PIL import Image

from codegraph_jax.core.names import printable
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.data.images import load_image
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.line.part import Alarm, Part
from codegraph_jax.report.boxes import Box
from codegraph_jax.report.contact_sheet import BACKGROUND, CROP_SIDE, contact_sheet, crop

HALF_BOX = 0.06
"""Half the side of a box around a peak without a region, as a share of the photo."""


def contact_sheet_of(alarm: Alarm, parts: Sequence[Part], value_range: ValueRange | None) -> Image.Image:
    """The contact sheet of an alarm; crops of missing photos are empty.

    Args:
        alarm: a recurrence alarm.
        parts: parts of the alarm.
        value_range: see `load_image`.
    """
    crops = [_crop_of(part, value_range) for part in parts]
    return contact_sheet(alarm.message, crops, [f"{part.id}: {printable(part.name)}" for part in parts])


def boxes_of(part: Part) -> list[Box]:
    """Boxes of the flagged regions, or else a box around the greatest score."""
    if part.regions and part.width and part.height:
        edges = [region["box"] for region in part.regions]
        return [Box(a / part.width, b / part.height, c / part.width, d / part.height) for a, b, c, d in edges]
    if part.peak_position:
        x, y = part.peak_position
        return [Box(max(x - HALF_BOX, 0), max(y - HALF_BOX, 0), min(x + HALF_BOX, 1), min(y + HALF_BOX, 1))]
    return []


def _crop_of(part: Part, value_range: ValueRange | None) -> Image.Image:
    try:
        return crop(load_image(part.path, value_range), boxes_of(part))
    except UnreadableImageError:
        return Image.new("RGB", (CROP_SIDE, CROP_SIDE), BACKGROUND)
