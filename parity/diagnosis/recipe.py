"""Which part of a recipe one side leaves out, or does otherwise: each is tried on PyTorch's."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torchvision import transforms

from jax_impl.data.archive import Split
from jax_impl.data.augmentation import Augmentation
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs.recipe import (
    RECIPE,
    Change,
    compare_inputs,
    compare_training,
    first_images,
    in_jax,
    in_torch,
)
from parity.pairs.pair import ModelPair
from parity.shell.recipes import IMAGE_SIZE
from torch_ref.augment import Cutout
from torch_ref.data import TRANSFORM


def changes() -> Iterator[tuple[str, str, Change]]:
    """The part of the training, what JAX's side does, and how PyTorch's is made to do it too."""
    yield from _of_the_images()

    def of(**fields: Any) -> Change:
        return Change(dataclasses.replace(RECIPE, **fields))

    step = "the training step"
    yield "the loss", "labels are not smoothed", of(label_smoothing=0.0)
    for part, cause, change in (
        ("decay_norms", "weight decay is of biases and normalisations too", True),
        ("weight_decay", "weights do not decay", None),
        ("momentum", "there is no momentum", 0.0),
        ("nesterov", "momentum is not Nesterov's", False),
        ("clip_norm", "gradients are not clipped", None),
    ):
        fields = {part: change} | ({"nesterov": False} if part == "momentum" else {})
        fields |= {"decay_norms": True} if part == "weight_decay" else {}
        yield "the optimizer", cause, of(**fields)
    yield "the schedule", "the rate is a step ahead", Change(scheduler_first=True)
    yield "the schedule", "there is no warm-up", of(warmup=0.0)
    yield "the schedule", "the rate does not fall", of(schedule="constant", milestones=())
    yield step, "accumulated gradients are summed, not averaged", Change(divide=False)
    yield step, "every batch makes a step: none are accumulated", of(accumulate=1)
    yield step, "the optimizer's state is lost when training goes on", Change(forget=True)
    average = "the moving average"
    yield average, "the last weights are kept, and not their average", Change(average="none")
    yield average, "it is of the weights before the step", Change(average="before")
    yield "the evaluation", "the mirror image is left out", Change(mirror=False)


def _of_the_images() -> Iterator[tuple[str, str, Change]]:
    augment = RECIPE.augment
    crop, flip = transforms.RandomCrop(IMAGE_SIZE, augment.crop), transforms.RandomHorizontalFlip()
    cut, prepare = Cutout(augment.cutout), TRANSFORM
    to_tensor, normalise = TRANSFORM.transforms
    part = "the augmentation"
    for name in ("crop", "flip", "cutout"):
        less = dataclasses.replace(
            augment, **{name: Augmentation.__dataclass_fields__[name].default}
        )
        yield part, f"there is no {name}", Change(dataclasses.replace(RECIPE, augment=less))
    less = dataclasses.replace(augment, reflect=True)
    yield part, "the padding is mirrored", Change(dataclasses.replace(RECIPE, augment=less))

    for cause, chain in (
        ("there is no flip", [crop, _drawn_in_vain, prepare, cut]),
        ("the padding is made after normalising", [prepare, crop, flip, cut]),
        ("the cutout is made before normalising", [crop, flip, to_tensor, cut, normalise]),
    ):
        yield part, cause, Change(transform=transforms.Compose(chain))


def _drawn_in_vain(image: Any) -> Any:
    torch.rand(1)  # what RandomHorizontalFlip draws
    return image


def find(pair: ModelPair, split: Split, seed: int, device: str) -> Diagnosis:
    """The first change that makes PyTorch's training JAX's."""
    split = first_images(split)
    ours = in_jax(pair, split, seed)
    tried = []
    for part, cause, change in changes():
        theirs = in_torch(pair, split, seed, device, change)
        if compare_inputs(ours, theirs).passed and compare_training(ours, theirs).passed:
            return _said(part, cause, f"{part} departs. Cause: {cause} in JAX.")
        tried.append(cause)
    text = f"none of {len(tried)} usual departures of a recipe makes the two agree"
    return _said(None, None, text)


def _said(part: str | None, cause: str | None, text: str) -> Diagnosis:
    faults = (Fault(part, cause, None, (part,)),) if part else ()
    return Diagnosis(part, None, None, None, cause, text, faults)
