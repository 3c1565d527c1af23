"""The packages, and the configs of the clone inside of an installed one; all else stands in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Leaves out the configs of benchmarks and studies, which run only from a clone."""

    def run(self) -> None:
        """Builds anew: setuptools would also install files that an earlier build left in build/."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of all modules that are installed."""
        found = super().find_package_modules(package, package_dir)
        measures = re.compile(r"^from (benchmarks|studies)\b", re.MULTILINE)
        return [module for module in found if not measures.search(Path(module[2]).read_text(encoding="utf-8"))]


setup(
    cmdclass={"build_py": BuildPy},
    packages=[*find_packages(include=["codegraph_jax*", "contrastive_jax*"]), "codegraph_jax.configs"],
    package_dir={"codegraph_jax.configs": "configs"},
)
