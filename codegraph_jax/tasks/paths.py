"""Checks that the paths in the settings exist or can be written, before any work."""

import difflib
import os
from pathlib import Path

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import obstacle
from codegraph_jax.line.ledger import LEDGER_FILE

BANK_SUFFIX = ".safetensors"
MAX_LISTED = 3
"""Number of banks in a directory that a message lists."""


def nearest_path(path: Path) -> str:
    """`did you mean '/my/photos'?` for a path with one misspelt component; empty if no path is similar."""
    for i in range(len(path.parts), 0, -1):
        above = Path(*path.parts[: i - 1])
        if not above.is_dir():
            continue
        try:
            names = [entry.name for entry in above.iterdir()]
        except OSError:
            return ""
        # names that differ only in case match best
        known = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(path.parts[i - 1].casefold(), known, n=1)
        return f"did you mean {str(above / known[near[0]])!r}?" if near else ""
    return ""


def require_exists(field: str, path: str, otherwise: str = "") -> None:
    """Checks that the path in a setting exists; `otherwise` is the hint if no path has a similar name.

    Raises:
        ConfigError: the path does not exist; names the most similar path.
    """
    if not os.path.lexists(path):
        hint = nearest_path(Path(path)) or otherwise
        raise ConfigError(f"{field}: {path!r} does not exist{f'; {hint}' if hint else ''}")


def require_writable(field: str, path: str) -> None:
    """Checks that the file of a setting can be written.

    Raises:
        ConfigError: it cannot; names the reason.
    """
    if reason := obstacle(Path(path)):
        raise ConfigError(f"{field}: {path!r} cannot be written ({reason}); choose another path")


def require_line(workdir: str) -> Path:
    """The ledger of a line.

    Raises:
        ConfigError: the workdir is not named, or has none.
    """
    if not workdir:
        raise ConfigError("config.line: is empty; name the directory of a line")
    path = Path(workdir) / LEDGER_FILE
    if not path.is_file():
        raise ConfigError(f"config.line: {workdir!r} holds no {LEDGER_FILE}; name the directory of a line")
    return path


def require_bank(path: str) -> None:
    """Checks that a path names the file of a bank.

    Raises:
        ConfigError: the path is empty, does not exist, or is a directory; names banks nearby.
    """
    field = "config.bank.path"
    if not path:
        raise ConfigError(f"{field}: is empty; name the {BANK_SUFFIX} file of a bank")
    if Path(path).is_dir():
        banks = sorted(str(bank) for bank in Path(path).glob(f"*{BANK_SUFFIX}"))[:MAX_LISTED]
        hint = f"did you mean {' or '.join(banks)}?" if banks else f"give the {BANK_SUFFIX} file that --save-bank wrote"
        raise ConfigError(f"{field}: {path!r} is a directory; {hint}")
    require_exists(field, path, f"codegraph detect PHOTOS --save-bank=FILE{BANK_SUFFIX} makes one")
