"""Networks that are not the package's own: compiled if JAX can trace them, otherwise called with NumPy arrays."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax import CoDeGraph, Config, ReferenceBank
from codegraph_jax.backbones import BackboneError, as_loaded, load_backbone
from codegraph_jax.bank.exporting import export_bank
from codegraph_jax.bank.file import BankError
from codegraph_jax.config import BackboneConfig, BankConfig, DataConfig, ParallelConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.features.aggregation import normalised_layers
from codegraph_jax.similarity.time_estimate import estimate
from tests.support import reference
from tests.support.compiled_programs import compiled_programs
from tests.support.photos import drawn_parts
from tests.support.tiny_backbones import tiny_backbone
from tests.support.user_backbones import FILTERS, PATCH, SIZE, Numpy, Traced, detector, patches, placed


def features(network, images, **settings):
    """The layers and the image features of a detector."""
    own = detector(network, **settings)
    found = own.extractor.with_frame(own.frame_of(as_samples(images))).extract(as_samples(images))
    return [np.asarray(layer) for layer in found.layers], found.image_features


@pytest.fixture(scope="module")
def images():
    return drawn_parts(9)


@pytest.fixture(scope="module")
def expected(images):
    return detector(Traced(), parallel=ParallelConfig(devices=1)).detect(images)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("backend", ["shard_map", "pmap"])
def test_both_kinds_give_the_same_on_any_devices(images, expected, devices, backend):
    own = Traced()
    layers, image_features = own(jnp.asarray(np.stack([placed(image) for image in images])))
    for network in (own, Numpy()):
        found = features(network, images, parallel=ParallelConfig(devices=devices, backend=backend))
        for layer, tokens in zip(found[0], normalised_layers(layers, None), strict=True):
            np.testing.assert_allclose(layer, tokens, atol=1e-5)
        np.testing.assert_allclose(found[1], image_features, atol=1e-6)


def test_the_whole_method_gives_the_same(images, expected):
    found = detector(Numpy(), parallel=ParallelConfig(devices=1)).detect(images)
    assert found.weights_name == expected.weights_name == "filters 1"
    np.testing.assert_allclose(found.patch_scores, expected.patch_scores, atol=2e-6)
    np.testing.assert_allclose(found.scores_rescored, expected.scores_rescored, atol=1e-5)


def test_layers_of_different_widths_equal_a_calculation_in_float64(images):
    found = detector(Traced(), parallel=ParallelConfig(devices=1)).compare(images[:5])
    assert [layer.shape for layer in found.features.layers] == [(5, 16, 24)] * 2
    pixels = np.stack([placed(image) for image in images[:5]])
    for table, own in zip(found.tables.host(), FILTERS, strict=True):
        tokens = np.tanh(patches(pixels, np).astype(np.float64) @ own)
        for distances, degree in zip(table, found.options.degrees, strict=True):
            want = reference.distances(reference.aggregate(tokens, degree, (4, 4)))
            np.testing.assert_allclose(distances, want, atol=2e-5)


def test_tiles_are_blended_alike(images):
    wide = [np.concatenate([image, image[:, ::-1]], axis=1) for image in images[:3]]
    tiled = {"backbone": BackboneConfig(fit="tile", scale=1.0)}
    found = [features(network, wide, **tiled) for network in (Traced(), Numpy())]
    assert (
        found[0][0][0].shape == (3, 8 * 16, 24)
        and len(detector(Numpy(), **tiled).frame_of(as_samples(wide)).tiles()) > 1
    )
    for layer, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(layer, other, atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_a_preset_equals_a_backbone_of_the_user(tiny_presets, images):
    """A preset gives the same numbers through the public interface of a user's backbone."""
    loaded = load_backbone(tiny_backbone())

    @flax.struct.dataclass
    class Wrapped:
        own: Any
        weights_name: str = flax.struct.field(pytree_node=False, default=loaded.weights_name)
        patch_size: int = flax.struct.field(pytree_node=False, default=loaded.patch_size)
        mean: tuple[float, ...] = flax.struct.field(pytree_node=False, default=loaded.mean)
        std: tuple[float, ...] = flax.struct.field(pytree_node=False, default=loaded.std)

        def __call__(self, images):
            return self.own(images)

    want, found = (
        CoDeGraph(backbone=b, image_size=20).extractor.extract(as_samples(images)) for b in (loaded, Wrapped(loaded))
    )
    np.testing.assert_array_equal(np.stack(found.layers), np.stack(want.layers))
    np.testing.assert_array_equal(found.image_features, want.image_features)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_network_with_other_weights_compiles_no_program(images, devices):
    parallel = ParallelConfig(devices=devices)
    first, _ = features(Traced(), images, parallel=parallel)
    other = Traced(filters=tuple(2 * own for own in FILTERS))
    with compiled_programs() as programs:
        second, _ = features(other, images, parallel=parallel)
    assert programs == []
    assert not np.allclose(first[0], second[0])


