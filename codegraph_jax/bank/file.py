"""A reference bank without its network, and its file: safetensors for arrays, JSON for the rest, a digest over both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import DTypeLike

from codegraph_jax.backbones import weights_identity
from codegraph_jax.bank.calibration_set import CalibrationSet
from codegraph_jax.bank.history import KEPT_PARTS, BankRevision, can_return_to, in_use, to_store
from codegraph_jax.bank.references import References, content_of, references_of
from codegraph_jax.config import BackboneConfig, BankThresholdConfig, ThresholdConfig
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import finite_or_none
from codegraph_jax.core.json_fields import MALFORMED, JsonFields, not_in_json, plain
from codegraph_jax.core.settings import read_config
from codegraph_jax.core.tensors import READ_ERRORS, DamagedTensorsError, content_digest, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.value_range import ValueRange
from codegraph_jax.features.memory import feature_type
from codegraph_jax.scoring.scores import ANSWER_SCORES, NAMED_SCORES, STANDARD
from codegraph_jax.scoring.threshold import Calibration

FORMAT = 19
MAX_PATCHES, MAX_INPUT_SIZE, MAX_DEGREES, MAX_BATCH_SIZE = 2**20, 2**14, 16, 2**12
"""Limits that protect against damaged files: patches per photo, input size of the backbone in pixels, degrees, and
batch size. They are far above real banks."""


class BankError(UserError):
    """The file is not a reference bank, or does not match the weights."""


@dataclass(frozen=True)
class StoredBank(JsonFields):
    """The references and the threshold of a set, without the network.

    Attributes:
        backbone_config: settings of the backbone.
        weights_name: see `Backbone.weights_name`; in the file its identity.
        references: the references with which new images are compared.
        patterns: recurring patterns of the set, with their verdicts and frequencies.
        calibration: thresholds and distribution of the set's normal scores, by this bank.
        calibration_set: scores and peak patches of the set.
        history: the first revision, and one for each extension.
        heatmap_range: scores at which the colours of heat maps begin and end.
        value_range: values shown as black and white if images have more than 8 bits; None: all have 8 bits.
        frame: how photos become grids of patches.
        roi: the inspected area, stretched over every photo; None: everything.
        score_name: name of the score (`scoring.scores`).
        marks: patterns from single photos with an answer; the last revision lists those in use.
        product: features that identify the product of the set.
        max_photo_pixels: pixels of the largest photo of the set; 0 if it is not known.
    """

    backbone_config: BackboneConfig = field(metadata=not_in_json())
    weights_name: str = field(metadata=not_in_json())
    references: References = field(metadata=not_in_json())
    patterns: list[Pattern]
    calibration: Calibration
    calibration_set: CalibrationSet = field(metadata=not_in_json())
    history: tuple[BankRevision, ...]
    heatmap_range: tuple[float, float]
    value_range: ValueRange | None
    frame: Frame
    roi: Bool[np.ndarray, "a b"] | None = field(metadata=not_in_json())
    product: Product
    score_name: str = field(default=STANDARD.name, kw_only=True)
    marks: tuple[Pattern, ...] = field(default=(), kw_only=True)
    max_photo_pixels: int = field(default=0, kw_only=True)

    @property
    def token_dtype(self) -> np.dtype:
        """Type in which the backbone computes and to which patch tokens are rounded before the comparison."""
        return feature_type(self.references.options.precision)

    @property
    def answers_by_key(self) -> dict[str, bool]:
        """Answers (True: defective, False: good) by the digest of the part's pixels."""
        return {key: revision.defective for revision in self.history for key in revision.keys}

    @property
    def known_patterns(self) -> list[Pattern]:
        """Known patterns: those of the set, and the marks in use."""
        return [*self.patterns, *(self.marks[index] for index in self.history[-1].mark_indices)]

    @cached_property
    def active_references(self) -> References:
        """The references in use after the last revision."""
        return self.references_after(self.history) if self.history[-1].last_addition else self.references

    def references_after(self, history: Sequence[BankRevision]) -> References:
        """The references in use after the last revision of a history."""
        return self.references.select(in_use(self.references.addition_numbers, history))

    def combined_maps(self, scores: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n h w"]:
        """Patch scores by the score of the bank."""
        return NAMED_SCORES[self.score_name].combined(scores).reshape(-1, *self.frame.grid)

    def back_to(self, revision: int) -> Self:
        """The bank after a revision of its history, counted from 0.

        Raises:
            BankError: there is no such revision, or its references are no longer stored.
        """
        if not 0 <= revision < len(self.history):
            raise BankError(f"the history of this bank has the revisions 0 to {len(self.history) - 1}, not {revision}")
        if not can_return_to(self.history, revision):
            raise BankError(
                f"the references of revision {revision} are no longer stored; a bank keeps the last {KEPT_PARTS} parts"
            )
        history = self.history[: revision + 1]
        stored = to_store(self.references.addition_numbers, history[-1].last_addition)
        return replace(self, references=self.references.select(stored), history=history)

    def with_threshold(self, config: BankThresholdConfig) -> Self:
        """The bank with another threshold, a score or a rate of false alarms, or another least size of a defect.

        Raises:
            ConfigError: the rule cannot be applied to single photos.
        """
        calibration = self.calibration
        if config.rule:
            kind, value = ThresholdConfig(config.rule).parsed_rule
            if kind == "rate":
                value = calibration.normal_scores.quantile(value)
            calibration = calibration.with_threshold(value, kind)
        if config.min_defect_length is not None:
            calibration = replace(calibration, min_defect_length=config.min_defect_length)
        return replace(self, calibration=calibration)

    @cached_property
    def digest(self) -> str:
        """A short digest of all that verdicts depend on; banks with the same digest give the same verdicts."""
        arrays, about = content_of(self.active_references, np.float32)
        if self.roi is not None:
            arrays["roi"] = self.roi
        patterns = [[pattern.verdict, pattern.origin, pattern.signature] for pattern in self.known_patterns]
        settings = [about, self.weights_name, self.score_name, self.calibration, self.frame, self.value_range, patterns]
        return content_digest(arrays, json.dumps(plain([*settings, self.answers_by_key]), sort_keys=True))[:12]

    def save(self, path: str, dtype: DTypeLike = np.float16) -> None:
        """Writes the bank.

        Args:
            path: a .safetensors file, which is replaced if it exists.
            dtype: type of the stored patch tokens or vectors. float16 changes scores by less than 1e-3;
                `codegraph extend` always writes it.

        Raises:
            OSError: the file cannot be written.
        """
        tensors, about = content_of(self.references, dtype)
        tensors |= self.calibration_set.to_tensors()
        if self.roi is not None:
            tensors["roi"] = self.roi
        # the path of the weights is omitted: it may be private, and is useless on another machine
        weights = "random" if self.backbone_config.weights == "random" else ""
        about |= {
            "format": FORMAT,
            "backbone": asdict(replace(self.backbone_config, weights=weights)),
            "weights_name": weights_identity(self.weights_name),
            **self.as_json(),
        }
        write_tensors(path, tensors, about)

    @classmethod
    def read(cls, path: str) -> "StoredBank":
        """Reads a bank that `save` has written.

        Raises:
            BankError: the file does not exist, or is not a bank.
        """
        if not Path(path).is_file():
            raise BankError(f"{path!r}: does not exist; make it with --save-bank={path or 'FILE.safetensors'}")
        try:
            tensors, about = read_tensors(path)
            if about["format"] != FORMAT:
                raise DamagedTensorsError(f"this version reads format {FORMAT} only")
            bank = _bank(about, tensors)
            _check_values(about, tensors)
            _check_sizes(bank)
            bank.references.check()
            _check_history(bank)
        except DamagedTensorsError as error:
            raise BankError(_refusal(path, str(error))) from None
        except (*MALFORMED, *READ_ERRORS, RecursionError) as error:
            raise BankError(_refusal(path, f"{type(error).__name__}: {error}")) from None
        return bank


def _check_history(bank: StoredBank) -> None:
    """Refuses a bank whose parts do not fit each other."""
    lasts = [revision.last_addition for revision in bank.history]
    numbers = bank.references.addition_numbers.tolist()
    ascending = lasts == sorted(lasts) and numbers == sorted(numbers)
    if not ascending or lasts[:1] != [0] or numbers[:1] != [0] or numbers[-1] > lasts[-1]:
        raise DamagedTensorsError("its history does not fit its tensors")
    known = [*bank.patterns, *bank.marks]
    if any(pattern.signature.prototypes.shape[1] != len(bank.references.layers) for pattern in known):
        raise DamagedTensorsError("its patterns do not fit its tensors")
    if any(not 0 <= index < len(bank.marks) for revision in bank.history for index in revision.mark_indices):
        raise DamagedTensorsError("its history does not fit its marks")


def _check_values(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses a damaged bank that would flag nothing.

    For example, a comparison with NaN is false, so that no score would reach the threshold.
    """
    if finite_or_none(about) != about:
        raise DamagedTensorsError("its settings are not all finite numbers")
    for name, tensor in tensors.items():
        numbers = tensor.dtype.kind not in "biu"
        if numbers and not all(
            np.isfinite(tensor[i : i + 64].astype(np.float32)).all() for i in range(0, len(tensor), 64)
        ):
            raise DamagedTensorsError(f"its tensor {name} holds values that are not finite")
    calibration = about.get("calibration")
    known = calibration if isinstance(calibration, dict) else {"threshold": 0.0}
    # only a share may have no threshold
    if known.get("threshold") is None and known.get("decided_by") != "share":
        raise DamagedTensorsError("it has no threshold")
    if "roi" in tensors and not tensors["roi"].any():
        raise DamagedTensorsError("nothing of a photo would be inspected")
    if "removed" in tensors and tensors["removed"].size and tensors["removed"].all():
        raise DamagedTensorsError("none of its patches is used")


def _check_sizes(bank: StoredBank) -> None:
    """Refuses a bank that would exhaust memory or time."""
    height, width = bank.frame.grid
    degrees = bank.references.options.degrees
    if height * width > MAX_PATCHES:
        raise DamagedTensorsError(f"its photos have {height} x {width} patches")
    # a neighbourhood much larger than the grid means damage
    if max(degrees) > 2 * (height + width) + 1 or len(set(degrees)) < len(degrees) or len(degrees) > MAX_DEGREES:
        raise DamagedTensorsError("its degrees do not fit its tensors")
    if bank.backbone_config.side > MAX_INPUT_SIZE:
        raise DamagedTensorsError(f"the input size of its backbone is {bank.backbone_config.side:,} pixels")
    if (batch_size := bank.backbone_config.batch_size or 1) > MAX_BATCH_SIZE:
        raise DamagedTensorsError(f"its batch size is {batch_size:,} images")


def _bank(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> StoredBank:
    roi, names = tensors.get("roi"), [entry.name for entry in fields(StoredBank) if "not_in_json" not in entry.metadata]
    bank = StoredBank.from_json(
        {name: about[name] for name in names},
        backbone_config=read_config(BackboneConfig, about["backbone"], "backbone"),
        weights_name=str(about["weights_name"]),
        references=references_of(tensors, about, Frame.from_json(about["frame"]).grid),
        calibration_set=CalibrationSet.from_tensors(tensors),
        roi=None if roi is None else roi.astype(bool),
    )
    if bank.score_name not in [score.name for score in ANSWER_SCORES]:
        raise ValueError(f"score_name: no bank has the score {bank.score_name!r:.80}")
    return bank


def _refusal(path: str, reason: str) -> str:
    return f"{path}: is not a reference bank ({reason}); make one with --save-bank={path}"
