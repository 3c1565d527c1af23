"""Settings of a training run and of a scoring run."""

import dataclasses
from dataclasses import dataclass, field

from codegraph_jax.core.settings import (
    ConfigError,
    Settings,
    at_least,
    check_black_and_white,
    choice,
    no_flag,
    path_like,
    unset,
    within,
)
from codegraph_jax.data.value_range import ValueRange
from contrastive_jax.objectives import OBJECTIVES

PROTOCOLS = ("one_vs_rest", "leave_one_class_out", "unlabelled", "multimodal")
"""Which images are normal; see `OeclDataConfig.protocol`."""


@dataclass(frozen=True)
class OeclDataConfig(Settings):
    """Training and test images, and which of them are normal."""

    train: str = field(default="tfds:cifar10", metadata=path_like())
    """Source of the training images: `tfds:` and a tensorflow-datasets name, a directory of class folders, an
    .npz file, `csv:` and a table of classes, `voc:` and a set of boxes, or the demo's `patterns` (see
    `contrastive_jax.data.catalog`)."""
    train_split: str = "train"
    """Split of `train`, where the source has splits."""
    test: str = field(default="same", metadata=path_like())
    """Source of the test images; `same`: that of `train`; `none`: no test."""
    test_split: str = "test"
    """Split of `test`, where the source has splits."""
    protocol: str = field(default="one_vs_rest", metadata=choice(*PROTOCOLS))
    """`one_vs_rest`: class `target` is normal. `leave_one_class_out`: every class but `target` is. `unlabelled`: all
    training images are, and `target` names the normal class of the test set. `multimodal`: every class is normal, and
    `evaluation.ood` names the sets that are not."""
    target: str = "0"
    """Number or name of the class that `protocol` refers to."""
    classes: tuple[str, ...] = ()
    """Classes of training and test images that take part, by name or number; empty: all."""
    range: tuple[float, ...] = field(default=(), metadata={"check": check_black_and_white})
    """Of images with 16-bit, 32-bit or float pixels: the pixel values that become black and white, such as `0,4095`;
    empty: measured on the normal training images. Test images and images that are scored later use the same values."""
    no_data: tuple[float, ...] = ()
    """Of the same images: the pixel values that mean "no data", such as -9999, and are replaced by the mean of the
    image; empty: found on the normal training images."""
    min_box_side: int = field(default=0, metadata=no_flag() | at_least(0))
    """Smallest side in pixels of the boxes that are used from `voc:` sources."""
    stored_size: int = field(default=32, metadata=at_least(1))
    """Side in pixels of the images in memory; augmentation crops from these."""
    image_size: int = field(default=32, metadata=at_least(8))
    """Side in pixels of the network's input."""
    clean_view: str = field(default="whole", metadata=no_flag() | choice("whole", "center_crop"))
    """View without augmentation: `whole` resizes the stored image, `center_crop` cuts out its centre."""


@dataclass(frozen=True)
class ExposureConfig(Settings):
    """Outlier exposure (OE)."""

    source: str = field(default="tfds:cifar100", metadata=path_like())
    """Source of the OE images, which show anything but normal parts, in the forms of `data.train`. Objectives without
    OE do not read it."""
    split: str = "train"
    """Split of `source`, where the source has splits."""
    classes: tuple[str, ...] = ()
    """Classes of `source` that are used, by name or number; empty: all."""
    exclude: tuple[str, ...] = ()
    """Classes of `source` that are not used, such as those that also occur in the test."""
    class_count: int | None = field(default=None, metadata=no_flag() | at_least(1) | unset("all"))
    """Number of classes that are used, after `classes` and `exclude`, drawn by the seed."""
    image_count: int | None = field(default=None, metadata=at_least(1) | unset("all"))
    """Number of OE images that are used, drawn once by the seed. A small number is repeated within an epoch."""
    resample: str = field(default="fresh", metadata=no_flag() | choice("fresh", "fixed"))
    """`fresh` draws other OE images in each epoch; `fixed` repeats the first draw, as the released code does."""
    alpha: float = field(default=1.0, metadata=at_least(0))
    """Weight of the OE norm term."""
    warmup: float = field(default=0.05, metadata=no_flag() | within(0, 1))
    """Share of the run during which alpha is 0."""


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Augmentation of training images and of the extra views of a test image, in torchvision's terms."""

    crop_scale: tuple[float, float] = field(default=(0.08, 1.0), metadata=within(0, 1))
    """Range of the share of the area that RandomResizedCrop keeps."""
    mean: tuple[float, float, float] = field(default=(125.3 / 255, 123.0 / 255, 113.9 / 255), metadata=no_flag())
    """Means of the channels in [0, 1], which are subtracted after the augmentation."""
    std: tuple[float, float, float] = field(default=(63.0 / 255, 62.1 / 255, 66.7 / 255), metadata=no_flag())
    """Standard deviations of the channels in [0, 1], by which the result is divided."""


