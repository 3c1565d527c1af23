"""Loads objects of the user's own, named in a setting as FILE.py:NAME or MODULE:NAME."""

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

PLACE = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")


def is_own(name: str) -> bool:
    """Whether a setting names an object of the user's own."""
    return PLACE.fullmatch(name) is not None


@contextmanager
def own_object(place: str, setting: str) -> Iterator[Any]:
    """The object at FILE.py:NAME or MODULE:NAME; within the context, modules beside it can be imported.

    Modules are found in the current directory and where Python finds them. Errors of the user's own code are raised
    with their traceback.

    Args:
        place: file or module, and name.
        setting: name of the setting, for messages.

    Raises:
        ConfigError: there is no such file, module or object.
    """
    match = PLACE.fullmatch(place)
    if match is None:
        raise ConfigError(f"{setting}: {place!r} is neither FILE.py:NAME nor MODULE:NAME")
    where, name = match.groups()
    file = Path(where).expanduser() if where.endswith(".py") else None
    folder = str(file.parent.resolve() if file else Path.cwd())
    # the command `codegraph` does not search the current directory
    sys.path.insert(0, folder)
    try:
        found = _of_file(file, place, setting) if file else _module(where, place, setting)
        for part in name.split("."):
            if not hasattr(found, part):
                known = [key for key in dir(found) if not key.startswith("_")]
                hint = did_you_mean(part, known)
                raise ConfigError(f"{setting}: {place!r}: there is no {part!r} in it{'; ' * bool(hint)}{hint}")
            found = getattr(found, part)
        yield found
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def own_digest(place: str, setting: str) -> str:
    """Digest of the file with an object of the user's own, on which results depend; empty for a name without a colon.

    Arguments and errors as for `own_object`.
    """
    if not is_own(place):
        return ""
    with own_object(place, setting):
        where = place.rpartition(":")[0]
        file = where if where.endswith(".py") else sys.modules[where].__file__
    return blake2b(Path(file).expanduser().read_bytes(), digest_size=12).hexdigest() if file else ""


def _of_file(file: Path, place: str, setting: str) -> Any:
    if not file.is_file():
        raise ConfigError(f"{setting}: {place!r}: there is no file {str(file.resolve())!r}")
    # under a name of its own, so that it replaces no module
    name = f"own_{blake2b(str(file.resolve()).encode(), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _module(where: str, place: str, setting: str) -> Any:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise
    raise ConfigError(
        f"{setting}: {place!r}: there is no module {where!r}, neither in {str(Path.cwd())!r} nor installed"
    )
