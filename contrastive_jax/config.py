"""Settings of a training run and of a scoring run; `codegraph_jax.core.settings.read_config` checks them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codegraph_jax.core.settings import ConfigError, at_least, choice, path_like, read_config, within
from contrastive_jax.objectives import OBJECTIVES

PROTOCOLS = ("one_vs_rest", "leave_one_class_out", "unlabelled", "multimodal")
"""Which images are normal; see `DataConfig.protocol`."""


@dataclass(frozen=True)
class DataConfig:
    """Which images are normal, and what the score is tested on."""

    train: str = field(default="tfds:cifar10", metadata=path_like())
    """The source of the training images: `tfds:` and a tensorflow-datasets name, a directory of class folders, an
    .npz file, `csv:` and a table of classes, `voc:` and a set of boxes, or the demo's `patterns` (see
    `codegraph_jax.data.catalog`)."""
    train_split: str = "train"
    """The split of `train`, where the source has splits."""
    test: str = field(default="", metadata=path_like())
    """The source of the test images; empty means that of `train`, and `none` trains without a test."""
    test_split: str = "test"
    """The split of `test`, where the source has splits."""
    protocol: str = field(default="one_vs_rest", metadata=choice(*PROTOCOLS))
    """`one_vs_rest`: class `target` is normal. `leave_one_class_out`: every class but `target` is. `unlabelled`: all
    training images are, and `target` names the normal class of the test set. `multimodal`: every class is normal, and
    `evaluation.ood` names the sets that are not."""
    target: str = "0"
    """The number or name of the class that the protocol singles out."""
    classes: tuple[str, ...] = ()
    """The classes of training and test images that take part, by name or number; empty takes all."""
    range: tuple[float, ...] = ()
    """The samples of 16 bits, 32 bits or floats that are shown black and white (`0,4095`); empty means that the normal
    training images are measured. Test images and those that the network scores later are shown alike."""
    least_side: int = field(default=0, metadata=at_least(0))
    """The least side in pixels of the boxes that count, in `voc:` sources."""
    stored_size: int = field(default=32, metadata=at_least(1))
    """The side in pixels at which images are kept; augmentation crops from there."""
    image_size: int = field(default=32, metadata=at_least(8))
    """The side in pixels of what the network sees."""
    clean_view: str = field(default="whole", metadata=choice("whole", "center_crop"))
    """How a stored image becomes a view without augmentation: resized, or cut out of its middle."""
    residence: str = field(default="auto", metadata=choice("auto", "device", "host"))
    """Where the training images live; `auto` puts up to a quarter of the device's memory there (2 GiB
    where that is not known) and streams more from the host."""


@dataclass(frozen=True)
class ExposureConfig:
    """Outlier exposure (OE)."""

    source: str = field(default="tfds:cifar100", metadata=path_like())
    """The source of the OE images, as for `data.train`; it is not read in the modes that need none."""
    split: str = "train"
    """The split of `source`, where the source has splits."""
    classes: tuple[str, ...] = ()
    """The classes of `source` that are used, by name or number; empty uses all."""
    without: tuple[str, ...] = ()
    """The classes of `source` that are left out, such as those that also occur in the test."""
    class_count: int = field(default=0, metadata=at_least(0))
    """How many classes of those are used, drawn by the seed; 0 uses all."""
    few_shot: int = field(default=0, metadata=at_least(0))
    """How many OE images are used, sampled with replacement; 0 means all of them."""
    resample: str = field(default="fresh", metadata=choice("fresh", "fixed"))
    """`fresh`: another draw of OE images each epoch. `fixed`: the first epoch's draw is replayed, as in the released
    code."""
    alpha: float = field(default=1.0, metadata=at_least(0))
    """The weight of the OE norm term."""
    warmup: float = field(default=0.05, metadata=within(0, 1))
    """The share of the run during which alpha is 0."""


@dataclass(frozen=True)
class AugmentConfig:
    """The training augmentation, in torchvision's terms; also makes the extra views of a test image."""

    crop_scale: tuple[float, ...] = field(default=(0.08, 1.0), metadata=within(0, 1))
    """The range of the share of the area that RandomResizedCrop keeps."""
    mean: tuple[float, ...] = (125.3 / 255, 123.0 / 255, 113.9 / 255)
    """The means of the channels in [0, 1], subtracted after the augmentation."""
    std: tuple[float, ...] = (63.0 / 255, 62.1 / 255, 66.7 / 255)
    """The deviations of the channels in [0, 1], divided by after the augmentation."""


