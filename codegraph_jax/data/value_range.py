"""The value range of a set: the pixel values that become black and white in photos that do not have 8 bits.

Photos of 16-bit, 32-bit or float values rarely use their full range: a 12-bit camera leaves the upper four bits empty,
a thermal camera uses a few thousand of 65,536 values, and floats have no fixed range. Scaled by the full range, such
photos are nearly black or have a dozen grey levels; scaled by their own extremes, they cannot be compared. Therefore
the range is measured over all photos of a set:

- Values without data (NaN, infinities, -9999, the extremes of 32-bit integers, the no-data value of a GeoTIFF) are
  ignored, and their pixels are not inspected.
- Dead pixels and outliers do not set the range. They become black or white, with some distance from the rest
  (`HEADROOM`), since a bright pixel may also be a defect.
- If the values fill half of a usual range (0 to 1, or 8 to 16 bits from 0), the usual range is used. The same camera
  then has the same range on another day, and photos look like an 8-bit copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8

from codegraph_jax.core.json_fields import JsonFields

OUTLIER_SHARE = 0.001
"""Share of the lowest and of the highest pixel values that may be outliers."""
HEADROOM = 0.5
"""Extension of the range for outliers beyond the bulk of the pixel values, as a share of the width of the bulk."""
USUAL = (1.0, *(float(2**bits - 1) for bits in range(8, 17)))
"""Upper ends of usual ranges, which begin at 0."""
MIN_FILLED = 0.5
"""Share of a usual range that the pixel values must fill."""
FILL_MAGNITUDE = 1e19
"""Greater pixel values are fill values, such as 1e20, 9.97e36 and 3.4e38."""
FILLS = (-(2**31), 2**31 - 1)
"""The extremes of 32-bit integers, which are fill values."""

QUANTILES = 256
"""Number of quantiles in the summary of a photo."""
MAX_VALUES = 2**17
"""Maximum number of pixel values of a photo from which its quantiles are computed."""
SIGNED_EXTREMES = (128, 32767, 32768, 2**31 - 1, 2**31)
"""Extremes of signed integers, without their sign."""
MARGIN = 0.02
"""Extension of a measured range beyond the bulk, as a share of its width."""
LOWEST_VALUES = 4
"""Number of lowest distinct values of a photo that are checked for no-data values."""


@dataclass(frozen=True)
class ValueRange(JsonFields):
    """The conversion of 16-bit, 32-bit and float pixel values to 8 bits.

    Attributes:
        low: the pixel value that becomes black.
        high: the pixel value that becomes white.
        no_data: values that mean "no data", in addition to values that are not finite.
        min_max: least and greatest pixel value of the set; empty if the range was given.
        gap_photo_count: number of photos of the set with pixels that have no data.
    """

    low: float
    high: float
    no_data: tuple[float, ...] = ()
    min_max: tuple[float, ...] = ()
    gap_photo_count: int = 0

    def __post_init__(self) -> None:
        if not np.isfinite((self.low, self.high)).all() or not self.low < self.high or len(self.min_max) not in (0, 2):
            raise ValueError(f"not a value range: {self.low} to {self.high}, seen {self.min_max}")

    @property
    def black_and_white(self) -> tuple[float, float]:
        """The value of `config.data.range` that gives this range."""
        return self.low, self.high

    def to_uint8(self, values: Num[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """8-bit grey values; undefined for values without data."""
        if values.dtype == np.uint16:
            return self._scaled(np.arange(2**16, dtype=np.float64))[values]
        return self._scaled(np.nan_to_num(values.astype(np.float64)))

    def _scaled(self, values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        within = np.clip(values, self.low, self.high) - self.low
        return np.rint(within * (255 / (self.high - self.low))).astype(np.uint8)

    def __str__(self) -> str:
        text = f"{_number(self.low)} becomes black and {_number(self.high)} white"
        beyond = []
        if self.min_max and self.min_max[0] < self.low:
            beyond.append(f"down to {_number(self.min_max[0])}")
        if self.min_max and self.min_max[1] > self.high:
            beyond.append(f"up to {_number(self.min_max[1])}")
        if beyond:
            text += f"; a few pixels are outside, {' and '.join(beyond)}"
        if self.gap_photo_count:
            values = ", ".join(["NaN", *map(_number, self.no_data)])
            count = self.gap_photo_count
            text += f"; {count} photos have pixels without data (such as {values}), which are not inspected"
        return text


@dataclass(frozen=True)
class Summary:
    """Statistics of the pixel values of one photo; the tuples are empty if no pixel value has data.

    Attributes:
        quantiles: quantiles of the pixel values.
        lowest: the lowest distinct value, and further ones while they are negative.
        blocks: least and greatest value of a whole block of 3 x 3 pixels, which excludes dead pixels.
        min_max: least and greatest value.
        has_gaps: whether a pixel value has no data according to this photo alone.
    """

    quantiles: tuple[float, ...]
    lowest: tuple[float, ...]
    blocks: tuple[float, ...]
    min_max: tuple[float, ...]
    has_gaps: bool

    @classmethod
    def of(cls, values: Num[np.ndarray, "h w *c"], no_data: Sequence[float] = ()) -> "Summary":
        """The summary of all pixels of a photo; `no_data` are the values that the user or the file declares so."""
        has_data = have_data(values, no_data)
        valid = values[has_data]
        if not valid.size:
            return cls((), (), (), (), True)
        has_gaps = valid.size < values.size
        some = np.sort(valid[:: -(-valid.size // MAX_VALUES)])
        quantiles = some[((np.arange(QUANTILES) + 0.5) / QUANTILES * some.size).astype(int)]
        min_max = valid.min(), valid.max()
        low = _of_blocks(np.where(has_data, values, min_max[1]) if has_gaps else values, np.maximum).min()
        high = _of_blocks(np.where(has_data, values, min_max[0]) if has_gaps else values, np.minimum).max()
        lowest = [min_max[0]]
        while lowest[-1] < 0 and len(lowest) < LOWEST_VALUES and (valid := valid[valid > lowest[-1]]).size:
            lowest.append(valid.min())
        return cls(_floats(quantiles), _floats(lowest), _floats((low, high)), _floats(min_max), has_gaps)

    def lacks_data(self, value_range: ValueRange) -> bool:
        """Whether a pixel of the photo has no data."""
        return self.has_gaps or any(value in value_range.no_data for value in self.lowest)


def given_range(values: Sequence[float], no_data: tuple[float, ...]) -> ValueRange | None:
    """The range of `config.data.range` with `config.data.no_data`; None if `values` is empty."""
    return ValueRange(values[0], values[1], no_data) if values else None


def range_of(summaries: Sequence[Summary], no_data: tuple[float, ...] = ()) -> ValueRange | None:
    """The range of a set from the summaries of its photos; None if no pixel value has data.

    Without `no_data`, the values that mean "no data" are found among the lowest ones.
    """
    summaries = [summary for summary in summaries if summary.quantiles]
    if not summaries:
        return None
    bulk = np.sort(np.concatenate([summary.quantiles for summary in summaries]))
    outliers = int(OUTLIER_SHARE * bulk.size)
    bulk = _without_single_values(bulk[outliers : bulk.size - outliers])
    width = bulk[-1] - bulk[0]
    lowest = {value for summary in summaries for value in summary.lowest}
    found = sorted(value for value in lowest if width and _is_fill(value) and value < bulk[0] - width)
    no_data = no_data or tuple(found)
    # blocks of photos with no-data values are not reliable
    whole = [summary for summary in summaries if not set(summary.lowest) & set(no_data)]
    low = min([bulk[0], *(summary.blocks[0] for summary in whole)])
    high = max([bulk[-1], *(summary.blocks[1] for summary in summaries)])
    least = min(value for value in (*lowest, bulk[0]) if value not in no_data)
    min_max = float(least), max(summary.min_max[1] for summary in summaries)
    if width:
        low, high = max(low, bulk[0] - HEADROOM * width), min(high, bulk[-1] + HEADROOM * width)
    else:
        low, high = min_max
    measured = ValueRange(*_usual(float(low), float(high), min_max), no_data, min_max)
    return replace(measured, gap_photo_count=sum(summary.lacks_data(measured) for summary in summaries))


def _without_single_values(bulk: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Sorted pixel values without those at the ends whose distance to the rest exceeds the width of the rest."""
    while True:
        above, below = bulk[bulk > bulk[0]], bulk[bulk < bulk[-1]]
        if above.size and above[0] - bulk[0] > above[-1] - above[0] > 0:
            bulk = above
        elif below.size and bulk[-1] - below[-1] > below[-1] - below[0] > 0:
            bulk = below
        else:
            return bulk


