import numpy as np
import pytest
from scipy import ndimage

from codegraph_jax.core.file_ownership import ForeignFileError, written_files
from codegraph_jax.data import synthetic
from codegraph_jax.data.drawing.defects import DEFECTS, Defect, hole_place, place_on
from codegraph_jax.data.images import load_image
from codegraph_jax.data.layouts import read_layout
from codegraph_jax.data.masks import load_mask
from codegraph_jax.data.synthetic import DrawnSetError, draw_set, replace_set, write_set


@pytest.fixture(scope="module")
def drawn():
    return draw_set(20, 192, seed=3, one_off=0.3, recurring=(0.2, 0.15))


def test_the_set_has_the_requested_images(drawn):
    assert drawn.images.shape == (20, 192, 192, 3) and drawn.images.dtype == np.uint8
    assert [(drawn.groups == g).sum() for g in (0, 1)] == [4, 3]
    assert drawn.labels.sum() == 13
    np.testing.assert_array_equal(drawn.masks.any(axis=(1, 2)), drawn.labels == 1)
    kinds = [name.split("/")[0] for name in drawn.names]
    assert kinds.count("good") == 7 and kinds.count("one_off") == 6 and len(set(drawn.names)) == 20
    assert all((kind == "recurring_1") == (group == 1) for kind, group in zip(kinds, drawn.groups, strict=True))


def test_the_same_seed_draws_the_same_set_and_another_seed_another(drawn):
    again = draw_set(20, 192, seed=3, one_off=0.3, recurring=(0.2, 0.15))
    np.testing.assert_array_equal(again.images, drawn.images)
    np.testing.assert_array_equal(again.masks, drawn.masks)
    assert again.names == drawn.names
    assert (draw_set(20, 192, seed=4, one_off=0.3, recurring=(0.2, 0.15)).images != drawn.images).any()


def test_sound_parts_differ_from_each_other(drawn):
    sound = drawn.images[drawn.labels == 0].astype(float)
    differences = [np.abs(a - b).mean() for i, a in enumerate(sound) for b in sound[:i]]
    assert min(differences) > 4


def test_defects_are_small_and_visible():
    sizes = draw_set(30, 448, seed=1, one_off=0.4, recurring=(0.1, 0.1, 0.1)).masks.mean(axis=(1, 2))
    assert sizes[sizes > 0].min() > 0.001 and sizes.max() < 0.03


@pytest.mark.parametrize("kind", sorted(DEFECTS))
@pytest.mark.parametrize("seed", [0, 1])
def test_masks_cover_exactly_the_pixels_that_the_defect_changes(kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "missing_hole":
        defect = Defect(kind, *hole_place(2), 0.0, hole=2)
    else:
        defect = Defect(kind, *place_on(kind, rng), shape=seed)
    sound, _ = synthetic._draw(None, 448, np.random.default_rng(seed))
    flawed, mask = synthetic._draw(defect, 448, np.random.default_rng(seed))
    change = np.abs(flawed.astype(float) - sound).max(axis=-1)
    near = ndimage.binary_dilation(mask, iterations=6)
    # a fibre's shadow and the camera's blur extend a little beyond the mask
    assert change[~near].max() <= 3
    assert change[mask].mean() > 8 * max(change[~near].mean(), 0.1)
    inner = ndimage.gaussian_filter(change, 2)[mask]
    assert (inner > 2).mean() > 0.6


def test_a_recurring_defect_lies_at_the_same_place_of_the_part_and_one_offs_do_not(drawn):
    def centres(chosen):
        return np.array([ndimage.center_of_mass(mask) for mask in drawn.masks[chosen]]) / 192

    for group in (0, 1):
        assert np.ptp(centres(drawn.groups == group), axis=0).max() < 0.12
    one_offs = centres((drawn.labels == 1) & (drawn.groups == -1))
    assert np.ptp(one_offs, axis=0).max() > 0.2


def test_parts_without_a_hole_lack_different_holes():
    plan = synthetic._plan(np.full(60, -1), 0, 0)
    holes = [defect.hole for defect in plan if defect.kind == "missing_hole"]
    assert sorted(holes) == list(range(6))


@pytest.mark.parametrize(
    "arguments", [(0, 64, 0, 0.1, ()), (9, 8, 0, 0.1, ()), (9, 64, 0, -0.1, ()), (9, 64, 0, 0.7, (0.5,))]
)
def test_impossible_sets_are_refused(arguments):
    with pytest.raises(DrawnSetError, match="drawn set needs|shares"):
        draw_set(*arguments)


def test_a_set_of_sound_parts_only():
    assert draw_set(2, 64, seed=0, one_off=0.0, recurring=()).labels.sum() == 0


def test_a_written_set_reads_back_as_the_mvtec_layout(drawn, tmp_path):
    write_set(drawn, tmp_path / "parts")
    samples = {sample.name: sample for sample in read_layout("mvtec", str(tmp_path / "parts"))["parts"]}
    assert set(samples) == set(drawn.names)
    for i, name in enumerate(drawn.names):
        assert samples[name].label == drawn.labels[i]
        np.testing.assert_array_equal(np.asarray(load_image(samples[name].path)), drawn.images[i])
        if drawn.labels[i]:
            np.testing.assert_array_equal(load_mask(samples[name].mask, 192), drawn.masks[i])


def files_below(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*.png")}


def test_a_set_replaces_an_earlier_one_and_no_foreign_files(drawn, tmp_path):
    replace_set(drawn, tmp_path, "images/parts")
    assert files_below(tmp_path) == written_files(tmp_path) == {f"images/parts/{file}" for file in drawn.files}
    replace_set(drawn, tmp_path, "images/others")
    replace_set(draw_set(3, 64, seed=0, one_off=0.0, recurring=()), tmp_path, "images/parts")
    assert len(files_below(tmp_path / "images/parts")) == 3
    assert files_below(tmp_path / "images/others") == {*drawn.files}
    assert files_below(tmp_path) == written_files(tmp_path)
    photo = tmp_path / "photos" / "test" / drawn.names[0]
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a person's photo")
    with pytest.raises(ForeignFileError, match=f"{drawn.names[0]}: would be replaced, but this program did not"):
        replace_set(drawn, tmp_path, "photos")
    assert photo.read_bytes() == b"a person's photo" and len(files_below(tmp_path / "photos")) == 1


def test_a_set_that_was_not_written_completely_is_replaced(drawn, tmp_path, monkeypatch):
    saved = []
    save = synthetic.Image.Image.save

    def full_disk(image, file, **options):
        saved.append(file)
        if len(saved) > 3:
            raise OSError(28, "No space left on device")
        save(image, file, **options)

    with monkeypatch.context() as patched:
        patched.setattr(synthetic.Image.Image, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            replace_set(drawn, tmp_path, "parts")
    replace_set(drawn, tmp_path, "parts")
    assert files_below(tmp_path / "parts") == {*drawn.files}
    for name, image in zip(drawn.names, drawn.images, strict=True):
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "parts" / "test" / name)), image)
