"""Reads the features of a set: chooses frame and value range, uses cached features, and masks regions of interest."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from typing import Any

from codegraph_jax.config import Config, DataConfig
from codegraph_jax.core.environment import decoding_threads
from codegraph_jax.core.progress import bar
from codegraph_jax.data.blank_photos import refuse_blank_photos
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.frame_choice import choose_frame
from codegraph_jax.data.images import size_of
from codegraph_jax.data.measured_range import summaries
from codegraph_jax.data.roi import areas_with_data
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.value_range import Summary, ValueRange, range_of
from codegraph_jax.distributed.processes import errors_in_all_processes, gather, process_slice
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.extraction import Extractor
from codegraph_jax.features.features import Features
from codegraph_jax.features.set_plan import SetPlan
from codegraph_jax.features.stores import FeatureStore
from codegraph_jax.features.token_set import TokenSet


def frame_for(
    config: Config,
    patch_size: int,
    images: Sequence[Sample],
    affordable: Callable[[Frame], bool],
    log: Callable[[str], None] = lambda text: None,
) -> Frame:
    """The conversion of the images of a set to grids of patches, by the settings and the sizes of the images.

    Each process measures a share of the images. `log` is called with the choice of `config.backbone.fit=auto` and its
    reason.
    """
    settings = config.backbone
    if settings.fit == "squeeze":
        return Frame.squeezed(settings.side, patch_size)
    with ThreadPoolExecutor(decoding_threads()) as pool:
        gathered = gather(list(pool.map(size_of, images[process_slice(len(images))])))
    sizes = [(width, height) for of_process in gathered for width, height in filter(None, of_process)]
    options = settings.side, patch_size, settings.scale
    if settings.fit != "auto":
        return Frame.of(settings.fit, sizes, *options)
    frame, reason = choose_frame(sizes, *options, affordable)
    log(f"{frame}; {reason}" if reason else str(frame))
    return frame


def measure_range(
    config: DataConfig, images: Sequence[Sample], added: Sequence[Sample] = ()
) -> tuple[ValueRange | None, frozenset[int]]:
    """Measures the value range of a set, and finds photos with pixels that have no data.

    Args:
        config: the range and the values that mean "no data", if they are given.
        images: images of the set.
        added: further images, which do not change the range.

    Returns:
        (range, or None if all pixel values have 8 bits; indices of the photos, counting those of `added` last).
    """
    sources = [*images, *added]
    mine = process_slice(len(sources))
    with errors_in_all_processes():
        local_summaries = summaries(sources[mine], config.no_data)
    parts = gather([[i + mine.start, *astuple(summary)] for i, summary in local_summaries.items()])
    all_summaries = {i: Summary(*values) for of_process in parts for i, *values in of_process}
    measured = range_of([summary for i, summary in all_summaries.items() if i < len(images)], config.no_data)
    if not measured:
        return None, frozenset()
    if config.range:
        measured = replace(measured, low=config.range[0], high=config.range[1])
    return measured, frozenset(i for i, summary in all_summaries.items() if summary.lacks_data(measured))


def read_features(
    extractor: Extractor,
    config: DataConfig,
    plan: SetPlan,
    resume_store: FeatureStore | None,
    progress: bool,
) -> Features:
    """The features of all images without copies.

    Args:
        extractor: extractor with the frame of the set.
        config: cache and range.
        plan: the images, and where their features are stored.
        resume_store: the saved state of the run, which has the features of an interrupted run and stores new ones.
        progress: show a progress bar on standard error.

    Raises:
        NothingToCompareError: see `refuse_blank_photos`.
        UnreadableImageError, NotFiniteError: see `Extractor.extract`.
        ConfigError: nothing of a photo is inspected, or a directory cannot be written.
    """
    value_range: ValueRange | None = None
    incomplete: frozenset[int] = frozenset()
    sources: Sequence[Any]
    cache, images, sources = None, plan.images, plan.images
    if not isinstance(images, TokenSet):
        value_range, incomplete = measure_range(config, images, plan.added)
        sources = [*images, *plan.added]
        with errors_in_all_processes():
            if config.cache:
                cache = FeatureCache(config.cache, extractor.backbone, extractor.frame, extractor.dtype)
    stores: list[FeatureStore] = [store for store in (cache, resume_store) if store is not None]
    device_length = plan.device_plan.device_length if plan.device_plan else 0

    def read(drop_copies: bool) -> Features:
        with bar(len(sources), "network", "photo", progress) as advance:
            features = extractor.extract(
                sources, stores, allocate=plan.memory.allocate_features, device_length=device_length,
                drop_copies=drop_copies, value_range=value_range, advance=advance,
            )  # fmt: skip
        if cache:
            cache.warn_of_damage()
        return features

    features = read(drop_copies=True)
    if not isinstance(images, TokenSet):
        with errors_in_all_processes():
            refuse_blank_photos(images, features.kept, features.copies, features.grey_levels, bool(config.range))
    if features.copies and features.set_size(len(images)) < 2:
        # all images of the set are copies of one: keep them, as they can only be compared with each other
        features = read(drop_copies=False)
    with errors_in_all_processes():
        return features.masked(areas_with_data(sources, value_range, plan.areas, incomplete), sources)