def test_without_an_image_feature_images_are_not_rescored(images):
    class Plain(Numpy):
        def __call__(self, images):
            return super().__call__(images)[0], None

    found = detector(Plain())
    assert found.config.scoring.rescore is False and detector(Numpy()).config.scoring.rescore is True
    image_features = found.extractor.extract(as_samples(images)).image_features
    assert image_features.shape == (9, 16), "the mean of the last layer"


def test_a_bank_needs_the_backbone_again(module, images, tmp_path):
    made = detector(Numpy()).detect(images, bank=BankConfig(kind="exact", photo_count=4))
    path = str(tmp_path / "bank.safetensors")
    made.bank.save(path, dtype="float32")
    # a file must not choose code that is imported
    with pytest.raises(BankError, match=r"your own backbone, 'filters 1'.*--backbone=FILE\.py:NAME.*backbone="):
        ReferenceBank.load(path)
    with pytest.raises(BankError, match=r"was made with weights 'filters 1', but these are 'filters 2'"):
        ReferenceBank.load(path, backbone=Traced(weights_name="filters 2"))
    want = made.bank.anomaly_scores(images[:3])
    for network in (Numpy(), "own_network.py:make"):
        bank = ReferenceBank.load(path, backbone=network)
        # the square root magnifies the rounding of distances near 0: the image is in the bank
        np.testing.assert_allclose(bank.anomaly_scores(images[:3]), want, atol=1e-3)


@pytest.mark.slow
def test_only_a_network_that_jax_traces_can_be_exported(images, tmp_path):
    pytest.importorskip("flatbuffers")
    bank = detector(Traced()).detect(images, bank=BankConfig(kind="compact")).bank
    assert export_bank(bank, str(tmp_path / "parts.stablehlo")).exists()
    bank = dataclasses.replace(bank, backbone=as_loaded(Numpy()))
    with pytest.raises(ConfigError, match="is not a JAX pytree, so that its program cannot be exported"):
        export_bank(bank, str(tmp_path / "other.stablehlo"))


def test_features_are_cached_by_the_name_of_the_weights(images, tmp_path):
    data = DataConfig(unreadable="error", cache=str(tmp_path))
    config = Config(data=data)
    first, again, other = (
        CoDeGraph(config, backbone=network).compare(images).features
        for network in (Numpy(), Numpy(), broken(weights_name="filters 2"))
    )
    assert (first.from_store_count, again.from_store_count, other.from_store_count) == (0, 9, 0)
    np.testing.assert_array_equal(np.stack(again.layers), np.stack(first.layers))


def test_the_time_of_a_network_is_estimated_where_it_can_be_counted():
    products = 2 * 16 * PATCH * PATCH * 3 * (24 + 16)
    assert products <= as_loaded(Traced(), SIZE).flop(4, 4) < 1.2 * products
    own = detector(Numpy())
    frame = own.frame_of([])
    assert "without the network, whose time is unknown" in str(estimate(own.config, own.backbone, 10, frame, 1))


def broken(**changes):
    own = Numpy()
    for name, value in changes.items():
        setattr(own, name, value)
    return own


