"""The packages, and the configs of the checkout inside of an installed one; all else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["codegraph_jax*", "contrastive_jax*"]), "codegraph_jax.configs"],
    package_dir={"codegraph_jax.configs": "configs"},
)
