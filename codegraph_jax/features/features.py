"""The features of a set of images, as the later stages read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.data.images import Source, StoredImage
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import Inspected, inspected_patches
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.features.on_device import only


@dataclass(frozen=True)
class Features:
    """What the later stages need of the images.

    Attributes:
        layers: for each layer the patch tokens [k, p, c], normalised over each image (`aggregation.normalise`) and
            rounded to the type that the run keeps them in: of the k images that this process has read; on the device
            where one does all the work and no buffer was given (an array, or a `DeviceLayer`), else on the host.
        counts: images of each process; they follow one another.
        image_features: [n, d], for the re-scoring of images.
        keys: digest of each image's pixels as the backbone sees them; equal for equal images, whatever their names.
        kept: which of the sources these n images are.
        placement: where the photographs lie in the grids of patches, and which patches are judged; the tokens of the
            others are 0.
        skipped: (source index, reason) of those that could not be read.
        found: images that a store had.
        copies: (source index, place among the n images) of sources that show the same as one of these, pixel by pixel,
            and were left out; where `extract` was asked to look for them.
        value_range: how samples that do not have 8 bits were shown.
        grey_levels: by source index, of photos with few of them (`data.contents`).
    """

    layers: list[Any]
    counts: tuple[int, ...]
    image_features: Float[np.ndarray, "n d"]
    keys: list[bytes]
    kept: Int[np.ndarray, " n"]
    placement: Placement
    skipped: list[tuple[int, str]]
    found: int = 0
    copies: tuple[tuple[int, int], ...] = ()
    value_range: ValueRange | None = None
    grey_levels: Mapping[int, int] = field(default_factory=dict)

    @property
    def own(self) -> range:
        """The images that this process holds."""
        rank = jax.process_index()
        start = sum(self.counts[:rank])
        return range(start, start + self.counts[rank])

    def where_inspected(self, inspected: Sequence[Inspected], sources: Sequence[Source]) -> "Features":
        """The same with nothing left of what is not inspected: its tokens become 0.

        Args:
            inspected: what of each source is.
            sources: of which these features are.

        Raises:
            ConfigError: nothing of a photograph is inspected.
        """
        names = [source_name(sources, i) for i in self.kept]
        patches = inspected_patches(self.placement, [inspected[i] for i in self.kept], names)
        placement = self.placement.within(patches)
        if placement.judged is None:
            return self
        layers = [only(layer, placement.judged[self.own.start : self.own.stop]) for layer in self.layers]
        return replace(self, layers=layers, placement=placement)


def source_name(sources: Sequence[Source], place: int) -> str:
    """What messages call a source."""
    source = sources[place]
    return str(source) if isinstance(source, str | StoredImage) else f"image {place}"
