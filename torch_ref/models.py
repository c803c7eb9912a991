"""The notebook's models: its small CNN, and torchvision's ResNets without pretrained weights."""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from torch_ref.errors import InputError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MODELS = ("simple_cnn", *RESNETS)


class SimpleCNN(nn.Module):
    """Two 3x3 convolutions 3->32->64, ReLU and 2x2 max-pool after each, fc 4096->512->classes."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(64 * 8 * 8, 512)
        self.fc2 = nn.Linear(512, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [n, 3, 32, 32] -> logits [n, num_classes]."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def create_model(name: str, num_classes: int = 10) -> nn.Module:
    """The model `name`, one of `MODELS`, with PyTorch's own initial weights."""
    if name not in MODELS:
        raise InputError(f"no model named {name!r}: choose one of {', '.join(MODELS)}")
    if name == "simple_cnn":
        return SimpleCNN(num_classes)
    return getattr(torchvision.models, name)(weights=None, num_classes=num_classes)