@dataclass(frozen=True)
class ModelConfig(Settings):
    """ResNet-18 and its head."""

    stem: str = field(default="cifar", metadata=no_flag() | choice("cifar", "imagenet"))
    """First layers: a 3x3 convolution (`cifar`), or 7x7 with stride 2 and a max-pool (`imagenet`)."""
    width: int = field(default=64, metadata=no_flag() | at_least(1))
    """Number of channels of the first stage; the published network has 64."""
    head_dim: int = field(default=128, metadata=no_flag() | at_least(1))
    """Width of the head's output; the objective `bce` always has 1 logit."""
    dtype: str = field(default="float32", metadata=choice("float32", "tf32", "bfloat16"))
    """Type of activations and matrix products; with `tf32` they are float32, and GPUs round the factors. Parameters,
    BatchNorm statistics and the loss are always float32."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of the optimisation."""

    objective: str = field(default="oecl", metadata=choice(*OBJECTIVES))
    """Loss and score: `oecl`, `self_oecl` or `simclr`, or the baselines `hsc` and `bce` (docs/oecl.md)."""
    epochs: int = field(default=1000, metadata=at_least(1))
    """Number of passes over the normal images; the last incomplete batch of each is dropped."""
    batch_size: int = field(default=256, metadata=at_least(2))
    """Number of normal images per step over all devices; objectives with OE add the same number of OE images."""
    temperature: float = field(default=0.5, metadata=no_flag() | at_least(1e-3))
    """Temperature of NT-Xent."""
    learning_rate: float = field(default=0.1, metadata=at_least(0))
    """Learning rate of the first step; it falls to 0 along a cosine."""
    weight_decay: float = field(default=5e-4, metadata=no_flag() | at_least(0))
    """Weight decay, which is added to the gradient of every parameter."""
    checkpoint_every: int | None = field(default=None, metadata=no_flag() | at_least(1) | unset("auto"))
    """Number of epochs between checkpoints; `auto`: about twenty in the run. The last epoch is always saved."""


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """Test of a trained network."""

    views: int = field(default=32, metadata=at_least(0))
    """Number of augmented views in addition to the clean one."""
    batch_size: int = field(default=256, metadata=no_flag() | at_least(1))
    """Number of images per call over all devices."""
    image_count: int | None = field(default=None, metadata=no_flag() | at_least(2) | unset("all"))
    """Number of test images that are used, half of them normal."""
    ood: tuple[str, ...] = field(default=(), metadata=path_like())
    """Sets that the protocol `multimodal` tests against, each as NAME=SOURCE or NAME@SPLIT=SOURCE."""
    test_every: int | None = field(default=None, metadata=at_least(1) | unset("none"))
    """Number of epochs between tests with the clean view during training; `none`: only at the end."""


