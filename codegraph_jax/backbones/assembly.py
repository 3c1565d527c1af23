"""Converts checkpoint tensors to parameters; every parameter is filled exactly once, and unused tensors are errors."""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from codegraph_jax.backbones.checkpoints import Checkpoint
from codegraph_jax.backbones.errors import WeightsError
from codegraph_jax.backbones.naming import KEY, NAMINGS, QUERY, VALUE, Naming, ParameterSlice, Target, strip_wrappers
from codegraph_jax.backbones.presets import PRESETS, Preset
from codegraph_jax.backbones.vit import Architecture, VisionTransformer

MAX_LISTED = 5
"""Number of names that a message lists."""
DIMENSIONS = {"class_token": 1, "positions": 2, "registers": 2, "pooling/probe": 1}
"""Dimensions of parameters that checkpoints may store with leading axes of length 1."""
ABSENT_BIAS = Target("projection/bias")
"""A bias that no model here has; it must be zero if a file has it."""


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
    naming, targets = match_naming(preset, checkpoint)
    shapes = parameter_shapes(architecture)
    leftover = [
        key
        for key, target in targets.items()
        if (target is None or target.path not in shapes)
        and not any(re.fullmatch(pattern, strip_wrappers(key)) for pattern in preset.ignored)
        # timm's heads have a bias, which CLIP does not have
        and (target != ABSENT_BIAS or np.any(checkpoint.readers[key]()))
    ]
    filled = _filled(preset, architecture, checkpoint, naming, targets)
    flat, missing = {}, []
    for path, shape in shapes.items():
        parts = filled.get(path, [])
        zero = _may_be_absent(path, architecture, naming)
        of = parts[0].part.of if parts else KEY.of if zero else 1
        columns = {tensor.part.number: tensor.values for tensor in parts}
        for number in set(range(of)) - {number for tensor in parts for number in tensor.part.numbers}:
            if ParameterSlice(number, of) in zero:
                columns[number] = np.zeros(_part_shape(shape, ParameterSlice(number, of)), np.float32)
            else:
                missing.append(f"{path} (part {number + 1} of {of})" if parts else path)
        if columns:
            flat[path] = np.concatenate([columns[number] for number in sorted(columns)], axis=-1)
            if KEY in zero:
                # the original code masks these values
                flat[path][shape[0] // 3 : 2 * shape[0] // 3] = 0
    problems = []
    if missing:
        problems.append(f"no tensor for {_list(dict.fromkeys(missing))}")
    if leftover:
        problems.append(f"unused tensors: {_list(leftover)}")
    if problems:
        hint = _looks_like(preset, checkpoint, naming)
        raise WeightsError(f"{checkpoint.origin}: does not fit {preset.name}: {'; '.join(problems)}{hint}")
    return traverse_util.unflatten_dict(flat, sep="/")


class _Tensor(NamedTuple):
    """A tensor of a checkpoint, and the part of a parameter that it fills."""

    part: ParameterSlice
    key: str
    values: np.ndarray


def _filled(
    preset: Preset,
    architecture: Architecture,
    checkpoint: Checkpoint,
    naming: Naming,
    targets: Mapping[str, Target | None],
) -> dict[str, list[_Tensor]]:
    """The tensors of each parameter; checks shapes and duplicates."""
    shapes = parameter_shapes(architecture)
    filled: dict[str, list[_Tensor]] = {}
    for key, target in targets.items():
        if target is None or target.path not in shapes:
            continue
        parts = filled.setdefault(target.path, [])
        for part, other, _ in parts:
            if part.of != target.part.of or set(part.numbers) & set(target.part.numbers):
                raise WeightsError(f"{checkpoint.origin}: {other!r} and {key!r} fill the same parameter")
        tensor = _oriented(target.path, key, checkpoint.readers[key]())
        shape = _part_shape(shapes[target.path], target.part)
        if _lacks_class_position(target, targets) and tensor.shape == (shape[0] - 1, *shape[1:]):
            tensor = np.concatenate([np.zeros((1, shape[1]), np.float32), tensor])
        if tensor.shape != shape:
            raise WeightsError(
                f"{checkpoint.origin}: {key!r} has shape {tensor.shape} (as inputs by outputs), {preset.name} needs "
                f"{shape}{_looks_like(preset, checkpoint, naming)}"
            )
        parts.append(_Tensor(target.part, key, tensor))
    return filled


def _may_be_absent(path: str, architecture: Architecture, naming: Naming) -> tuple[ParameterSlice, ...]:
    """The parts of a parameter that are zero if a checkpoint lacks them."""
    if naming.without and re.fullmatch(naming.without, path):
        return QUERY, KEY, VALUE
    return (KEY,) if not architecture.key_bias and path.endswith("attention/qkv/bias") else ()


def _lacks_class_position(target: Target, targets: Mapping[str, Target | None]) -> bool:
    """True for timm's models with registers: they add the position of the class token to the token itself."""
    return target.path == "positions" and any(strip_wrappers(key) == "reg_token" for key in targets)


def match_naming(preset: Preset, checkpoint: Checkpoint) -> tuple[Naming, dict[str, Target | None]]:
    """The naming convention that matches most keys of a checkpoint, and the parameter of each key.

    Raises:
        WeightsError: no convention matches any key.
    """
    keys = list(checkpoint.readers)

    def fit(naming: Naming) -> tuple[int, bool]:
        return sum(naming.target(strip_wrappers(key)) is not None for key in keys), naming.family == preset.family

    naming = max(NAMINGS, key=fit)
    targets = {key: naming.target(strip_wrappers(key)) for key in keys}
    if not any(targets.values()):
        known = ", ".join(n.name for n in NAMINGS)
        raise WeightsError(f"{checkpoint.origin}: holds {_list(keys)}; no name belongs to {known}")
    return naming, targets


def with_grid_of(preset: Preset, architecture: Architecture, checkpoint: Checkpoint) -> Architecture:
    """The architecture with the grid of the checkpoint's learned positions, which depends on its training image size.

    Raises:
        WeightsError: no convention matches any key.
    """
    naming, targets = match_naming(preset, checkpoint)
    if architecture.rotary or naming.family != preset.family:
        return architecture
    for key, target in targets.items():
        if target == Target("positions"):
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
    return (*shape[:-1], shape[-1] // part.of * part.taken)


def _looks_like(preset: Preset, checkpoint: Checkpoint, naming: Naming) -> str:
    """`; it looks like ...` if the tensors match another preset or family."""
    found = {}
    for key, reader in checkpoint.readers.items():
        target = naming.target(strip_wrappers(key))
        if target is not None and target != ABSENT_BIAS:
            found[target] = _oriented(target.path, key, reader()).shape
    for other in PRESETS.values():
        if other.family != naming.family or other.name == preset.name:
            continue
        a = other.architecture
        if not a.rotary and (rows := found.get(Target("positions"), (0,))[0] - a.class_token) > 0:
            a = replace(a, grid=math.isqrt(rows))
        shapes = parameter_shapes(a)
        if {t.path for t in found} == set(shapes) and all(
            _part_shape(shapes[t.path], t.part) == s for t, s in found.items()
        ):
            return f"; it looks like {other.name}"
    return f"; its names are those of {naming.name}" if naming.family != preset.family else ""


def _list(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(repr(name) for name in names[:MAX_LISTED]) + more