def _is_fill(value: float) -> bool:
    """Whether a value is a common no-data value: -1, -9999 and similar, -1000, -32768."""
    digits = f"{-value:.0f}"
    known = digits == "1" or set(digits) == {"9"} or digits.strip("0") == "1" or -value in SIGNED_EXTREMES
    return value < 0 and float(value).is_integer() and known


def _usual(low: float, high: float, min_max: tuple[float, float]) -> tuple[float, float]:
    """The smallest usual range that holds these values, if they fill enough of it; otherwise their own range."""
    end = next((end for end in USUAL if end >= high), 0.0)
    if low >= 0 and end and high - low >= MIN_FILLED * end:
        return 0.0, end
    if low == high:
        # a single value becomes grey
        return low - 1, high + 1
    margin = MARGIN * (high - low)
    return max(low - margin, min(low, min_max[0])), min(high + margin, max(high, min_max[1]))


def have_data(values: Num[np.ndarray, "*shape"], no_data: Sequence[float]) -> Bool[np.ndarray, "*shape"]:
    """Pixel values that are finite, not fill values, and not in `no_data`."""
    if values.dtype.kind == "f":
        has_data = np.abs(values) < FILL_MAGNITUDE
    elif values.dtype.kind == "i":
        has_data = (values != FILLS[0]) & (values != FILLS[1])
    else:
        has_data = np.ones(values.shape, bool)
    for value in no_data:
        # compared in the precision of the file
        has_data &= values != values.dtype.type(value) if values.dtype.kind == "f" else values != value
    return has_data


def _of_blocks(values: Num[np.ndarray, "h w *c"], pick: np.ufunc) -> Num[np.ndarray, "a b *c"]:
    """The least or greatest pixel value of each block of 3 x 3 pixels, or of the whole side of a smaller photo."""
    if values.shape[0] > 2:
        values = pick(pick(values[:-2], values[1:-1]), values[2:])
    if values.shape[1] > 2:
        values = pick(pick(values[:, :-2], values[:, 1:-1]), values[:, 2:])
    return values


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _number(value: float) -> str:
    """A number formatted for messages."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < FILL_MAGNITUDE else f"{value:.6g}"