@dataclass(frozen=True)
class OeclConfig(Settings):
    """One training run with its test."""

    task: str = field(default="oecl", metadata=choice("oecl"))
    """Task that this config is for."""
    seed: int = field(default=0, metadata=at_least(0))
    """Seed of the initial parameters, of the order of images and of the augmentation."""
    data: OeclDataConfig = field(default_factory=OeclDataConfig)
    oe: ExposureConfig = field(default_factory=ExposureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.augment.crop_scale
        if not 0 < low <= high:
            raise ConfigError(f"config.augment.crop_scale: expected 0 < low <= high, got {self.augment.crop_scale!r}")
        if min(self.augment.std) <= 0:
            raise ConfigError(f"config.augment.std: must be above 0, got {self.augment.std!r}")
        if not self.data.test:
            raise ConfigError("config.data.test: is empty; give a source, same, or none")
        if self.data.image_size > self.data.stored_size:
            raise ConfigError(
                f"config.data.image_size: {self.data.image_size} is above data.stored_size {self.data.stored_size}; "
                "images would be enlarged"
            )
        if (self.data.protocol == "multimodal" and self.data.test != "none") != bool(self.evaluation.ood):
            raise ConfigError(
                "config.evaluation.ood: is required for data.protocol=multimodal with a test, and allowed only there; "
                f"name sets that are out of distribution, NAME=SOURCE, got {self.evaluation.ood!r}"
            )
        names = [ood_entry(entry)[0] for entry in self.evaluation.ood]
        if len(set(names)) != len(names):
            raise ConfigError(f"config.evaluation.ood: two sets have the same name in {self.evaluation.ood!r}")


@dataclass(frozen=True)
class ScoreConfig(Settings):
    """Scores a folder of images with a trained network."""

    task: str = field(default="oecl_score", metadata=choice("oecl_score"))
    """Task that this config is for."""
    run: str = field(default="", metadata=path_like())
    """Workdir of the training run whose newest checkpoint is used."""
    images: str = field(default="", metadata=path_like())
    """Folder of images, including its subfolders."""
    views: int = field(default=32, metadata=at_least(0))
    """Number of augmented views in addition to the clean one."""


def at_224(
    data: OeclDataConfig,
    oe: ExposureConfig,
    augment: AugmentConfig = AugmentConfig(),
    batch_size: int = TrainConfig.batch_size,
) -> OeclConfig:
    """Paper's settings for images of 224 px (arXiv:2312.15288, released code), for a given set.

    Images are resized to 256 px and cropped, the network's input is (x - 0.5) / 0.5, and its stem is ImageNet's.
    """
    return OeclConfig(
        data=dataclasses.replace(data, stored_size=256, image_size=224, clean_view="center_crop"),
        oe=oe,
        augment=dataclasses.replace(augment, mean=(0.5,) * 3, std=(0.5,) * 3),
        model=ModelConfig(stem="imagenet", dtype="bfloat16"),
        train=TrainConfig(batch_size=batch_size),
    )


def leave_one_class_out(config: OeclConfig) -> OeclConfig:
    """Settings with the protocol `leave_one_class_out` and half the epochs, as in the paper."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, protocol="leave_one_class_out"),
        train=dataclasses.replace(config.train, epochs=TrainConfig.epochs // 2),
    )


def with_value_range(config: OeclConfig, value_range: ValueRange) -> OeclConfig:
    """Settings with a measured range, so that a checkpoint converts images that are scored later in the same way."""
    data = dataclasses.replace(config.data, range=value_range.black_and_white, no_data=value_range.no_data)
    return dataclasses.replace(config, data=data)


def ood_entry(entry: str) -> tuple[str, str, str]:
    """Name, split and source of an entry of `evaluation.ood`.

    Raises:
        ConfigError: the entry has another form.
    """
    heading, equals, source = entry.partition("=")
    name, _, split = heading.partition("@")
    if not (name and equals and source):
        raise ConfigError(f"config.evaluation.ood: expected NAME=SOURCE or NAME@SPLIT=SOURCE, got {entry!r}")
    return name, split, source
