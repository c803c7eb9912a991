"""Any image file as the pixels that a model reads. Imports no framework."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jax_impl.errors import InputError, one_line

WHITE = (255, 255, 255, 255)
"""What is seen through transparent pixels."""


def read_image(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """The first picture of a file, upright, resized with antialiasing to fill `size`.

    Args:
        path: a file that Pillow reads. Grey, palette, 16-bit and other kinds become RGB of 8 bits;
            what is transparent is laid on white; a camera's note of its orientation is followed.
        size: height and width in pixels. An image of this size is taken as it is.

    Returns:
        uint8 [height, width, 3], and the file's own height and width.

    Raises:
        InputError: there is no such file, or Pillow cannot read it.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            what = "is no file" if path.exists() else "does not exist"
            raise InputError(f"image {path} {what}: name a file that Pillow reads")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that is odd and can be read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                upright = ImageOps.exif_transpose(file)
                found = _rgb(upright)
    except InputError:
        raise
    # Pillow meets damaged files with errors of many types.
    except Exception as error:
        reason = one_line(error, 160).replace(f" {str(path)!r}", " it")
        raise InputError(
            f"cannot read image {path} ({reason}): name a file that Pillow reads"
        ) from error
    width, height = found.size
    if (height, width) != size:
        found = found.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(found), (height, width)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits: uint8 [h, w].

    Of 16 bits the upper eight, rounded; floats of [0, 1] times 255. Others of 32 bits do not say
    what is white, and it is what the kind that holds their largest value has for it.
    """
    pixels = np.nan_to_num(np.asarray(image).astype(np.float64))
    most = pixels.max(initial=0.0)
    if image.mode == "F" and most <= 1:
        white = 1.0
    elif image.mode.startswith("I;16") or most > 255 or image.format == "PNG":
        white = 65535.0
    else:
        white = 255.0
    return np.rint(np.clip(pixels / white, 0, 1) * 255).astype(np.uint8)