@dataclass(frozen=True)
class ModelConfig:
    """ResNet-18 and its head."""

    stem: str = field(default="cifar", metadata=choice("cifar", "imagenet"))
    """How the network begins: `cifar` with a 3x3 convolution, `imagenet` with 7x7, stride 2, and a max-pool."""
    width: int = field(default=64, metadata=at_least(1))
    """How many channels the first stage has; the published network has 64."""
    head_dim: int = field(default=128, metadata=at_least(1))
    """The width of the head's output (1 logit in the mode `bce`, whatever stands here)."""
    dtype: str = field(default="float32", metadata=choice("float32", "tf32", "bfloat16"))
    """The type of activations and products; `tf32` keeps float32 and lets GPUs round what they multiply. Parameters,
    BatchNorm statistics and the loss are float32 in any case."""


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    mode: str = field(default="oecl", metadata=choice(*OBJECTIVES))
    """The loss and the score; see `contrastive_jax.objectives`."""
    epochs: int = field(default=1000, metadata=at_least(1))
    """How many passes are made over the normal images; the last incomplete batch of each is dropped."""
    batch_size: int = field(default=256, metadata=at_least(2))
    """How many normal images a step has over all devices; as many OE images join them where the mode uses OE."""
    temperature: float = field(default=0.5, metadata=at_least(1e-3))
    """The temperature of NT-Xent."""
    learning_rate: float = field(default=0.1, metadata=at_least(0))
    """The learning rate of the first step; it falls to 0 along a cosine."""
    weight_decay: float = field(default=5e-4, metadata=at_least(0))
    """The weight decay, which is added to the gradient of every parameter."""
    steps_per_call: int = field(default=0, metadata=at_least(0))
    """How many steps one call of the device takes, at most an epoch; 0 chooses by platform."""
    checkpoint_every: int = field(default=0, metadata=at_least(0))
    """How many epochs lie between checkpoints; 0 makes about twenty in the run. The last epoch always leaves one."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How a trained network is tested."""

    views: int = field(default=32, metadata=at_least(0))
    """How many augmented views there are beside the clean one."""
    batch_size: int = field(default=256, metadata=at_least(1))
    """How many images a call has over all devices."""
    images: int = field(default=0, metadata=at_least(0))
    """How many test images are used, half of them normal; 0 means all."""
    ood: tuple[str, ...] = field(default=(), metadata=path_like())
    """The sets that the protocol `multimodal` tests against, each as NAME=SOURCE or NAME@SPLIT=SOURCE."""
    every: int = field(default=0, metadata=at_least(0))
    """How many epochs lie between tests during training, by the clean view alone; 0 tests only at the end."""


