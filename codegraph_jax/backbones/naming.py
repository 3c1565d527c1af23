"""The parameter of `VisionTransformer` that each tensor of a checkpoint fills.

The tables list, for each parameter, its names in files of Hugging Face, timm, OpenAI, open_clip and the original
repositories of DINOv2 and DINOv3; `.*` stands for weight and bias. Prefixes of larger models and training wrappers are
removed before (`strip_wrappers`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class ParameterSlice(NamedTuple):
    """`length` of `total` equal parts of a parameter's columns (query, key and value, or halves), from part `first`."""

    first: int = 0
    total: int = 1
    length: int = 1

    @property
    def numbers(self) -> range:
        """Numbers of the parts."""
        return range(self.first, self.first + self.length)


WHOLE, QUERY, KEY, VALUE, GATE, UP = (
    ParameterSlice(),
    ParameterSlice(0, 3),
    ParameterSlice(1, 3),
    ParameterSlice(2, 3),
    ParameterSlice(0, 2),
    ParameterSlice(1, 2),
)
KEY_VALUE = ParameterSlice(1, 3, 2)


class Parameter(NamedTuple):
    """The path of the parameter that a tensor fills, and the part of it."""

    path: str
    part: ParameterSlice = WHOLE


WRAPPERS = re.compile(r"^((_orig_mod|module|model|backbone|teacher|dinov2|dinov2_with_registers|dinov3|dinov3_vit)\.)+")
TOWER = re.compile(r"^(vision_model|visual\.trunk)\.")
"""Prefix of the image encoder of a CLIP or SigLIP; transformers 5 saves CLIPVisionModel without it."""
# models that were split into chunks for training have the number of the chunk before that of the block
BLOCK = re.compile(r"(?:encoder\.layers?|layer|blocks(?:\.\d+)?|visual\.transformer\.resblocks)\.(\d+)\.(.+)")

Table = Mapping[Parameter, Sequence[str]]

OUTSIDE_BLOCKS: Table = {
    Parameter("class_token"): (
        "embeddings.class_embedding",
        "embeddings.cls_token",
        "visual.class_embedding",
        "cls_token",
    ),
    Parameter("positions"): (
        "embeddings.position_embedding.weight",
        "embeddings.position_embeddings",
        "visual.positional_embedding",
        "pos_embed",
    ),
    Parameter("registers"): ("embeddings.register_tokens", "register_tokens", "reg_token", "storage_tokens"),
    Parameter("patch"): (
        "embeddings.patch_embedding.*",
        "embeddings.patch_embeddings.*",
        "embeddings.patch_embeddings.projection.*",
        "visual.conv1.*",
        "patch_embed.proj.*",
    ),
    Parameter("pre_norm"): ("pre_layrnorm.*", "visual.ln_pre.*", "norm_pre.*"),
    Parameter("norm"): ("post_layernorm.*", "visual.ln_post.*", "layernorm.*", "norm.*"),
    Parameter("projection"): ("head.*",),
    Parameter("projection/kernel"): ("visual_projection.weight", "visual.proj"),
    Parameter("pooling/probe"): ("head.probe", "attn_pool.latent"),
    Parameter("pooling/qkv", QUERY): ("attn_pool.q.*",),
    Parameter("pooling/qkv", KEY_VALUE): ("attn_pool.kv.*",),
    Parameter("pooling/qkv/kernel"): ("head.attention.in_proj_weight",),
    Parameter("pooling/qkv/bias"): ("head.attention.in_proj_bias",),
    Parameter("pooling/out"): ("head.attention.out_proj.*", "attn_pool.proj.*"),
    Parameter("pooling/norm"): ("head.layernorm.*", "attn_pool.norm.*"),
    Parameter("pooling/mlp/in"): ("head.mlp.fc1.*", "attn_pool.mlp.fc1.*"),
    Parameter("pooling/mlp/out"): ("head.mlp.fc2.*", "attn_pool.mlp.fc2.*"),
}
IN_A_BLOCK: Table = {
    Parameter("norm1"): ("layer_norm1.*", "ln_1.*", "norm1.*"),
    Parameter("attention/qkv"): ("attn.qkv.*",),
    Parameter("attention/qkv/kernel"): ("attn.in_proj_weight",),
    Parameter("attention/qkv/bias"): ("attn.in_proj_bias",),
    Parameter("attention/qkv", QUERY): ("self_attn.q_proj.*", "attention.attention.query.*", "attention.q_proj.*"),
    Parameter("attention/qkv", KEY): ("self_attn.k_proj.*", "attention.attention.key.*", "attention.k_proj.*"),
    Parameter("attention/qkv", VALUE): ("self_attn.v_proj.*", "attention.attention.value.*", "attention.v_proj.*"),
    Parameter("attention/qkv/bias", QUERY): ("attn.q_bias",),
    Parameter("attention/qkv/bias", VALUE): ("attn.v_bias",),
    Parameter("attention/out"): (
        "self_attn.out_proj.*",
        "attention.output.dense.*",
        "attention.o_proj.*",
        "attn.out_proj.*",
        "attn.proj.*",
    ),
    Parameter("scale1"): ("layer_scale1.lambda1", "ls1.gamma", "gamma_1"),
    Parameter("norm2"): ("layer_norm2.*", "ln_2.*", "norm2.*"),
    Parameter("mlp/in"): ("mlp.fc1.*", "mlp.c_fc.*", "mlp.weights_in.*", "mlp.w12.*"),
    Parameter("mlp/in", GATE): ("mlp.gate_proj.*", "mlp.w1.*", "mlp.fc1_g.*"),
    Parameter("mlp/in", UP): ("mlp.up_proj.*", "mlp.w2.*", "mlp.fc1_x.*"),
    Parameter("mlp/out"): ("mlp.fc2.*", "mlp.c_proj.*", "mlp.weights_out.*", "mlp.down_proj.*", "mlp.w3.*"),
    Parameter("scale2"): ("layer_scale2.lambda1", "ls2.gamma", "gamma_2"),
}


