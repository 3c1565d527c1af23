"""The configs of the project, beside the package in a clone and inside the installed package."""

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from codegraph_jax.commands.registry import CLONE_ONLY, PACKAGE, TASKS, clone_root
from codegraph_jax.core.errors import UserError, did_you_mean

NEEDS_A_CLONE = "benchmarks and studies run only from a clone of the repository: python -m codegraph_jax {}"


def configs_directory() -> Path:
    """The directory of the shipped configs."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def config_files() -> dict[str, Path]:
    """The shipped configs by name; those in studies/ exist only in a clone."""
    directory = configs_directory()
    files = [path for folder in (directory, directory / "studies") for path in sorted(folder.glob("[!_]*.py"))]
    return {path.stem: path for path in files}


def config_names() -> list[str]:
    """Names of the shipped configs."""
    return sorted(config_files())


def shipped_config(value: str) -> str:
    """The value of `--config` with the name of a shipped config replaced by its file.

    `mvtec`, `mvtec:reference` and `configs/mvtec.py` (if the working directory has no such file) are replaced; all
    other values are returned unchanged.
    """
    name, colon, variant = value.partition(":")
    path = Path(name)
    stem = path.stem if path.parent in (Path("configs"), Path("configs/studies")) and path.suffix == ".py" else name
    files = config_files()
    if path.is_file() or stem not in files:
        return value
    return f"{files[stem]}{colon}{variant}"


def load_config(value: str) -> Any:
    """The settings for a value of `--config`.

    The variants of a config are the values of the `Literal` with which the parameter of its `get_config` is annotated;
    one with another annotation takes any text.

    Raises:
        UserError: the file or variant does not exist, or the file cannot be run or returns no settings.
    """
    from codegraph_jax.core.settings import Settings  # imports NumPy

    file, colon, variant = shipped_config(value).partition(":")
    path = Path(file)
    if not path.is_file():
        study = next((command for command in CLONE_ONLY.values() if command.config == path.stem), None)
        if study and not clone_root():
            raise UserError(f"--config={value}: {NEEDS_A_CLONE.format(study.name)}")
        hint = did_you_mean(path.name.removesuffix(".py"), config_names(), f"configs: {', '.join(config_names())}")
        raise UserError(f"--config={file}: {'is a directory' if path.is_dir() else 'no such file'}; {hint}")
    get_config = _run(path)
    parameters = inspect.signature(get_config).parameters
    if colon and not parameters:
        raise UserError(f"--config={value}: {path.name} has no variants; leave :{variant} out")
    declared = [one.annotation for one in parameters.values() if get_origin(one.annotation) is Literal]
    variants = [str(name) for annotation in declared for name in get_args(annotation) if name]
    if colon and variants and variant not in variants:
        hint = did_you_mean(variant, variants, f"variants: {', '.join(variants)}")
        raise UserError(f"--config={value}: {path.name} has no variant {variant!r}; {hint}")
    try:
        config = get_config(variant) if colon else get_config()
    # of a value that is wrong, a field that is set to another type, or one that does not exist
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"--config={value}: {' '.join(str(error).split())[:300]}") from error
    if not (isinstance(config, Settings) and getattr(config, "task", "") in TASKS):
        kind = type(config).__name__
        raise UserError(f"--config={value}: get_config() must return settings, such as Config(...), and not a {kind}")
    return config


def add_clone_root() -> None:
    """Makes `benchmarks`, `studies` and `configs` importable in a clone, as they are from main.py."""
    if (root := clone_root()) and str(root) not in sys.path:
        sys.path.insert(0, str(root))


def _run(path: Path) -> Any:
    """The function `get_config` of a config file."""
    add_clone_root()
    spec = importlib.util.spec_from_file_location("config_file", path)
    try:
        if spec is None or spec.loader is None:
            raise ImportError("its name does not end in .py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config
    except Exception as error:  # the user's file may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"--config={path}: cannot be loaded ({reason}{where}); correct the file") from error
