"""A trained model as a function of images, in either framework.

Imports PyTorch where it is asked for alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from jax_impl.models.model import Model, Variables
from jax_impl.models.registry import Spec
from jax_impl.training.evaluate import make_logits
from jax_impl.training.precision import set_precision
from parity.pairs.weights import to_torch
from parity.shell.recipes import IMAGE_SIZE

Framework = Literal["jax", "torch"]
Logits = Callable[..., np.ndarray]
CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
"""Its classes by label, as the archive names them."""
DIGITS = tuple("0123456789")


def classifier(
    framework: Framework,
    spec: Spec,
    model: Model,
    variables: Variables,
    batch_size: int = 100,
    mirror: bool = False,
) -> Logits:
    """`(images, on_images) -> logits`, in float32 in full on the framework's own device.

    Args:
        framework: that computes.
        spec: of `model`.
        model: in Flax; PyTorch's is its twin.
        variables: of `model`, in float32.
        batch_size: images in a batch.
        mirror: the mean of the logits of each image and of its mirror image.

    Returns:
        a function of uint8 images [n, h, w, 3] that gives logits, float32 [n, num_classes]. It
        tells `on_images`, which may be left out, how many images are done.
    """
    if framework == "jax":
        set_precision("float32", jax.default_backend())
        compute = make_logits(model, batch_size, mirror)
        return lambda images, *told: compute(variables, images, *told)
    import torch

    import torch_ref.evaluate
    import torch_ref.models
    import torch_ref.precision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    twin = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options))
    twin.load_state_dict(to_torch(variables, model), strict=True)
    twin = torch_ref.precision.set_precision(twin.to(device), "float32", device)

    def computed(
        images: np.ndarray, on_images: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        return torch_ref.evaluate.logits(
            twin, images, batch_size, device, mirror=mirror, on_images=on_images
        )

    return computed


def image_size(spec: Spec) -> tuple[int, int]:
    """Height and width of the images that a model reads: its own, or those of the data here."""
    return getattr(spec.options, "image_size", IMAGE_SIZE)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row in float64: [n, classes] -> [n, classes]."""
    return np.exp(log_probabilities(logits))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax of each row in float64: [n, classes] -> [n, classes]; NaN where a logit is."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wide = wide - wide.max(-1, keepdims=True)
        return wide - np.log(np.exp(wide).sum(-1, keepdims=True))
