"""Converts checkpoint tensors to parameters; every parameter is filled exactly once, and unused tensors are errors."""

import functools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.naming import KEY, QUERY, VALUE, Parameter, ParameterSlice, strip_wrappers, targets_of
from codegraph_jax.backbones.presets import PRESETS, Preset
from codegraph_jax.backbones.safetensors_files import Checkpoint
from codegraph_jax.backbones.vit import Architecture, VisionTransformer
from codegraph_jax.core.names import some_of

MAX_LISTED = 5
"""Number of names that a message lists."""
DIMENSIONS = {"class_token": 1, "positions": 2, "registers": 2, "pooling/probe": 1}
"""Dimensions of parameters that checkpoints may store with leading axes of length 1."""
ABSENT_BIAS = Parameter("projection/bias")
"""A bias that no model here has; it must be zero if a file has it."""

Targets = Mapping[str, Parameter | None]
"""The parameter that each tensor of a checkpoint fills, see `targets_of`."""


@functools.cache
def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of `VisionTransformer(architecture)` by its path."""
    # all blocks are alike, and tracing 40 of them takes most of a second
    model = VisionTransformer(replace(architecture, depth=1), blocks=(), final_norm=False)
    side = max(architecture.grid, 1) * architecture.patch_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    block = tree.pop("block_0")
    tree |= {f"block_{i}": block for i in range(architecture.depth)}
    return {"/".join(path): leaf.shape for path, leaf in sorted(traverse_util.flatten_dict(tree).items())}


def assemble(preset: Preset, architecture: Architecture, checkpoint: Checkpoint) -> dict[str, Any]:
    """The parameter tree of `architecture`, float32 NumPy arrays, from `checkpoint`.

    Raises:
        WeightsError: a parameter is missing or filled twice, a shape differs, or `preset.ignored` does not name an
            unused tensor.
    """
    targets = targets_of(checkpoint.readers)
    if not any(targets.values()):
        raise WeightsError(
            f"{checkpoint.origin}: holds {_listed(targets)}; none is the name of a tensor of CLIP, SigLIP, DINOv2 or "
            "DINOv3 in a file of Hugging Face, timm, open_clip or the original repositories"
        )
    shapes = parameter_shapes(architecture)
    leftover = [
        key
        for key, target in targets.items()
        if (target is None or target.path not in shapes)
        and not any(re.fullmatch(pattern, strip_wrappers(key)) for pattern in preset.ignored)
        # timm's heads have a bias, which CLIP does not have
        and (target != ABSENT_BIAS or np.any(checkpoint.readers[key]()))
    ]
    filled = _filled(preset, shapes, checkpoint, targets)
    flat, missing = {}, []
    for path, shape in shapes.items():
        tensors = filled.get(path, [])
        may_be_absent = _parts_that_may_be_absent(path, architecture, targets)
        total = tensors[0].part.total if tensors else KEY.total if may_be_absent else 1
        columns = {tensor.part.first: tensor.values for tensor in tensors}
        for number in set(range(total)) - {number for tensor in tensors for number in tensor.part.numbers}:
            if ParameterSlice(number, total) in may_be_absent:
                columns[number] = np.zeros(_part_shape(shape, ParameterSlice(number, total)), np.float32)
            else:
                missing.append(f"{path} (part {number + 1} of {total})" if tensors else path)
        if columns:
            flat[path] = np.concatenate([columns[number] for number in sorted(columns)], axis=-1)
            if KEY in may_be_absent:
                # the original code masks these values
                flat[path][shape[0] // 3 : 2 * shape[0] // 3] = 0
    problems = []
    if missing:
        problems.append(f"no tensor for {_listed(dict.fromkeys(missing))}")
    if leftover:
        problems.append(f"unused tensors: {_listed(leftover)}")
    if problems:
        hint = _looks_like(preset, checkpoint, targets)
        raise WeightsError(f"{checkpoint.origin}: does not fit {preset.name}: {'; '.join(problems)}{hint}")
    return traverse_util.unflatten_dict(flat, sep="/")


class _Tensor(NamedTuple):
    """A tensor of a checkpoint, and the part of a parameter that it fills."""

    part: ParameterSlice
    key: str
    values: np.ndarray


def _filled(
    preset: Preset, shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint, targets: Targets
) -> dict[str, list[_Tensor]]:
    """The tensors of each parameter; checks shapes and duplicates."""
    filled: dict[str, list[_Tensor]] = {}
    for key, target in targets.items():
        if target is None or target.path not in shapes:
            continue
        parts = filled.setdefault(target.path, [])
        for part, other, _ in parts:
            if part.total != target.part.total or set(part.numbers) & set(target.part.numbers):
                raise WeightsError(f"{checkpoint.origin}: {other!r} and {key!r} fill the same parameter")
        tensor = _oriented(target.path, key, checkpoint.readers[key]())
        shape = _part_shape(shapes[target.path], target.part)
        if _lacks_class_position(target, targets) and tensor.shape == (shape[0] - 1, *shape[1:]):
            tensor = np.concatenate([np.zeros((1, shape[1]), np.float32), tensor])
        if tensor.shape != shape:
            raise WeightsError(
                f"{checkpoint.origin}: {key!r} has shape {tensor.shape} (as inputs by outputs), {preset.name} needs "
                f"{shape}{_looks_like(preset, checkpoint, targets)}"
            )
        parts.append(_Tensor(target.part, key, tensor))
    return filled


def _parts_that_may_be_absent(path: str, architecture: Architecture, targets: Targets) -> tuple[ParameterSlice, ...]:
    """The parts of a parameter that are zero if a checkpoint lacks them."""
    if architecture.key_bias or not path.endswith("attention/qkv/bias"):
        return ()
    # timm leaves out the other biases too if they are zero
    return (QUERY, KEY, VALUE) if _has_registers_of_timm(targets) else (KEY,)


def _lacks_class_position(target: Parameter, targets: Targets) -> bool:
    """True for timm's models with registers: they add the position of the class token to the token itself."""
    return target.path == "positions" and _has_registers_of_timm(targets)


