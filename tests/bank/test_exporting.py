"""An exported bank gives the same scores in a process without this project."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.bank.exporting import export_bank, scorer
from codegraph_jax.bank.file import BankError
from codegraph_jax.config import BankThresholdConfig
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.signature import Signature, patch_vectors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.synthetic import draw_set
from tests.support.networks import small_bank
from tests.support.processes import run_python

pytestmark = pytest.mark.usefixtures("shallow")

SIZE = 56


@pytest.fixture(scope="module")
def images():
    return list(draw_set(12, SIZE, 8, 0.3, ()).images)


@pytest.fixture(scope="module")
def bank(images):
    return small_bank(images[:9])


def with_variant(bank, image):
    """The bank with a harmless variant: the pattern in the middle of an image."""
    features = bank.extractor().extract(as_samples([image]))
    vectors = patch_vectors(features.layers, bank.frame.grid)[0]
    middle = vectors[[5, 6]].reshape(2, 2, -1)
    prototypes = np.round(middle / np.abs(middle).max(axis=-1, keepdims=True) * 127).astype(np.int8)
    signature = Signature(prototypes, np.full(2, 0.2, np.float32), 0.9, 1)
    product = Product.of(np.asarray(features.image_features))
    return dataclasses.replace(bank, patterns=[Pattern("imprint", "variant", signature, product, 3, 9)])


@pytest.mark.parametrize("variant", [False, True])
def test_the_program_gives_the_scores_of_the_bank(bank, images, variant):
    own = with_variant(bank, images[0]) if variant else bank
    inspection = own.inspect(images)
    if variant:
        assert inspection.pattern_numbers.any() and not (inspection.pattern_numbers > 0).all()
    score = jax.jit(scorer(own))
    for image, want, flagged, patches in zip(images, inspection.scores, inspection.flagged, inspection.patch_scores):
        greatest, above, own_patches = score(image)
        assert float(greatest) == pytest.approx(want, abs=1e-5) and bool(above) == flagged
        np.testing.assert_allclose(own_patches, patches, atol=1e-5)


def test_the_file_is_read_without_this_project(bank, images, tmp_path):
    loader = export_bank(bank, str(tmp_path / "parts.stablehlo"))
    assert len(loader.read_text().splitlines()) < 50
    for number, image in enumerate(images[9:]):
        np.save(tmp_path / f"{number}.npy", np.asarray(Image.fromarray(image)))
    program = (
        "import sys, runpy; sys.modules['codegraph_jax'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = (program, loader, "parts.stablehlo", "0.npy", "1.npy", "2.npy")
    run = run_python("-c", *words, status=0, cwd=tmp_path)
    printed = [float(line.split()[1]) for line in run.stdout.splitlines()]
    np.testing.assert_allclose(printed, bank.anomaly_scores(images[9:]), atol=1e-4)


def test_photos_of_another_size_are_refused(bank, tmp_path):
    loader = export_bank(bank, str(tmp_path / "parts.stablehlo"))
    namespace: dict = {"__name__": "loader"}
    exec(compile(loader.read_text(), str(loader), "exec"), namespace)
    score = namespace["load"](str(tmp_path / "parts.stablehlo"))
    with pytest.raises(ValueError, match="uint8"):
        score(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        score(np.zeros((SIZE, SIZE, 3), np.float32))


def test_banks_that_cannot_be_exported_are_refused(bank, images):
    exact = small_bank(images[:4], kind="exact")
    with pytest.raises(BankError, match="compact"):
        scorer(exact)
    wide = Frame("pad", (4, 4), 14, 56, 0, 0)
    with pytest.raises(BankError, match="aspect"):
        scorer(dataclasses.replace(bank, frame=wide))
    with pytest.raises(BankError, match="roi"):
        scorer(dataclasses.replace(bank, roi=np.ones((4, 4), bool)))
    with pytest.raises(BankError, match=r"threshold\.min_defect_length"):
        scorer(bank.with_threshold(BankThresholdConfig(min_defect_length=20)))
