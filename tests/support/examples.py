"""The examples, as modules."""

import importlib.util
from types import ModuleType
from typing import Any

from tests.support import ROOT

EXAMPLES = ROOT / "examples"


def example(name: str, **constants: Any) -> ModuleType:
    """The module of an example, with smaller constants than those at its top."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for constant, value in constants.items():
        assert hasattr(module, constant)
        setattr(module, constant, value)
    return module
