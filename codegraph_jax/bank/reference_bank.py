"""A reference bank: what a set has taught, in one file that judges single new images.

    result = CoDeGraph(backbone="dinov2-base").detect(paths, bank=32)
    result.bank.save("parts.safetensors")
    bank = ReferenceBank.load("parts.safetensors")
    bank.score_samples(new_paths)

A new image is scored as it would be by `detect(paths, added=new_paths)` with the bank's images as the only references:
patches that show a recurring defect are in no bank, photographs of one and the same part do not vouch for each other,
and the threshold is the one that the set's own scores against the same references gave.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegraph_jax.backbones import Backbone, load_backbone
from codegraph_jax.config import BackboneConfig, DataConfig, DevicesConfig, FeatureConfig, SimilarityConfig
from codegraph_jax.consistency.added import judge_newcomers, leave_out_duplicates, recognise
from codegraph_jax.consistency.filtering import Dependence
from codegraph_jax.consistency.stages import mean_distances
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.progress import Progress
from codegraph_jax.core.settings import read_config
from codegraph_jax.core.tensors import READ_ERRORS
from codegraph_jax.data.images import Source
from codegraph_jax.distributed.devices import device_mesh
from codegraph_jax.features.cache import weights_identity
from codegraph_jax.features.extraction import extract
from codegraph_jax.features.memory import feature_type
from codegraph_jax.scoring.maps import image_scores, interpolated
from codegraph_jax.scoring.mutual import mean_scores, neighbour_count
from codegraph_jax.scoring.threshold import Calibration, NormalLaw
from codegraph_jax.similarity.query import BankPatches, distances_to_bank, prepare_bank
from codegraph_jax.similarity.tiles import TileOptions

FORMAT = 1
KEY = "codegraph_jax.bank.reference_bank"
CHUNK = 16
"""Images whose features wait in memory."""
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


class BankError(UserError):
    """A file that is no reference bank, or one that does not fit the weights."""


@dataclass(frozen=True)
class Inspection:
    """Scores of n new images; larger means more anomalous.

    Attributes:
        kept: which of the given images these are (those that could be read) [n].
        skipped: (index, reason) of the images that could not be read.
        patch_scores: mutual scores, distances in [0, 2] [n, h, w].
        scores: greatest value of each image's anomaly map [n].
        p_values: how often a normal image scores so high [n].
        flagged: which scores reach the threshold of the bank [n].
        image_size: side of the anomaly maps in pixels.
    """

    kept: Int[np.ndarray, " n"]
    skipped: list[tuple[int, str]]
    patch_scores: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    image_size: int


@dataclass(frozen=True)
class ReferenceBank:
    """The references of a set, and its threshold.

    Attributes:
        settings: the backbone that the features come from.
        weights: its weights, as `Backbone.weights` says.
        options: degrees, grid and precision of the distances.
        fraction: share of the references that a score averages.
        layers: patch tokens of the R references in each layer [R, p, c], see `features.normalise`.
        removed: patches that show a recurring defect and count for nothing [R, p].
        tests: what makes a patch of a new image part of a recurring defect.
        calibration: thresholds, p-values and flags of the set's n images against these references.
        scale: scores that heat maps draw as nothing and as full colour.
        backbone: ready to run.
    """

    settings: BackboneConfig
    weights: str
    options: TileOptions
    fraction: float
    layers: list[np.ndarray]
    removed: Bool[np.ndarray, "R p"]
    tests: list[Dependence]
    calibration: Calibration
    scale: tuple[float, float]
    backbone: Backbone
    prepared: list[BankPatches] = field(default_factory=list, repr=False)

    def inspect(
        self, images: Sequence[Source], data: DataConfig | None = None, progress: Progress = lambda images: None
    ) -> Inspection:
        """Scores new images, each by the references alone.

        Args:
            images: files or uint8 arrays ([h, w], [h, w, 3]).
            data: how many threads decode, and what happens to unreadable images (default: they are skipped).
            progress: called with the number of images just done.

        Raises:
            UnreadableImage: one cannot be decoded and `data.unreadable` is `error`.
        """
        mesh = device_mesh(DevicesConfig(devices=1))
        size, batch = self.settings.image_size, self.settings.batch_size
        kept, skipped, scores = [np.zeros(0, int)], [], [np.zeros((0, *self.options.grid), np.float32)]
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            extracted = extract(
                self.backbone, chunk, size, batch, data or DataConfig(), mesh, dtype=self.layers[0].dtype
            )
            kept.append(extracted.kept + start)
            skipped += [(i + start, reason) for i, reason in extracted.skipped]
            for i in range(len(extracted.kept)):
                scores.append(self._score([layer[i] for layer in extracted.layers])[None])
                progress(1)
            progress(len(extracted.skipped))
        patch_scores = np.concatenate(scores)
        raw = image_scores(patch_scores, size)
        calibration = self.calibration.of(raw)
        return Inspection(
            kept=np.concatenate(kept),
            skipped=skipped,
            patch_scores=patch_scores,
            scores=raw,
            p_values=calibration.p_values,
            flagged=calibration.flagged,
            image_size=size,
        )

    def score_samples(self, images: Sequence[Source]) -> Float[np.ndarray, " n"]:
        """Anomaly score of each image [n]: LARGER means MORE anomalous.

        scikit-learn's `score_samples` of outlier detectors has the opposite sign.

        Raises:
            UnreadableImage: one cannot be decoded; scores would no longer stand beside their images.
        """
        return self.inspect(images, DataConfig(unreadable="error")).scores

    def maps(self, images: Sequence[Source], size: int | None = None) -> Float[np.ndarray, "n s s"]:
        """Anomaly maps, `size` pixels a side (default: the backbone's image size); errors as `score_samples`."""
        inspection = self.inspect(images, DataConfig(unreadable="error"))
        return interpolated(inspection.patch_scores, size or inspection.image_size)

    def flag(self, images: Sequence[Source]) -> Bool[np.ndarray, " n"]:
        """Whether each image reaches the threshold that the set has taught; errors as `score_samples`."""
        return self.inspect(images, DataConfig(unreadable="error")).flagged

    def save(self, path: str, dtype: str = "float16") -> None:
        """Writes the bank as a safetensors file: tensors, and JSON for the rest.

        Args:
            path: the file; one that is there is replaced.
            dtype: of the patch tokens: `float16`, `bfloat16` or `float32`. float16 moves scores by less than 1e-3.

        Raises:
            OSError: it cannot be written.
        """
        tensors = {f"layer{k}": np.asarray(layer).astype(DTYPES[dtype]) for k, layer in enumerate(self.layers)}
        tensors |= {"removed": self.removed, "set_flagged": self.calibration.flagged}
        tensors["set_p_values"] = self.calibration.p_values
        about = {
            "format": FORMAT,
            # where the weights lay is nobody's business elsewhere, and no use there
            "backbone": asdict(replace(self.settings, weights="random" if self.settings.weights == "random" else "")),
            "weights": weights_identity(self.weights),
            "tokens": str(self.layers[0].dtype),
            "degrees": self.options.degrees,
            "grid": self.options.grid,
            "precision": self.options.precision,
            "fraction": self.fraction,
            "tests": [asdict(test) | {"outside": test.outside.tolist()} for test in self.tests],
            "calibration": {
                "threshold": _finite(self.calibration.threshold),
                "patch_threshold": self.calibration.patch_threshold,
                "rule": self.calibration.rule,
                "expected_rate": self.calibration.expected_rate,
                "law": asdict(self.calibration.law),
            },
            "scale": self.scale,
        }
        with whole_file(path) as name:
            try:
                save_file(tensors, name, {KEY: json.dumps(about, allow_nan=False)})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    @classmethod
    def load(cls, path: str, weights: str = "", backbone: Backbone | None = None) -> "ReferenceBank":
        """Reads a bank and finds the weights that it was made with.

        Args:
            path: a file that `save` has written.
            weights: where they are, as `config.backbone.weights`; empty: the preset's own sources.
            backbone: takes the place of `weights`.

        Raises:
            BankError: the file is no bank, or the weights are not those that it was made with.
            ConfigError: the weights cannot be found.
        """
        about, tensors = _read(path)
        try:
            settings = read_config(BackboneConfig, about["backbone"], "backbone")
            calibration = dict(about["calibration"])
            calibration["law"] = NormalLaw(**{name: float(value) for name, value in calibration["law"].items()})
            calibration["threshold"] = np.inf if calibration["threshold"] is None else float(calibration["threshold"])
            tests = [replace(Dependence(**test), outside=np.array(test["outside"], int)) for test in about["tests"]]
            # the type that the run kept them in; a bank that does not say comes from before there was a choice
            tokens = read_config(FeatureConfig, {"dtype": about.get("tokens", "float32")}, "features").dtype
            dtype = feature_type(tokens, "float32")
            layers = [tensors[f"layer{k}"].astype(dtype) for k in range(len(tensors) - 3)]
            removed = tensors["removed"].astype(bool)
            known = Calibration(
                **calibration, p_values=tensors["set_p_values"], flagged=tensors["set_flagged"].astype(bool)
            )
            height, width = grid = tuple(map(int, about["grid"]))
            degrees = read_config(FeatureConfig, {"degrees": about["degrees"]}, "features").degrees
            precision = read_config(SimilarityConfig, {"precision": about["precision"]}, "similarity").precision
            kernel, batch = ("reuse", 1) if jax.default_backend() == "cpu" else ("direct", 8)
            options = TileOptions(kernel, degrees, grid, precision, batch)  # type: ignore[arg-type]
            fraction, scale = float(about["fraction"]), (float(about["scale"][0]), float(about["scale"][1]))
            expected = about["weights"]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise _no_bank(path, f"{type(error).__name__}: {error}") from None
        outside = np.concatenate([test.outside.ravel() for test in tests] or [np.zeros(0, int)])
        # a neighbourhood far larger than the grid is damage, and would take all memory; the default of 5 fits any grid
        too_wide = max(degrees) > 2 * sum(grid) + 1
        if removed.ndim != 2 or not ((outside >= 0) & (outside < len(removed))).all() or too_wide:
            raise _no_bank(path, "its settings do not fit its tensors")
        if not layers or any(layer.ndim != 3 or layer.shape[:2] != removed.shape for layer in layers):
            raise _no_bank(path, "its tensors do not fit together")
        if weights:
            settings = replace(settings, weights=weights)
        backbone = backbone or load_backbone(settings)
        if weights_identity(backbone.weights) != expected:
            raise BankError(
                f"{path}: was made with weights {expected!r}, and these are {backbone.weights!r}; give the former as "
                "config.backbone.weights, or make the bank again"
            )
        if removed.shape[1] != height * width or len(backbone.blocks) != len(layers):
            raise _no_bank(path, "its tensors do not fit its settings")
        return cls(settings, backbone.weights, options, fraction, layers, removed, tests, known, scale, backbone)

    def _score(self, image: Sequence[Any]) -> Float[np.ndarray, "h w"]:
        """Scores of one image from its patch tokens [p, c] in each layer."""
        if not self.prepared:
            self.prepared.extend(
                prepare_bank(jnp.asarray(x), jnp.asarray(self.removed), self.options) for x in self.layers
            )
        pending = [distances_to_bank(jnp.asarray(x), bank, self.options) for x, bank in zip(image, self.prepared)]
        full, tables = ([np.array(pair[side])[:, None] for pair in pending] for side in (0, 1))
        mean = mean_distances(full)
        k = neighbour_count(len(self.removed), self.fraction)
        leave_out_duplicates(mean, tables)
        found = recognise(mean, self.tests, k)
        for table in tables:
            judge_newcomers(table, self.tests, found)
        return mean_scores(tables, k).reshape(self.options.grid)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _no_bank(path: str, reason: str) -> BankError:
    return BankError(f"{path}: no reference bank ({reason}); make one with --config.bank.save={path}")


def _read(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the file says of itself, and its tensors."""
    if not Path(path).is_file():
        raise BankError(f"{path!r}: no such file; make it with --config.bank.save={path or 'FILE.safetensors'}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (*READ_ERRORS, RecursionError) as error:
        raise _no_bank(path, str(error)) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _no_bank(path, "it does not say that it is one of this version")
    return about, tensors
