"""Loads objects from the user's code, named in a setting as FILE.py:NAME or MODULE:NAME."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import did_you_mean
from codegraph_jax.core.settings import ConfigError

NAME = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")


def is_user_code(name: str) -> bool:
    """Whether a setting names an object of the user's code."""
    return NAME.fullmatch(name) is not None


@contextmanager
def user_object(name: str, setting: str) -> Iterator[Any]:
    """The object FILE.py:NAME or MODULE:NAME; within the context, modules beside it can be imported.

    Modules are found in the current directory and where Python finds them. Errors of the user's code are raised with
    their traceback.

    Args:
        name: file or module, and name.
        setting: name of the setting, for messages.

    Raises:
        ConfigError: there is no such file, module or object.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"{setting}: {name!r} is neither FILE.py:NAME nor MODULE:NAME")
    where, attributes = match.groups()
    file = Path(where).expanduser() if where.endswith(".py") else None
    folder = str(file.parent.resolve() if file else Path.cwd())
    # the command `codegraph` does not search the current directory
    sys.path.insert(0, folder)
    try:
        loaded = _run_file(file, setting) if file else _imported(where, setting)
        for attribute in attributes.split("."):
            if not hasattr(loaded, attribute):
                hint = did_you_mean(attribute, [key for key in dir(loaded) if not key.startswith("_")])
                raise ConfigError(f"{setting}: {name!r}: there is no {attribute!r} in it{f'; {hint}' if hint else ''}")
            loaded = getattr(loaded, attribute)
        yield loaded
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def user_code_digest(name: str, setting: str) -> str:
    """Digest of the file with an object of the user's code, on which results depend; empty for names of the package.

    Arguments and errors as for `user_object`.
    """
    if not is_user_code(name):
        return ""
    with user_object(name, setting):
        where = name.rpartition(":")[0]
        file = where if where.endswith(".py") else sys.modules[where].__file__
    return blake2b(Path(file).expanduser().read_bytes(), digest_size=12).hexdigest() if file else ""


def _run_file(file: Path, setting: str) -> Any:
    path = str(file.resolve())
    if not file.is_file():
        raise ConfigError(f"{setting}: there is no file {path!r}")
    # a name that replaces no other module
    name = f"user_code_{blake2b(path.encode(), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _imported(module: str, setting: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
    raise ConfigError(f"{setting}: there is no module {module!r}, neither in {str(Path.cwd())!r} nor installed")
