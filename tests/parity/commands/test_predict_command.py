"""`parity predict`: what the model computes, of any image that Pillow reads."""

import json
import re
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from jax_impl.data.datasets import load_digits
from jax_impl.errors import InputError
from jax_impl.models.model import from_spec
from jax_impl.training.evaluate import make_logits
from parity.pairs.classifier import log_probabilities
from parity.pairs.weight_source import find, load
from parity.shell.images import read_image

SIZE = 32, 32


def predicted(output: str) -> list[dict[str, float]]:
    """By image the percentages that were printed, by class."""
    found = []
    for line in output.splitlines()[1:]:
        if match := re.fullmatch(r" +([\d.]+) %  (.*)", line):
            found[-1][match[2]] = float(match[1])
        else:
            found.append({})
    return found


def test_an_image_of_the_test_set_is_seen_as_it_was_evaluated(trained, tmp_path, parity_command):
    images = load_digits().test.images[:3]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    source = find(trained)
    model = from_spec(source.spec)
    rows = 100 * np.exp(log_probabilities(make_logits(model, 3)(load(source, model), images)))
    for framework in ("jax", "torch"):
        status, output, errors = parity_command(
            "predict", trained, *paths, "--framework", framework
        )
        assert status == 0, errors
        assert "classes: the digits\n" in output and f"{paths[0]}, 32x32:\n" in output
        found = predicted(output)
        assert [len(each) for each in found] == [5, 5, 5]
        for row, each in zip(rows, found, strict=True):
            assert list(each) == [str(label) for label in np.argsort(-row, kind="stable")[:5]]
            assert np.allclose(list(each.values()), -np.sort(-row)[:5], atol=0.011)


GREY = np.linspace(0, 255, 32 * 32).reshape(SIZE).round().astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY.T], -1)


def same(path, expected, off=0) -> bool:
    pixels, size = read_image(path, SIZE)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 and size == SIZE
    return np.abs(pixels.astype(int) - expected).max() <= off


def test_kinds_of_images(tmp_path):
    grey = np.repeat(GREY[..., None], 3, -1)
    kinds = {
        "rgb.png": (Image.fromarray(RGB), RGB),
        "grey.png": (Image.fromarray(GREY), grey),
        "palette.gif": (Image.fromarray(GREY).convert("P"), grey),
        "sixteen.png": (Image.fromarray(GREY.astype(np.uint16) * 257), grey),
        "dark sixteen.tiff": (Image.fromarray(np.full(SIZE, 200, np.uint16)), 0 * grey + 1),
        "whole.tiff": (Image.fromarray(GREY.astype(np.int32)), grey),
        "float.tiff": (Image.fromarray(GREY.astype(np.float32) / 255), grey),
        "cmyk.tiff": (Image.fromarray(RGB).convert("CMYK"), RGB),
        "opaque.png": (Image.fromarray(RGB).convert("RGBA"), RGB),
        "clear.png": (Image.new("RGBA", SIZE, (9, 9, 9, 0)), 0 * RGB + 255),
        "half.png": (Image.new("LA", SIZE, (0, 128)), 0 * RGB + 127),
        "bits.png": (Image.fromarray(GREY > 99), 255 * (grey > 99)),
    }
    for name, (image, expected) in kinds.items():
        image.save(tmp_path / name)
        assert same(tmp_path / name, expected), name
    marked = Image.fromarray(GREY).convert("P")
    marked.save(tmp_path / "marked.png", transparency=0)
    first = np.where(grey == 0, 255, grey)
    assert same(tmp_path / "marked.png", first)
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert same(tmp_path / "a.jpg", RGB, off=4)


@pytest.mark.parametrize("orientation, turned", [(3, 2), (6, 3), (8, 1)])
def test_a_photo_is_upright(orientation, turned, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert same(tmp_path / "a.png", np.rot90(RGB, turned))


def test_a_large_image_is_averaged_and_a_small_one_grows(tmp_path):
    """Without antialiasing a fine chequerboard would be black, white, or stripes."""
    fine = ((np.indices((512, 320)).sum(0) % 2) * 255).astype(np.uint8)
    Image.fromarray(fine).save(tmp_path / "a.png")
    pixels, size = read_image(tmp_path / "a.png", (20, 28))
    assert size == (512, 320) and pixels.shape == (20, 28, 3)
    assert np.abs(pixels.astype(int) - 127.5).max() < 3
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "b.png")
    assert (read_image(tmp_path / "b.png", SIZE)[0] == (10, 20, 30)).all()


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "cut off", "huge", "empty"])
def test_a_bad_image_is_told_before_anything_is_printed(
    kind, trained, tmp_path, parity_command, monkeypatch
):
    good, path = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(RGB).save(good)
    content = good.read_bytes()
    match kind:
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("no image")
        case "cut off":
            path.write_bytes(content[: len(content) // 2])
        case "huge":
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
            Image.new("L", (40, 40)).save(path)
            Image.new("L", (4, 4)).save(good)
        case "empty":
            path.touch()
    status, output, errors = parity_command("predict", trained, good, path)
    assert (status, output) == (2, "") and errors.count("\n") == 1
    assert errors.startswith("error: ") and f"image {path}" in errors
    assert errors.endswith(": name a file that Pillow reads\n")


def test_an_odd_image_that_can_be_read_warns_of_nothing(tmp_path):
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00"  # which is cut off
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(tmp_path / "a.jpg", RGB, off=4)


def test_no_image_and_classes_that_do_not_fit(trained, tmp_path, parity_command):
    assert parity_command("predict", trained)[2].startswith("error: no image is named")
    Image.fromarray(RGB).save(tmp_path / "a.png")
    model = json.loads((trained / "config.json").read_text())["model"]
    state = safetensors.torch.load_file(trained / "weights.safetensors")
    head = {"fc2.weight": torch.zeros(100, 16), "fc2.bias": torch.arange(100.0)}
    torch.save(state | head, tmp_path / "w.pth")
    wide = "predict", tmp_path / "w.pth", tmp_path / "a.png", "--model", f"{model}:num_classes=100"
    status, output, errors = parity_command(*wide)
    assert status == 0, errors
    assert "classes: 100 without names" in output and next(iter(*predicted(output))) == "class 99"
    status, output, errors = parity_command(*wide, "--classes", "digits")
    assert (status, output) == (2, "") and "has 10 names" in errors
    bare = "predict", trained / "weights.safetensors", tmp_path / "a.png"
    assert "CIFAR-10's, for the weights do not say" in parity_command(*bare)[1]
    assert "classes: the digits\n" in parity_command(*bare, "--classes", "digits")[1]


def test_logits_that_are_no_numbers_are_refused(trained, tmp_path, parity_command):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    state = safetensors.torch.load_file(trained / "weights.safetensors")
    large = {k: v * 1e30 for k, v in state.items()}
    torch.save(large, tmp_path / "w.pth")
    model = find(trained).spec
    status, output, errors = parity_command(
        "predict", tmp_path / "w.pth", tmp_path / "a.png", "--model", model
    )
    assert (status, output) == (2, "") and "gives no numbers for" in errors


def test_a_message_names_an_image_once(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.png", SIZE)
    assert str(error.value).count("a.png") == 1
