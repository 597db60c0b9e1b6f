"""Images in folders, as cameras, tools and operating systems leave them there."""

import numpy as np
import pytest
import torch
from PIL import Image

from simulator.data.image_folder import ImageFolder

GREY = np.full((4, 4, 3), 100, dtype=np.uint8)


def load(path, channels=1):
    return ImageFolder(path=str(path), image_size=None, channels=channels, mean=[], std=[]).load()


def save_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_reads_train_and_test_in_sorted_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    save_image(tmp_path / "train" / "zebra" / "1.png", pixels[1])
    save_image(tmp_path / "train" / "ant" / "2.png", pixels[0])
    save_image(tmp_path / "test" / "zebra" / "3.PNG", pixels[2])
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    dataset = ImageFolder(path=str(tmp_path), image_size=None, channels=3, mean=[0.5] * 3, std=[0.25] * 3)
    dataset.prepare()
    samples = dataset.load()
    np.testing.assert_array_equal(samples.inputs.numpy(), pixels.transpose(0, 3, 1, 2))
    assert samples.labels.tolist() == [0, 1, 1]
    assert (samples.num_train, samples.num_classes, samples.std) == (2, 2, (0.25, 0.25, 0.25))


def test_without_train_folder_resizes_and_has_no_test_set(tmp_path):
    for name, size in (("a", 4), ("b", 8)):
        save_image(tmp_path / name / "x.png", np.full((size, size, 3), 100, dtype=np.uint8))
    keep = ImageFolder(path=str(tmp_path), image_size=None, channels=3, mean=[], std=[])
    with pytest.raises(ValueError, match=r"8x8 pixels .* 4x4; set dataset.image_size"):
        keep.load()
    samples = ImageFolder(path=str(tmp_path), image_size=5, channels=1, mean=[], std=[]).load()
    assert samples.num_train == 2
    torch.testing.assert_close(samples.inputs, torch.full((2, 1, 5, 5), 100, dtype=torch.uint8))


def test_errors_say_what_is_missing(tmp_path):
    dataset = ImageFolder(path=str(tmp_path / "none"), image_size=None, channels=3, mean=[], std=[])
    with pytest.raises(ValueError, match=r"no class folders in .*none; expected .*set dataset.path"):
        dataset.prepare()
    (tmp_path / "none" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="has one class folder only, cat; set dataset"):
        dataset.prepare()
    save_image(tmp_path / "none" / "dog" / "x.png", GREY)
    with pytest.raises(ValueError, match=r"no image in the class folders \['cat'\]"):
        dataset.prepare()
    (tmp_path / "none" / "cat" / "x.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"x.png cannot be read as an image"):
        dataset.load()
    with pytest.raises(ValueError, match="channels=2"):
        ImageFolder(path=".", image_size=None, channels=2, mean=[], std=[])
    with pytest.raises(ValueError, match="each needs 3 numbers"):
        ImageFolder(path=".", image_size=None, channels=3, mean=[0.5], std=[0.5])


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, channels):
    values = np.array([[0, 257], [25_700, 65_535]], dtype=np.uint16)
    for file in ("a/x.png", "b/x.tif"):
        save_image(tmp_path / file, values)
    expected = torch.tensor([[0, 1], [100, 255]], dtype=torch.uint8).expand(2, channels, 2, 2)
    torch.testing.assert_close(load(tmp_path, channels).inputs, expected)


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_values_without_a_known_range_are_refused(tmp_path, dtype, mode):
    save_image(tmp_path / "a" / "x.tif", np.full((4, 4), 7, dtype=dtype))
    save_image(tmp_path / "b" / "x.png", GREY)
    with pytest.raises(ValueError, match=rf"a/x\.tif has pixels that are .* \(mode {mode}\), whose range is not known"):
        load(tmp_path)


def test_every_damaged_image_is_named(tmp_path, monkeypatch):
    for name in "abcde":
        save_image(tmp_path / name / "x.png", GREY)
    whole = (tmp_path / "a" / "x.png").read_bytes()
    (tmp_path / "b" / "x.png").write_bytes(whole[:37] + b"\x01\x02\x03\x04" + whole[41:])  # a SyntaxError of Pillow
    (tmp_path / "c" / "y.pgm").write_bytes(b"P5\n4 four\n255\n" + bytes(16))  # a ValueError
    (tmp_path / "d" / "x.png").write_bytes(b"")
    (tmp_path / "e" / "x.png").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"/b/x\.png .*/c/y\.pgm .*/d/x\.png .*; and 1 more$") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    for name in "bcde":
        for file in (tmp_path / name).iterdir():
            file.unlink()
        save_image(tmp_path / name / "x.png", GREY)
    save_image(tmp_path / "b" / "x.png", np.zeros((9, 9), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match=r"b/x\.png cannot be read as an image \(Image size \(81 pixels\)"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_is_the_test_set_or_for_training(tmp_path, name):
    for folder in ("train/a", "train/b", f"{name}/b"):
        save_image(tmp_path / folder / "x.png", GREY)
    samples = load(tmp_path)
    assert (samples.num_train, samples.labels.tolist()) == (2, [0, 1, 1])
    save_image(tmp_path / "test" / "a" / "x.png", GREY)
    samples = load(tmp_path)
    assert (samples.num_train, samples.labels.tolist()) == (3, [0, 1, 1, 0])
    save_image(tmp_path / name / "c" / "x.png", GREY)
    with pytest.raises(ValueError, match=rf"classes \['c'\] of .*/{name} are not in .*/train"):
        load(tmp_path)


def test_what_systems_write_beside_the_images_is_left_out(tmp_path):
    for name in ("a", "b"):
        save_image(tmp_path / name / "deep" / "x.png", GREY)
        for hidden in (".thumbnails/x.png", "__MACOSX/x.png", "._x.png", "deep/.cache/x.png"):
            (tmp_path / name / hidden).parent.mkdir(exist_ok=True)
            (tmp_path / name / hidden).write_bytes(b"no image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    samples = load(tmp_path)
    assert (samples.num_classes, len(samples.labels)) == (2, 2)


def test_a_path_that_is_a_level_off_is_put_right(tmp_path):
    for name in ("train/a", "train/b", "test/a"):
        save_image(tmp_path / "images" / name / "x.png", GREY)
    for wrong in (tmp_path, tmp_path / "images" / "train" / "a", tmp_path / "images" / "test"):
        with pytest.raises(ValueError, match=rf"set dataset\.path={tmp_path}/images$"):
            load(wrong)
