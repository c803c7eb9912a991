"""What is done to training images: the data of it. Imports no framework."""

import dataclasses

from jax_impl.errors import InputError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to each image of a training batch; by default nothing, and then it is false.

    Args:
        crop: pixels of padding on each side, of which a crop of the image's size is taken;
            torchvision's `RandomCrop(size, padding=crop)`. 0 is none.
        reflect: the padding mirrors the image, in place of black.
        flip: half of the images are mirrored, left to right: `RandomHorizontalFlip()`.
        cutout: the side of a square that is set to 0 after normalising, with its centre anywhere in
            the image (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552). 0 is none.
        alternate: what `flip` does is not drawn anew in each epoch: each image is mirrored in every
            other one, a drawn half in the first (Jordan 2024, https://arxiv.org/abs/2404.00498).

    Raises:
        InputError: a size that is no whole number of 0 or more, or `alternate` without `flip`.
    """

    crop: int = 0
    reflect: bool = False
    flip: bool = False
    cutout: int = 0
    alternate: bool = False

    def __post_init__(self) -> None:
        for name in ("crop", "cutout"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise InputError(f"{name} is {value!r}: give a whole number of pixels, 0 or more")
        if self.alternate and not self.flip:
            raise InputError("alternate is of flips, and flip is false")

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """What is done, of crop, flip and cutout."""
        return tuple(name for name in ("crop", "flip", "cutout") if getattr(self, name))


NOTHING = Augmentation()
