"""How checkpoints name their tensors, and which parameter of `VisionTransformer` each one is.

A rule is (pattern of the checkpoint's key, parameter, which part of the parameter's columns). `{}` in a parameter is
the number of the block, which the pattern captures.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """One of `of` equal parts of a parameter's columns: query, key and value, or the two halves of a SwiGLU."""

    number: int = 0
    of: int = 1


WHOLE, QUERY, KEY, VALUE, GATE, UP = Part(), Part(0, 3), Part(1, 3), Part(2, 3), Part(0, 2), Part(1, 2)


@dataclass(frozen=True)
class Target:
    """Where a tensor goes: a parameter's path, and which part of it."""

    path: str
    part: Part = WHOLE


@dataclass(frozen=True)
class Naming:
    """One convention."""

    name: str
    family: str
    rules: tuple[tuple[re.Pattern[str], str, Part], ...]

    def target(self, key: str) -> Target | None:
        """The parameter that `key` fills, or None where this convention does not know it."""
        for pattern, path, part in self.rules:
            if match := pattern.fullmatch(key):
                return Target(path.format(*match.groups()), part)
        return None


def _naming(
    name: str, family: str, prefix: str, top: dict[str, str], block: str, inner: dict[str, str | tuple[str, Part]]
) -> Naming:
    """Rules from tables of key -> parameter; a trailing `.*` on both sides stands for weight and bias."""
    rules = []
    for key, path in top.items():
        rules += _pair(prefix + re.escape(key), path, WHOLE)
    for key, entry in inner.items():
        path, part = entry if isinstance(entry, tuple) else (entry, WHOLE)
        rules += _pair(prefix + block + re.escape(key), "block_{}/" + path, part)
    return Naming(name, family, tuple((re.compile(k), p, part) for k, p, part in rules))


def _pair(key: str, path: str, part: Part) -> list[tuple[str, str, Part]]:
    star = re.escape(".*")
    if not key.endswith(star):
        return [(key, path, part)]
    weight = "scale" if re.search(r"norm\d?$", path) else "kernel"
    stem = key.removesuffix(star)
    return [(stem + r"\.weight", f"{path}/{weight}", part), (stem + r"\.bias", f"{path}/bias", part)]


CLIP_HUB = _naming(
    "Hugging Face CLIP",
    "clip",
    # transformers 5 saves CLIPVisionModel without the prefix
    r"(?:vision_model\.)?",
    {
        "embeddings.class_embedding": "class_token",
        "embeddings.position_embedding.weight": "positions",
        "embeddings.patch_embedding.*": "patch",
        "pre_layrnorm.*": "pre_norm",
        "post_layernorm.*": "norm",
        "visual_projection.weight": "projection/kernel",
    },
    r"encoder\.layers\.(\d+)\.",
    {
        "layer_norm1.*": "norm1",
        "self_attn.q_proj.*": ("attention/qkv", QUERY),
        "self_attn.k_proj.*": ("attention/qkv", KEY),
        "self_attn.v_proj.*": ("attention/qkv", VALUE),
        "self_attn.out_proj.*": "attention/out",
        "layer_norm2.*": "norm2",
        "mlp.fc1.*": "mlp/in",
        "mlp.fc2.*": "mlp/out",
    },
)

CLIP_ORIGINAL = _naming(
    "OpenAI CLIP",
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
    r"(?:dinov2\.|dinov2_with_registers\.|backbone\.)?",
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
        # the names that transformers 5 has in memory, and that some of its releases save
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

DINOV2_ORIGINAL = _naming(
    "facebookresearch/dinov2",
    "dinov2",
    "",
    {
        "cls_token": "class_token",
        "pos_embed": "positions",
        "register_tokens": "registers",
        "patch_embed.proj.*": "patch",
        "norm.*": "norm",
    },
    # a model that was cut into chunks for training has the chunk's number before the block's
    r"blocks\.(?:\d+\.)?(\d+)\.",
    {
        "norm1.*": "norm1",
        "attn.qkv.*": "attention/qkv",
        "attn.proj.*": "attention/out",
        "ls1.gamma": "scale1",
        "norm2.*": "norm2",
        "mlp.fc1.*": "mlp/in",
        "mlp.fc2.*": "mlp/out",
        "mlp.w12.*": "mlp/in",
        "mlp.w3.*": "mlp/out",
        "ls2.gamma": "scale2",
    },
)

NAMINGS = (CLIP_HUB, CLIP_ORIGINAL, DINOV2_HUB, DINOV2_ORIGINAL)
