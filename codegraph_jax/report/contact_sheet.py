"""Contact sheets: the images of one group side by side, cropped to the pattern that they share."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from codegraph_jax.core.names import printable
from codegraph_jax.report.boxes import Box

CROP_SIDE = 224
"""Side of a crop in pixels."""
MARGIN, CAPTION, HEADING = 12, 20, 40
CONTEXT = 2.5
"""Side of a crop relative to the longer side of the box."""
MIN_SHARE = 0.25
"""Minimum side of a crop relative to the shorter side of the image."""
MAX_CROPS = 60
"""Maximum number of crops on a sheet."""
BACKGROUND, INK, FAINT, FRAME = "#ffffff", "#1a1c20", "#5b616b", "#e5007d"


def crop(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A square of `CROP_SIDE` pixels around the largest box of an image, with all boxes; the whole image without."""
    width, height = image.size
    if not boxes:
        return ImageOps.pad(image, (CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR, BACKGROUND)
    main = max(boxes, key=lambda box: (box.right - box.left) * (box.bottom - box.top))
    left, top, right, bottom = main.pixels(width, height)
    window = max(CONTEXT * max(right - left, bottom - top), MIN_SHARE * min(width, height))
    window = max(1, round(min(window, max(width, height))))
    # moved into the image if it fits; otherwise padded with the background
    x, y = _inside((left + right - window) // 2, window, width), _inside((top + bottom - window) // 2, window, height)
    cut = Image.new("RGB", (window, window), BACKGROUND)
    visible = image.crop((max(x, 0), max(y, 0), min(x + window, width), min(y + window, height)))
    cut.paste(visible, (max(-x, 0), max(-y, 0)))
    picture = cut.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR)
    zoom = window / CROP_SIDE
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        edges = box.pixels(width, height)
        near_x, near_y, far_x, far_y = ((edge - shift) / zoom for edge, shift in zip(edges, (x, y, x, y)))
        corners = [near_x, near_y, max(near_x, far_x - 1), max(near_y, far_y - 1)]
        draw.rectangle(corners, outline=FRAME, width=2)
    return picture


def contact_sheet(heading: str, crops: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """A picture of captioned crops under a heading.

    Args:
        heading: one line.
        crops: squares of CROP_SIDE pixels; the heading has the number of those beyond MAX_CROPS.
        captions: a name for each crop; trimmed to its width.
    """
    more = len(crops) - MAX_CROPS
    crops, captions = crops[:MAX_CROPS], captions[:MAX_CROPS]
    columns = min(max(3, round(len(crops) ** 0.5 * 1.2)), 8)
    rows = -(-len(crops) // columns)
    width = columns * (CROP_SIDE + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, HEADING + rows * (CROP_SIDE + CAPTION + MARGIN) + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if more > 0:
        heading = f"{heading} ({more} more are not shown)"
    draw.text((MARGIN, MARGIN), _fitted(printable(heading), width - 2 * MARGIN, _font(18)), INK, _font(18))
    for index, (picture, caption) in enumerate(zip(crops, captions)):
        x = MARGIN + index % columns * (CROP_SIDE + MARGIN)
        y = HEADING + MARGIN // 2 + index // columns * (CROP_SIDE + CAPTION + MARGIN)
        sheet.paste(picture, (x, y))
        draw.text((x, y + CROP_SIDE + 3), _fitted(printable(caption), CROP_SIDE, _font(12)), FAINT, _font(12))
    return sheet


def _inside(start: int, length: int, limit: int) -> int:
    """Start of a window that is moved into [0, limit], or centred if it is longer."""
    return (limit - length) // 2 if length > limit else min(max(start, 0), limit - length)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib comes with this font, which has most alphabets
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """`text` shortened to `width` pixels."""
    length = len(text)
    while length > 1 and font.getlength(trimmed(text, length)) > width:
        length -= 1
    return trimmed(text, length)


def trimmed(text: str, length: int) -> str:
    """`text` shortened to `length` characters in the middle, since names often differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"
