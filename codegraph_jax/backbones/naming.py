"""Naming conventions of checkpoints: the parameter of `VisionTransformer` that each tensor fills.

A rule is (pattern of the checkpoint's key, parameter, part of the parameter's columns). `{}` in a parameter stands for
the number of the block, which the pattern captures. Prefixes of larger models and training wrappers are removed before
(`strip_wrappers`).
"""

import re
from dataclasses import dataclass
from typing import NamedTuple


class ParameterSlice(NamedTuple):
    """`taken` of `of` equal parts of a parameter's columns, such as query, key and value, or the halves of a SwiGLU."""

    number: int = 0
    of: int = 1
    taken: int = 1

    @property
    def numbers(self) -> range:
        """Numbers of the parts."""
        return range(self.number, self.number + self.taken)


WHOLE, QUERY, KEY, VALUE, GATE, UP = (
    ParameterSlice(),
    ParameterSlice(0, 3),
    ParameterSlice(1, 3),
    ParameterSlice(2, 3),
    ParameterSlice(0, 2),
    ParameterSlice(1, 2),
)
KEY_VALUE = ParameterSlice(1, 3, 2)

WRAPPERS = re.compile(r"((_orig_mod|module|model|backbone|teacher|dinov2|dinov2_with_registers|dinov3|dinov3_vit)\.)+")


def strip_wrappers(key: str) -> str:
    """The key without the prefixes of larger models, data parallelism, compilation or distillation.

    Examples:
        >>> strip_wrappers("module.teacher.backbone.cls_token")
        'cls_token'
    """
    return WRAPPERS.sub("", key, count=1) if WRAPPERS.match(key) else key


@dataclass(frozen=True)
class Target:
    """The path of the parameter that a tensor fills, and the part of it."""

    path: str
    part: ParameterSlice = WHOLE


@dataclass(frozen=True)
class Naming:
    """One naming convention.

    Attributes:
        name: name of the convention in messages.
        family: family of its models, see `Preset.family`.
        rules: rules of the module's docstring.
        without: pattern of the parameters that are zero if a file lacks them.
    """

    name: str
    family: str
    rules: tuple[tuple[re.Pattern[str], str, ParameterSlice], ...]
    without: str = ""

    def target(self, key: str) -> Target | None:
        """The parameter that `key` fills; None if the convention has no such key."""
        for pattern, path, part in self.rules:
            if match := pattern.fullmatch(key):
                return Target(path.format(*match.groups()), part)
        return None


Table = dict[str, str | tuple[str, ParameterSlice]]


def _naming(name: str, family: str, prefix: str, top: Table, block: str, inner: Table, without: str = "") -> Naming:
    """A convention from tables of key -> parameter; a trailing `.*` of a key stands for weight and bias."""
    rules = []
    for table, before, within in ((top, prefix, ""), (inner, prefix + block, "block_{}/")):
        for key, entry in table.items():
            path, part = entry if isinstance(entry, tuple) else (entry, WHOLE)
            rules += _pair(before + re.escape(key), within + path, part)
    return Naming(name, family, tuple((re.compile(k), p, part) for k, p, part in rules), without)


def _pair(key: str, path: str, part: ParameterSlice) -> list[tuple[str, str, ParameterSlice]]:
    star = re.escape(".*")
    if not key.endswith(star):
        return [(key, path, part)]
    weight = "scale" if re.search(r"norm\d?$", path) else "kernel"
    stem = key.removesuffix(star)
    return [(stem + r"\.weight", f"{path}/{weight}", part), (stem + r"\.bias", f"{path}/bias", part)]


_HUB_TOWER: Table = {
    "embeddings.position_embedding.weight": "positions",
    "embeddings.patch_embedding.*": "patch",
    "post_layernorm.*": "norm",
}
_HUB_TOWER_BLOCK: Table = {
    "layer_norm1.*": "norm1",
    "self_attn.q_proj.*": ("attention/qkv", QUERY),
    "self_attn.k_proj.*": ("attention/qkv", KEY),
    "self_attn.v_proj.*": ("attention/qkv", VALUE),
    "self_attn.out_proj.*": "attention/out",
    "layer_norm2.*": "norm2",
    "mlp.fc1.*": "mlp/in",
    "mlp.fc2.*": "mlp/out",
}

