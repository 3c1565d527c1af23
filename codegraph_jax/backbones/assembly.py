"""Checkpoint tensors -> parameters: every parameter filled exactly once, every leftover named."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from codegraph_jax.backbones.checkpoints import Checkpoint
from codegraph_jax.backbones.errors import CheckpointError
from codegraph_jax.backbones.naming import NAMINGS, WHOLE, Naming, Part, Target
from codegraph_jax.backbones.presets import PRESETS, Preset
from codegraph_jax.backbones.vit import Architecture, VisionTransformer

SHOWN = 5
DIMENSIONS = {"class_token": 1, "positions": 2, "registers": 2}


@functools.cache
def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of `VisionTransformer(architecture)` by its path."""
    model = VisionTransformer(architecture, blocks=(), final_norm=False)
    side = architecture.grid * architecture.patch_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def assemble(preset: Preset, architecture: Architecture, checkpoint: Checkpoint) -> dict[str, Any]:
    """The parameter tree of `architecture`, float32 NumPy arrays, from `checkpoint`.

    Raises:
        CheckpointError: a parameter is missing or filled twice, a shape differs, or a tensor is left over that
            `preset.ignored` does not name.
    """
    keys = list(checkpoint.readers)
    naming = max(NAMINGS, key=lambda n: sum(n.target(key) is not None for key in keys))
    shapes = parameter_shapes(architecture)
    targets = {key: naming.target(key) for key in keys}
    if not any(targets.values()):
        known = ", ".join(n.name for n in NAMINGS)
        raise CheckpointError(f"{checkpoint.origin}: holds {_list(keys)}; none is a name of {known}")
    leftover = [
        key
        for key, target in targets.items()
        if (target is None or target.path not in shapes) and not any(re.fullmatch(p, key) for p in preset.ignored)
    ]
    filled: dict[str, dict[Part, tuple[str, np.ndarray]]] = {}
    for key, target in targets.items():
        if target is None or target.path not in shapes:
            continue
        parts = filled.setdefault(target.path, {})
        for part, (other, _) in parts.items():
            if part == target.part or part.of != target.part.of:
                raise CheckpointError(f"{checkpoint.origin}: {other!r} and {key!r} fill the same parameter")
        tensor = _oriented(target.path, key, checkpoint.readers[key]())
        shape = _part_shape(shapes[target.path], target.part)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{checkpoint.origin}: {key!r} has shape {tensor.shape} (as inputs by outputs), {preset.name} needs "
                f"{shape}{_looks_like(checkpoint, naming)}"
            )
        parts[target.part] = key, tensor
    missing = [path for path in shapes if path not in filled]
    for path, parts in filled.items():
        count = next(iter(parts)).of
        missing += [f"{path} (part {i + 1} of {count})" for i in range(count) if Part(i, count) not in parts]
    if missing or leftover:
        problems = []
        if missing:
            problems.append(f"no tensor for {_list(missing)}")
        if leftover:
            problems.append(f"nothing takes {_list(leftover)}")
        raise CheckpointError(
            f"{checkpoint.origin}: does not fit {preset.name}: {'; '.join(problems)}{_looks_like(checkpoint, naming)}"
        )
    flat = {
        path: np.concatenate([parts[part][1] for part in sorted(parts)], axis=-1) if len(parts) > 1 else parts[WHOLE][1]
        for path, parts in filled.items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def random_parameters(architecture: Architecture, seed: int) -> dict[str, Any]:
    """A parameter tree of `architecture` drawn from `seed`: matrices at the scale that keeps activations in bounds."""
    draw = np.random.default_rng(seed)
    flat = {}
    for path, shape in parameter_shapes(architecture).items():
        leaf = path.rsplit("/", 1)[-1]
        if leaf == "bias" or leaf.startswith("scale"):
            flat[path] = np.full(shape, 0.0 if leaf == "bias" else 1.0, np.float32)
        else:
            deviation = shape[0] ** -0.5 if leaf == "kernel" else 0.02
            flat[path] = draw.standard_normal(shape, np.float32) * np.float32(deviation)
    return traverse_util.unflatten_dict(flat, sep="/")


def _oriented(path: str, key: str, tensor: np.ndarray) -> np.ndarray:
    """Torch's layout -> ours: inputs by outputs, patches flattened in (row, column, colour) order, no leading ones."""
    tensor = np.asarray(tensor).astype(np.float32)
    if path == "patch/kernel" and tensor.ndim == 4:
        return np.ascontiguousarray(tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0]))
    # OpenAI keeps its projection as a bare [inputs, outputs] parameter
    if path.endswith("/kernel") and tensor.ndim == 2 and key != "visual.proj":
        return np.ascontiguousarray(tensor.T)
    while tensor.ndim > DIMENSIONS.get(path, tensor.ndim) and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor


def _part_shape(shape: tuple[int, ...], part: Part) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] // part.of)


def _looks_like(checkpoint: Checkpoint, naming: Naming) -> str:
    """`; it looks like ...` where the tensors are those of another preset."""
    found = {}
    for key, reader in checkpoint.readers.items():
        target = naming.target(key)
        if target is not None:
            found[target] = _oriented(target.path, key, reader()).shape
    positions = found.get(Target("positions"))
    for preset in PRESETS.values():
        a = preset.architecture
        if preset.family != naming.family or positions != (1 + a.grid**2, a.width):
            continue
        shapes = parameter_shapes(preset.architecture)
        if {t.path for t in found} == set(shapes) and all(
            _part_shape(shapes[t.path], t.part) == s for t, s in found.items()
        ):
            return f"; it looks like {preset.name}"
    return ""


def _list(names: list[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