@dataclass(frozen=True)
class OeclConfig:
    """One training run with its test."""

    task: str = field(default="oecl", metadata=choice("oecl"))
    """The task that this config is for."""
    seed: int = field(default=0, metadata=at_least(0))
    """The seed of the initial parameters, the order of images and every augmentation."""
    resume: bool = True
    """Whether a run goes on from the newest checkpoint of the workdir; otherwise a workdir with a run is refused."""
    data: DataConfig = field(default_factory=DataConfig)
    oe: ExposureConfig = field(default_factory=ExposureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass(frozen=True)
class ScoreConfig:
    """One scoring of a folder of images with a trained network."""

    task: str = field(default="oecl_score", metadata=choice("oecl_score"))
    """The task that this config is for."""
    run: str = field(default="", metadata=path_like())
    """The workdir of the training run whose newest checkpoint scores."""
    images: str = field(default="", metadata=path_like())
    """The folder of images, which is searched through its sub-folders."""
    views: int = field(default=32, metadata=at_least(0))
    """How many augmented views there are beside the clean one."""
    batch_size: int = field(default=256, metadata=at_least(1))
    """How many images a call has over all devices."""
    unreadable: str = field(default="skip", metadata=choice("skip", "error"))
    """Whether an image that cannot be decoded is skipped, with a warning that counts them, or ends the run."""


def at_224(
    data: DataConfig,
    oe: ExposureConfig,
    augment: AugmentConfig = AugmentConfig(),
    batch_size: int = TrainConfig.batch_size,
) -> OeclConfig:
    """The paper's settings for images of 224 px (arXiv:2312.15288, released code), around what a set has of its own.

    Images are resized to 256 px and cropped, the network's input is (x - 0.5) / 0.5, and its stem ImageNet's.

    Args:
        data: where the images are, and which of them are normal.
        oe: the exposure.
        augment: of which the crops may be the set's own.
        batch_size: normal images a step.
    """
    return OeclConfig(
        data=dataclasses.replace(data, stored_size=256, image_size=224, clean_view="center_crop"),
        oe=oe,
        augment=dataclasses.replace(augment, mean=(0.5,) * 3, std=(0.5,) * 3),
        model=ModelConfig(stem="imagenet", dtype="bfloat16"),
        train=TrainConfig(batch_size=batch_size),
    )


def left_out(config: OeclConfig) -> OeclConfig:
    """The same set with one class left out instead of one against the rest: half the epochs, as the paper has it."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, protocol="leave_one_class_out"),
        train=dataclasses.replace(config.train, epochs=TrainConfig.epochs // 2),
    )


def read_oecl_config(values: Mapping[str, Any]) -> OeclConfig:
    """Reads and checks a training config, with the rules that involve more than one field.

    Raises:
        ConfigError: naming the field.
    """
    config = read_config(OeclConfig, values)
    lengths = {
        "augment.crop_scale": (config.augment.crop_scale, 2),
        "augment.mean": (config.augment.mean, 3),
        "augment.std": (config.augment.std, 3),
    }
    for name, (numbers, expected) in lengths.items():
        if len(numbers) != expected:
            raise ConfigError(f"config.{name}: expected {expected} numbers, got {numbers!r}")
    low, high = config.augment.crop_scale
    if not 0 < low <= high:
        raise ConfigError(f"config.augment.crop_scale: expected 0 < low <= high, got {config.augment.crop_scale!r}")
    if min(config.augment.std) <= 0:
        raise ConfigError(f"config.augment.std: must be above 0, got {config.augment.std!r}")
    if config.data.image_size > config.data.stored_size:
        raise ConfigError(
            f"config.data.image_size: {config.data.image_size} is above data.stored_size {config.data.stored_size}; "
            "images would only be blown up"
        )
    objective = OBJECTIVES[config.train.mode]
    if not config.data.train:
        raise ConfigError("config.data.train: is empty; give the source of the normal images, --config.data.train=DIR")
    if (config.data.protocol == "multimodal" and config.data.test != "none") != bool(config.evaluation.ood):
        raise ConfigError(
            "config.evaluation.ood: goes with data.protocol=multimodal and a test, and is needed there; name sets that "
            f"are out of distribution, NAME=SOURCE, got {config.evaluation.ood!r}"
        )
    names = [ood_entry(entry)[0] for entry in config.evaluation.ood]
    if len(set(names)) != len(names):
        raise ConfigError(f"config.evaluation.ood: two sets of one name in {config.evaluation.ood!r}")
    if objective.needs_oe and not config.oe.source:
        raise ConfigError(f"config.oe.source: the mode {config.train.mode} needs OE images; name a source")
    return config


def ood_entry(entry: str) -> tuple[str, str, str]:
    """Name, split and source of an entry of `evaluation.ood`.

    Raises:
        ConfigError: it has another form.
    """
    heading, equals, source = entry.partition("=")
    name, _, split = heading.partition("@")
    if not (name and equals and source):
        raise ConfigError(f"config.evaluation.ood: expected NAME=SOURCE or NAME@SPLIT=SOURCE, got {entry!r}")
    return name, split, source