def returning(output):
    class Returning(Numpy):
        def __call__(self, images):
            return output(*super().__call__(images))

    return Returning()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (object(), "a object has no weights_name and no patch_size and no mean and no std and no __call__"),
        (broken(weights_name=""), "weights_name is ''; name network and weights in a text"),
        (broken(patch_size=0), "patch_size is 0; give pixels"),
        (broken(patch_size=8.0), r"patch_size is 8\.0; give pixels"),
        (broken(mean=(0.5,)), r"mean is \(0\.5,\); give three numbers"),
        (broken(std=(0.5, 0.5, 0)), "std is .* above 0"),
        (broken(resample="lanczos"), "resample is 'lanczos', not one of"),
        (returning(lambda layers, image: layers), r"returns a list of 2; return a tuple \(layers, image_features\)"),
        (returning(lambda layers, image: ([], image)), "returns a tuple of 2; return .* at least one"),
        (returning(lambda layers, image: ([layers[0][:, 1:]], image)), r"layer 0 has shape \[1, 15, 24\]; 1 images of"),
        (returning(lambda layers, image: ([layers[0][0]], image)), r"layer 0 has shape \[16, 24\]; .* \[1, 16, c\]"),
        (returning(lambda layers, image: (layers, image[0])), r"image features have shape \[24\]; return \[1, d\]"),
        (Traced(mean=np.full(3, 0.5)), "a static field of Traced cannot be hashed .*make it a tuple"),
    ],
)  # fmt: skip
def test_an_invalid_network_is_refused_with_the_reason(network, message):
    with pytest.raises((ConfigError, BackboneError), match=message):
        CoDeGraph(backbone=network)


def test_settings_of_presets_do_not_apply():
    for name, value in (("blocks", (1,)), ("weights", "x"), ("activation", "gelu")):
        with pytest.raises(ConfigError, match=rf"config\.backbone\.{name}: .* has its own; leave it out"):
            CoDeGraph(backbone=Numpy(), **{name: value})
    with pytest.raises(ConfigError, match="33 is not a multiple of the 8 px patches of filters 1; nearest: 32 or 40"):
        CoDeGraph(backbone=Numpy(), image_size=33)
    assert CoDeGraph(backbone=Numpy()).config.backbone.image_size == SIZE
    assert CoDeGraph(backbone=Traced()).config.backbone.image_size == 512, "the nearest multiple below 518"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current directory."""
    text = "from tests.support.user_backbones import Numpy, Traced\nmake, own, six = lambda: Traced(), Numpy(), 6\n"
    (tmp_path / "own_network.py").write_text(text)
    (tmp_path / "faulty_network.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["own_network:Numpy", "own_network:make", "own_network.py:own", "./own_network.py:make"]
)
def test_an_import_path_names_a_backbone_or_its_factory(module, name):
    found = CoDeGraph(backbone=name, image_size=SIZE)
    assert found.config.backbone.name == name
    assert found.backbone.weights_name == "filters 1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:net", "there is no module 'no_such_module', neither in .* nor installed"),
        ("own_network:Nunpy", "there is no 'Nunpy' in it; did you mean 'Numpy'"),
        ("absent.py:net", r"there is no file '.*absent\.py'"),
        ("own_network:six", "is a int, neither a backbone nor a function or class"),
    ],
)
def test_a_wrong_import_path_is_named(module, name, message):
    with pytest.raises(ConfigError, match=message):
        CoDeGraph(backbone=name)


def test_an_import_path_has_no_other_settings_and_its_own_errors(module):
    with pytest.raises(ConfigError, match=r"config\.backbone\.blocks: the given backbone has its own; leave it out"):
        CoDeGraph(backbone="own_network:own", blocks=(1,))
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        CoDeGraph(backbone="faulty_network:net")


def test_the_network_runs_on_the_chosen_device(images):
    device = jax.devices()[3]
    for network in (Traced(), Numpy()):
        own = detector(network).on(device, 2**30)
        (layer, _) = own.extractor.extract(as_samples(images), device_length=len(images)).layers
        assert layer.values.devices() == {device}
