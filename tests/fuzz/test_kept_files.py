"""Banks and cache entries with damaged tensors and damaged JSON."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from codegraph_jax.backbones import load_backbone
from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BankConfig, Config
from codegraph_jax.core import tensors as tensor_files
from codegraph_jax.core.tensors import read_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.stores import BatchFeatures
from tests.support.damage import BUDGET, EDITS, JSON, damaged, positions
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

BACKBONE = random_backbone(blocks=(1,))
HOSTILE = JSON | st.sampled_from([10**400, -(10**400), float("inf"), 2**31, [[]], {"": {}}])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A bank: its directory, its bytes, its header, and its tensors."""
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    detector = CoDeGraph(Config(backbone=BACKBONE))
    bank = BankConfig(kind="exact", photo_count=3)
    detector.detect(list(draw_set(6, 56, 0, 0.2, ()).images), bank=bank).bank.save(str(path))
    tensors, about = read_tensors(path)
    return path.parent, path.read_bytes(), about, tensors, detector.backbone


def load(path, backbone):
    try:
        assert isinstance(ReferenceBank.load(str(path), backbone=backbone), ReferenceBank)
    except BankError as error:
        assert path.name in str(error)


def write(path, tensors, about):
    """The digest is valid, or reading would end there; infinities are written too."""
    text = json.dumps(about)
    save_file(tensors, path, {tensor_files.KEY: f"{tensor_files.content_digest(tensors, text)} {text}"})


@BUDGET
@given(EDITS, st.integers(1, 10))
def test_damaged_banks_are_loaded_or_refused(saved, edits, keep):
    folder, data, _, _, backbone = saved
    path = folder / "damaged.safetensors"
    path.write_bytes(damaged(data, edits, keep, near=3000))
    load(path, backbone)


@BUDGET
@given(data=st.data())
def test_banks_with_arbitrary_headers_are_loaded_or_refused(saved, data):
    folder, _, about, tensors, backbone = saved
    about = copy.deepcopy(about)
    for _ in range(data.draw(st.integers(1, 3))):
        *groups, last = data.draw(st.sampled_from(list(positions(about))))
        holder = about
        for key in groups:
            holder = holder[key]
        holder[last] = copy.deepcopy(data.draw(HOSTILE))
    path = folder / "other.safetensors"
    write(path, tensors, about)
    load(path, backbone)


SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@BUDGET
@given(st.sampled_from(["layer0", "removed", "set_defect_members", "set_scores", "layer1"]), SHAPES, st.booleans())
def test_banks_with_arbitrary_tensors_are_loaded_or_refused(saved, name, shape, drop):
    folder, _, about, tensors, backbone = saved
    tensors = {**tensors, name: np.zeros(shape, np.float16)}
    if drop:
        del tensors[name]
    path = folder / "shapes.safetensors"
    write(path, tensors, about)
    load(path, backbone)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    made = FeatureCache(str(tmp_path_factory.mktemp("cache")), load_backbone(BACKBONE), Frame.squeezed(56, 14))
    tokens, feature = np.ones((1, 16, 384), np.float32), np.ones((1, 384), np.float32)
    made.save(np.array([0]), [b"k"], BatchFeatures([tokens], feature))
    return made, made._path(b"k", "block1").read_bytes()


@BUDGET
@given(EDITS, st.integers(1, 10))
def test_damaged_cache_entries_are_read_or_ignored(cache, edits, keep):
    made, data = cache
    path = made._path(b"k", "block1")
    path.write_bytes(damaged(data, edits, keep, near=200))
    entries = made.load([b"k"])[0]
    assert entries is None or (entries.layers[0] == 1).all(), "an entry with a wrong digest counts as absent"
