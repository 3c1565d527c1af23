"""The task `export`: writes a compact bank and its weights as one program."""

from codegraph_jax.bank.exporting import PLATFORMS, export_bank
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import ExportConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.workdir import written_to
from codegraph_jax.tasks.paths import require_bank, require_writable


def run(config: ExportConfig, workdir: str) -> None:
    """Writes the program and the module that loads it.

    Raises:
        ConfigError, BankError, MissingPackageError, WorkdirError: with nothing written.
    """
    require_bank(config.bank.path)
    if not config.save:
        raise ConfigError("config.save: is empty; name the file to write")
    require_writable("config.save", config.save)
    bank = ReferenceBank.load(config.bank.path, config.backbone.weights, config.backbone.name)
    with written_to(config.save):
        loader = export_bank(bank, config.save)
    height, width = bank.frame.size
    resample, platforms = bank.backbone.resample, " and ".join(PLATFORMS)
    print(f"{config.save}: input uint8 [{height}, {width}, 3], resized {resample}; for {platforms}; load with {loader}")