def strip_wrappers(key: str) -> str:
    """The key without the prefixes of larger models, data parallelism, compilation or distillation.

    Examples:
        >>> strip_wrappers("module.teacher.backbone.cls_token")
        'cls_token'
    """
    return WRAPPERS.sub("", key)


def targets_of(keys: Iterable[str]) -> dict[str, Parameter | None]:
    """The parameter that each tensor of a checkpoint fills; None if no network here has a tensor of this name.

    Examples:
        >>> targets_of(["backbone.blocks.7.attn.qkv.bias"])["backbone.blocks.7.attn.qkv.bias"].path
        'block_7/attention/qkv/bias'
    """
    targets = {key: _target(strip_wrappers(key)) for key in keys}
    if not any(target and target.part == GATE for target in targets.values()):
        # DINOv3 calls the first layer of a plain MLP like the second half of a gated one
        for key, target in targets.items():
            if target and target.part == UP:
                targets[key] = Parameter(target.path)
    return targets


def _target(key: str) -> Parameter | None:
    key = TOWER.sub("", key)
    match = BLOCK.fullmatch(key)
    if not match:
        return _OUTSIDE_BLOCKS.get(key)
    number, name = match.groups()
    target = _IN_A_BLOCK.get(name)
    return Parameter(f"block_{number}/{target.path}", target.part) if target else None


def _by_name(table: Table) -> dict[str, Parameter]:
    """The parameter of each name, with weight and bias of modules."""
    targets = {}
    for target, names in table.items():
        weight = "scale" if re.search(r"norm\d?$", target.path) else "kernel"
        for name in names:
            if name.endswith(".*"):
                module = name.removesuffix("*")
                targets[f"{module}weight"] = Parameter(f"{target.path}/{weight}", target.part)
                targets[f"{module}bias"] = Parameter(f"{target.path}/bias", target.part)
            else:
                targets[name] = target
    return targets


_OUTSIDE_BLOCKS, _IN_A_BLOCK = _by_name(OUTSIDE_BLOCKS), _by_name(IN_A_BLOCK)
