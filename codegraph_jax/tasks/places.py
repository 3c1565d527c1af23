"""Places that settings name: what is not there, or is something else, is said before any work."""

import difflib
from pathlib import Path

from codegraph_jax.core.settings import ConfigError

SUFFIX = ".safetensors"
SHOWN = 3
"""Banks of a directory that a message names."""


def nearest_path(path: Path) -> str:
    """`did you mean '/my/photos'?` for a path of which one part is misspelt; empty where nothing is like it."""
    for i in range(len(path.parts), 0, -1):
        above = Path(*path.parts[: i - 1])
        if not above.is_dir():
            continue
        try:
            names = [entry.name for entry in above.iterdir()]
        except OSError:
            return ""
        # capitals count for little
        known = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(path.parts[i - 1].casefold(), known, n=1)
        return f"did you mean {str(above / known[near[0]])!r}?" if near else ""
    return ""


def require_there(field: str, place: str, otherwise: str = "") -> None:
    """Refuses a path that leads nowhere.

    Args:
        field: the setting that names it.
        place: the path.
        otherwise: what to do where nothing of a like name is there.

    Raises:
        ConfigError: names the nearest path that is there.
    """
    path = Path(place)
    if not path.exists() and not path.is_symlink():
        hint = nearest_path(path) or otherwise
        raise ConfigError(f"{field}: {place!r} does not exist{f'; {hint}' if hint else ''}")


def require_bank(path: str) -> None:
    """Refuses what cannot be the file of a bank.

    Raises:
        ConfigError: nothing is named, it is not there, or it is a directory; names the banks that lie near.
    """
    field = "config.bank.path"
    if not path:
        raise ConfigError(f"{field}: is empty; give the file of a bank, --config.bank.path=FILE{SUFFIX}")
    if Path(path).is_dir():
        banks = sorted(str(bank) for bank in Path(path).glob(f"*{SUFFIX}"))[:SHOWN]
        hint = f"did you mean {' or '.join(banks)}?" if banks else f"give the {SUFFIX} file that --save-bank has named"
        raise ConfigError(f"{field}: {path!r} is a directory; {hint}")
    require_there(field, path, f"codegraph detect PHOTOS --save-bank=FILE{SUFFIX} makes one")