CLIP_HUB = _naming(
    "Hugging Face CLIP",
    "clip",
    # transformers 5 saves CLIPVisionModel without the prefix
    r"(?:vision_model\.)?",
    _HUB_TOWER
    | {
        "embeddings.class_embedding": "class_token",
        "pre_layrnorm.*": "pre_norm",
        "visual_projection.weight": "projection/kernel",
    },
    r"encoder\.layers\.(\d+)\.",
    _HUB_TOWER_BLOCK,
)

SIGLIP_HUB = _naming(
    "Hugging Face SigLIP",
    "siglip",
    r"(?:vision_model\.)?",
    _HUB_TOWER
    | {
        "head.probe": "pooling/probe",
        "head.attention.in_proj_weight": "pooling/qkv/kernel",
        "head.attention.in_proj_bias": "pooling/qkv/bias",
        "head.attention.out_proj.*": "pooling/out",
        "head.layernorm.*": "pooling/norm",
        "head.mlp.fc1.*": "pooling/mlp/in",
        "head.mlp.fc2.*": "pooling/mlp/out",
    },
    r"encoder\.layers\.(\d+)\.",
    _HUB_TOWER_BLOCK,
)

CLIP_ORIGINAL = _naming(
    "OpenAI CLIP or open_clip",
    "clip",
    r"visual\.",
    {
        "class_embedding": "class_token",
        "positional_embedding": "positions",
        "conv1.*": "patch",
        "ln_pre.*": "pre_norm",
        "ln_post.*": "norm",
        "proj": "projection/kernel",
    },
    r"transformer\.resblocks\.(\d+)\.",
    {
        "ln_1.*": "norm1",
        "attn.in_proj_weight": "attention/qkv/kernel",
        "attn.in_proj_bias": "attention/qkv/bias",
        "attn.out_proj.*": "attention/out",
        "ln_2.*": "norm2",
        "mlp.c_fc.*": "mlp/in",
        "mlp.c_proj.*": "mlp/out",
    },
)

DINOV2_HUB = _naming(
    "Hugging Face DINOv2",
    "dinov2",
    "",
    {
        "embeddings.cls_token": "class_token",
        "embeddings.position_embeddings": "positions",
        "embeddings.register_tokens": "registers",
        "embeddings.patch_embeddings.projection.*": "patch",
        "layernorm.*": "norm",
    },
    r"encoder\.layer\.(\d+)\.",
    {
        "norm1.*": "norm1",
        "attention.attention.query.*": ("attention/qkv", QUERY),
        "attention.attention.key.*": ("attention/qkv", KEY),
        "attention.attention.value.*": ("attention/qkv", VALUE),
        "attention.output.dense.*": "attention/out",
        # the module names of transformers 5, which some of its releases save
        "attention.q_proj.*": ("attention/qkv", QUERY),
        "attention.k_proj.*": ("attention/qkv", KEY),
        "attention.v_proj.*": ("attention/qkv", VALUE),
        "attention.o_proj.*": "attention/out",
        "layer_scale1.lambda1": "scale1",
        "norm2.*": "norm2",
        "mlp.fc1.*": "mlp/in",
        "mlp.fc2.*": "mlp/out",
        "mlp.weights_in.*": "mlp/in",
        "mlp.weights_out.*": "mlp/out",
        "mlp.gate_proj.*": ("mlp/in", GATE),
        "mlp.up_proj.*": ("mlp/in", UP),
        "mlp.down_proj.*": "mlp/out",
        "layer_scale2.lambda1": "scale2",
    },
)

_DINOV3_HUB: Table = {
    "embeddings.cls_token": "class_token",
    "embeddings.register_tokens": "registers",
    "embeddings.patch_embeddings.*": "patch",
    "norm.*": "norm",
}
_DINOV3_HUB_BLOCK: Table = {
    "norm1.*": "norm1",
    "attention.q_proj.*": ("attention/qkv", QUERY),
    "attention.k_proj.*": ("attention/qkv", KEY),
    "attention.v_proj.*": ("attention/qkv", VALUE),
    "attention.o_proj.*": "attention/out",
    "layer_scale1.lambda1": "scale1",
    "norm2.*": "norm2",
    "mlp.down_proj.*": "mlp/out",
    "layer_scale2.lambda1": "scale2",
}
_DINOV3_MLP: Table = {"mlp.up_proj.*": "mlp/in"}
# `up_proj` is the whole layer in plain MLPs, and half of it in gated ones
_DINOV3_GATED: Table = {"mlp.gate_proj.*": ("mlp/in", GATE), "mlp.up_proj.*": ("mlp/in", UP)}
DINOV3_HUB, DINOV3_HUB_GATED = (
    _naming(name, "dinov3", "", _DINOV3_HUB, r"layer\.(\d+)\.", _DINOV3_HUB_BLOCK | mlp)
    for name, mlp in (
        ("Hugging Face DINOv3", _DINOV3_MLP),
        ("Hugging Face DINOv3 with SwiGLU", _DINOV3_GATED),
    )
)

