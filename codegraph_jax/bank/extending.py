"""Extends a bank by answers to parts: good parts become references, and parts that stand out leave marks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from codegraph_jax.bank.file import StoredBank
from codegraph_jax.bank.history import BankRevision, to_store
from codegraph_jax.bank.pool import Pool
from codegraph_jax.bank.references import References
from codegraph_jax.consistency.marks import MAX_LIMIT, mark_patches, mark_signature
from codegraph_jax.consistency.pattern import MAX_NAME_LENGTH, Pattern, PatternVerdict
from codegraph_jax.consistency.signature import patch_vectors
from codegraph_jax.features.features import Features
from codegraph_jax.scoring.maps import image_scores

Bank = TypeVar("Bank", bound=StoredBank)


def extended(bank: Bank, features: Features, names: Sequence[str], when: str, defective: bool) -> Bank:
    """The bank extended by the same answer to some parts; see `ReferenceBank.extend`."""
    references, last = bank.references, bank.history[-1].last_addition
    if not defective:
        references = references.extended(features.layers, last + 1)
        last += len(names)
        references = references.select(to_store(references.addition_numbers, last))
    keys = tuple(key.hex() for key in features.keys)
    revision = BankRevision(when, tuple(names), keys, last, defective=defective)
    # a part that was called good before must not be compared with itself
    active = bank.references_after((*bank.history, revision)) if defective else bank.active_references
    marks, mark_indices = _marks_after(bank, revision, features, active)
    return replace(
        bank,
        references=references,
        marks=marks,
        history=(*bank.history, replace(revision, mark_indices=mark_indices)),
        max_photo_pixels=max(bank.max_photo_pixels, int(features.placement.sizes.prod(axis=1).max())),
    )


def _marks_after(
    bank: StoredBank, revision: BankRevision, features: Features, active: References
) -> tuple[tuple[Pattern, ...], tuple[int, ...]]:
    """All marks with those of the parts of a revision, and the indices of the marks that are then in use.

    A mark that one of the parts shows is dropped if it has the opposite verdict.
    """
    verdicts: tuple[PatternVerdict, PatternVerdict] = ("defect", "variant")
    verdict, opposite = verdicts if revision.defective else verdicts[::-1]
    marks, used = list(bank.marks), list(bank.history[-1].mark_indices)
    for i, name in enumerate(revision.names):
        tokens = [np.asarray(layer[i]) for layer in features.layers]
        vectors = patch_vectors([layer[None] for layer in tokens], features.grid)
        used = [
            index
            for index in used
            if marks[index].verdict != opposite or not marks[index].signature.match_mask(vectors).any()
        ]
        maps = bank.combined_maps(active.scores(tokens, features.placement.inspected[i])[None])
        score = image_scores(maps, bank.frame.size, features.placement.rects([i]))[0]
        # a good part below the threshold needs no mark
        needed = revision.defective or score >= bank.calibration.threshold
        if needed and (mark := _mark(bank, vectors[0], maps.ravel(), verdict, name, active)):
            used.append(len(marks))
            marks.append(mark)
    return tuple(marks), tuple(used)


def _mark(
    bank: StoredBank,
    vectors: Float[np.ndarray, "p d"],
    scores: Float[np.ndarray, " p"],
    verdict: PatternVerdict,
    name: str,
    active: References,
) -> Pattern | None:
    """A pattern of the anomalous patches of a part; None if there are none."""
    patches = mark_patches(scores, bank.calibration.patch_threshold)
    if not len(patches):
        return None
    others = active.patch_vectors()
    mark_vectors = vectors[patches].reshape(len(patches), len(active.layers), -1)
    signature = mark_signature(mark_vectors, lambda measure: np.array([measure(image) for image in others]))
    if isinstance(active, Pool):
        # the patches of a pool belong to no photo, so the gap between photos cannot be measured
        signature = replace(signature, limit=MAX_LIMIT)
    return Pattern(name[:MAX_NAME_LENGTH], verdict, signature, bank.product, 1, 1, origin="photo")
