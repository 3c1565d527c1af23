"""The configs that come with the project: in the checkout beside the package, or inside of an installed one."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def configs_directory() -> Path:
    """Where the shipped configs lie."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Names of the shipped configs."""
    return sorted(path.stem for path in configs_directory().glob("[!_]*.py"))


def shipped_config(value: str) -> str:
    """The value of `--config` with a file where it names a shipped config.

    `mvtec`, `mvtec:reference` and, where the working directory has no such file, `configs/mvtec.py` do; everything else
    stays as it is.
    """
    name, colon, variant = value.partition(":")
    path = Path(name)
    stem = path.stem if path.parent == Path("configs") and path.suffix == ".py" else name
    if path.is_file() or stem not in config_names():
        return value
    return f"{configs_directory() / stem}.py{colon}{variant}"