# common names of the original repositories and timm
_PLAIN: Table = {"patch_embed.proj.*": "patch", "norm.*": "norm"}
_PLAIN_BLOCK: Table = {
    "norm1.*": "norm1",
    "attn.qkv.*": "attention/qkv",
    "attn.proj.*": "attention/out",
    "norm2.*": "norm2",
    "mlp.fc1.*": "mlp/in",
    "mlp.fc2.*": "mlp/out",
}
_SCALES: Table = {"ls1.gamma": "scale1", "ls2.gamma": "scale2"}
# models that were split into chunks for training have the number of the chunk before that of the block
_CHUNKED = r"blocks\.(?:\d+\.)?(\d+)\."

DINOV2_ORIGINAL = _naming(
    "facebookresearch/dinov2 or timm",
    "dinov2",
    "",
    _PLAIN
    | {
        "cls_token": "class_token",
        "pos_embed": "positions",
        "register_tokens": "registers",
        "reg_token": "registers",
    },
    _CHUNKED,
    _PLAIN_BLOCK | _SCALES | {"mlp.w12.*": "mlp/in", "mlp.w3.*": "mlp/out"},
)

DINOV3_ORIGINAL = _naming(
    "facebookresearch/dinov3",
    "dinov3",
    "",
    _PLAIN | {"cls_token": "class_token", "storage_tokens": "registers"},
    _CHUNKED,
    _PLAIN_BLOCK | _SCALES | {"mlp.w1.*": ("mlp/in", GATE), "mlp.w2.*": ("mlp/in", UP), "mlp.w3.*": "mlp/out"},
)

DINOV3_TIMM = _naming(
    "timm DINOv3",
    "dinov3",
    "",
    _PLAIN | {"cls_token": "class_token", "reg_token": "registers"},
    r"blocks\.(\d+)\.",
    _PLAIN_BLOCK
    | {
        "gamma_1": "scale1",
        "gamma_2": "scale2",
        "attn.q_bias": ("attention/qkv/bias", QUERY),
        "attn.v_bias": ("attention/qkv/bias", VALUE),
        "mlp.fc1_g.*": ("mlp/in", GATE),
        "mlp.fc1_x.*": ("mlp/in", UP),
    },
    without=r"block_\d+/attention/qkv/bias",
)

CLIP_TIMM = _naming(
    "timm CLIP",
    "clip",
    r"(?:visual\.trunk\.)?",
    _PLAIN
    | {
        "cls_token": "class_token",
        "pos_embed": "positions",
        "norm_pre.*": "pre_norm",
        "head.*": "projection",
    },
    r"blocks\.(\d+)\.",
    _PLAIN_BLOCK,
)

SIGLIP_TIMM = _naming(
    "timm SigLIP",
    "siglip",
    r"(?:visual\.trunk\.)?",
    _PLAIN
    | {
        "pos_embed": "positions",
        "attn_pool.latent": "pooling/probe",
        "attn_pool.q.*": ("pooling/qkv", QUERY),
        "attn_pool.kv.*": ("pooling/qkv", KEY_VALUE),
        "attn_pool.proj.*": "pooling/out",
        "attn_pool.norm.*": "pooling/norm",
        "attn_pool.mlp.fc1.*": "pooling/mlp/in",
        "attn_pool.mlp.fc2.*": "pooling/mlp/out",
    },
    r"blocks\.(\d+)\.",
    _PLAIN_BLOCK,
)

NAMINGS = (
    CLIP_HUB,
    CLIP_ORIGINAL,
    CLIP_TIMM,
    SIGLIP_HUB,
    SIGLIP_TIMM,
    DINOV2_HUB,
    DINOV2_ORIGINAL,
    DINOV3_HUB,
    DINOV3_HUB_GATED,
    DINOV3_ORIGINAL,
    DINOV3_TIMM,
)
