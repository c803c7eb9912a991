"""Logits of images, as the notebook's `test` computes them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from torch_ref.data import TRANSFORM


def logits(
    model: nn.Module,
    images: np.ndarray,
    batch_size: int = 100,
    device: str | torch.device = "cpu",
    *,
    mirror: bool = False,
    on_images: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Logits of `model`, in eval mode: float [n, num_classes] of the model's dtype.

    Args:
        model: on the device.
        images: uint8 [n, h, w, 3], normalised here by torchvision's transforms.
        batch_size: images in a batch.
        device: PyTorch's name of it.
        mirror: the mean of the logits of each image and of its mirror image, left to right.
        on_images: is told how many images are done.
    """
    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            batch = torch.stack([TRANSFORM(image) for image in some]).to(device)
            outputs = model(batch)
            if mirror:
                outputs = (outputs + model(batch.flip(-1))) / 2
            found.append(outputs.cpu().numpy())
            on_images(start + len(some))
    return np.concatenate(found)