def _has_registers_of_timm(targets: Targets) -> bool:
    return any(strip_wrappers(key) == "reg_token" for key in targets)


def with_grid_of(architecture: Architecture, checkpoint: Checkpoint) -> Architecture:
    """The architecture with the grid of a checkpoint's learned positions, which depends on the training image size."""
    if architecture.rotary:
        return architecture
    targets = targets_of(checkpoint.readers)
    for key, target in targets.items():
        if target == Parameter("positions"):
            tensor = _oriented(target.path, key, checkpoint.readers[key]())
            rows = len(tensor) - architecture.class_token
            if _lacks_class_position(target, targets) and math.isqrt(rows) ** 2 != rows:
                rows = len(tensor)
            if rows > 0 and math.isqrt(rows) ** 2 == rows:
                return replace(architecture, grid=math.isqrt(rows))
    return architecture


def random_parameters(architecture: Architecture, seed: int) -> dict[str, Any]:
    """Random parameters of `architecture`; matrices are scaled so that activations stay bounded."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameter_shapes(architecture).items():
        leaf = path.rsplit("/", 1)[-1]
        if leaf == "bias" or leaf.startswith("scale"):
            flat[path] = np.full(shape, 0.0 if leaf == "bias" else 1.0, np.float32)
        else:
            deviation = shape[0] ** -0.5 if leaf == "kernel" else 0.02
            flat[path] = rng.standard_normal(shape, np.float32) * np.float32(deviation)
    return traverse_util.unflatten_dict(flat, sep="/")


def _oriented(path: str, key: str, tensor: np.ndarray) -> np.ndarray:
    """Converts PyTorch's layout to [inputs, outputs], with patches flattened as (row, column, colour)."""
    tensor = np.asarray(tensor).astype(np.float32)
    if path == "patch/kernel" and tensor.ndim == 4:
        return np.ascontiguousarray(tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0]))
    # OpenAI stores the projection as [inputs, outputs]
    if path.endswith("/kernel") and tensor.ndim == 2 and strip_wrappers(key) != "visual.proj":
        return np.ascontiguousarray(tensor.T)
    while tensor.ndim > DIMENSIONS.get(path, tensor.ndim) and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor


def _part_shape(shape: tuple[int, ...], part: ParameterSlice) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] // part.total * part.length)


def _looks_like(preset: Preset, checkpoint: Checkpoint, targets: Targets) -> str:
    """`; it looks like ...` if the tensors match another preset or family."""
    tensor_shapes = {
        target: _oriented(target.path, key, checkpoint.readers[key]()).shape
        for key, target in targets.items()
        if target is not None and target != ABSENT_BIAS
    }
    paths = {target.path for target in tensor_shapes}
    for other in PRESETS.values():
        a = other.architecture
        if not a.rotary and (rows := tensor_shapes.get(Parameter("positions"), (0,))[0] - a.class_token) > 0:
            a = replace(a, grid=math.isqrt(rows))
        shapes = parameter_shapes(a)
        if (
            other.name != preset.name
            and paths == set(shapes)
            and all(_part_shape(shapes[t.path], t.part) == s for t, s in tensor_shapes.items())
        ):
            return f"; it looks like {other.name}"
    family, needed = _family(paths), _family(parameter_shapes(preset.architecture))
    return f"; its tensors are those of {family}, not of {needed}" if family != needed else ""


def _family(paths: Collection[str]) -> str:
    """The family of a network with these parameters."""
    if "pooling/probe" in paths:
        return "SigLIP"
    if "pre_norm/scale" in paths:
        return "CLIP"
    return "DINOv2" if "positions" in paths else "DINOv3"


def _listed(names: Iterable[str]) -> str:
    return some_of([repr(name) for name in sorted(names)], MAX_LISTED)
