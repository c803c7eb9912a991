"""The PyTorch twins: the notebook's small CNN, torchvision's ResNets, and nets it does not have."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from torch_ref.errors import InputError

TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip


class SimpleCNN(nn.Module):
    """The notebook's small CNN, and the same of any depth, filter size and pooling.

    The notebook's: 3x3 convolutions 3->32->64, ReLU and 2x2 max-pool after each, fc
    4096->512->classes.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: tuple[int, ...] = (32, 64),
        kernel_size: int = 3,
        pool_size: int = 2,
        hidden: int = 512,
        image_size: tuple[int, int] | int = 32,
        pool_after: tuple[int, ...] | None = None,
        global_average: bool = False,
    ):
        super().__init__()
        h, w = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.depth, self.global_average, inputs = len(channels), global_average, 3
        # The convolutions, from 1, that a max-pool follows.
        self.pool_after = range(1, self.depth + 1) if pool_after is None else pool_after
        for number, outputs in enumerate(channels, 1):
            conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
            setattr(self, f"conv{number}", conv)
            even = 1 - kernel_size % 2  # an even kernel's padding adds a pixel
            step = pool_size if number in self.pool_after else 1
            h, w, inputs = (h + even) // step, (w + even) // step, outputs
        self.pool = nn.MaxPool2d(pool_size, pool_size)
        self.fc1 = nn.Linear(inputs if global_average else inputs * h * w, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images, float [n, 3, h, w] -> logits [n, num_classes]."""
        for number in range(1, self.depth + 1):
            x = F.relu(getattr(self, f"conv{number}")(x))
            if number in self.pool_after:
                x = self.pool(x)
        x = x.mean((2, 3)) if self.global_average else torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


class PlainBlock(BasicBlock):
    """torchvision's basic block without its shortcut."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.downsample = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inplanes, h, w] -> [n, planes, ceil(h / stride), ceil(w / stride)]."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


class NarrowResNet(torchvision.models.ResNet):
    """torchvision's ResNet with `width` channels in its stem and first stage, in place of 64."""

    def __init__(
        self,
        like: torchvision.models.ResNet,
        width: int,
        zero_init_residual: bool,
        dilate: list[bool],
    ):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation = nn.BatchNorm2d, width, 1
        self.groups, self.base_width = like.groups, like.base_width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = [like.layer1, like.layer2, like.layer3, like.layer4]
        block: Any = type(like.layer1[0])
        made = [
            self._make_layer(block, width * 2**i, len(stage), min(i, 1) + 1, ([False] + dilate)[i])
            for i, stage in enumerate(stages)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = made
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width * block.expansion, like.fc.out_features)
        _draw_kaiming_normal(self)
        last = "bn3" if block is Bottleneck else "bn2"
        for name, parameter in self.named_parameters():
            if zero_init_residual and name.endswith(f"{last}.weight"):
                nn.init.zeros_(parameter)


class OptionABlock(nn.Module):
    """He et al.'s block with a shortcut that has no parameters, or with none.

    Where the shape changes the shortcut is every second pixel, and zeros for the new channels, half
    of them before the old ones and half after.
    """

    def __init__(self, inplanes: int, planes: int, stride: int, shortcut: bool = True):
        super().__init__()
        self.stride, self.border, self.shortcut = stride, (planes - inplanes) // 2, shortcut
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inplanes, h, w] -> [n, planes, ceil(h / stride), ceil(w / stride)]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if not self.shortcut:
            return F.relu(y)
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, self.border, self.border)))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2: 6n + 2 layers for 32x32 images, n = `blocks` a stage.

    Without `shortcut` it is the plain net that they set against it.
    """

    def __init__(self, blocks: int, num_classes: int = 10, shortcut: bool = True):
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(blocks, 16, 16, 1)
        self.layer2 = self._stage(blocks, 16, 32, 2)
        self.layer3 = self._stage(blocks, 32, 64, 2)
        self.fc = nn.Linear(64, num_classes)
        _draw_kaiming_normal(self)

    def _stage(self, blocks: int, inplanes: int, planes: int, stride: int) -> nn.Sequential:
        sizes = [(inplanes, planes, stride), *[(planes, planes, 1)] * (blocks - 1)]
        return nn.Sequential(*(OptionABlock(*size, self.shortcut) for size in sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [n, 3, h, w] -> logits [n, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class PreActBlock(nn.Module):
    """He et al. 2016: F(relu(bn(x))) + x, F two 3x3 convolutions or a bottleneck of three.

    `first` in the net, it reads what is activated already.
    """

    def __init__(self, inplanes: int, planes: int, stride: int, first: bool, bottleneck: bool):
        super().__init__()
        out = 4 * planes if bottleneck else planes
        size, first_stride = (1, 1) if bottleneck else (3, stride)
        self.bn1 = None if first else nn.BatchNorm2d(inplanes)
        self.conv1 = nn.Conv2d(inplanes, planes, size, first_stride, size // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride if bottleneck else 1, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes) if bottleneck else None
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False) if bottleneck else None
        self.downsample = None
        if stride != 1 or inplanes != out:
            self.downsample = nn.Conv2d(inplanes, out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inplanes, h, w] -> [n, out, ceil(h / stride), ceil(w / stride)]."""
        active = x if self.bn1 is None else F.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)
        x = self.conv2(F.relu(self.bn2(x)))
        if self.bn3 is not None and self.conv3 is not None:
            x = self.conv3(F.relu(self.bn3(x)))
        return x + shortcut


class PreActResNet(nn.Module):
    """He et al. 2016 with torchvision's stem, or the small one for "cifar"."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        bottleneck: bool,
        num_classes: int = 10,
        stem: str = "imagenet",
    ):
        super().__init__()
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1)
        else:
            self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(64)
        inplanes, stages = 64, []
        for stage, count in enumerate(blocks):
            planes, stride, modules = 64 * 2**stage, 1 if stage == 0 else 2, []
            for index in range(count):
                first = stage == 0 and index == 0
                modules.append(PreActBlock(inplanes, planes, stride, first, bottleneck))
                inplanes, stride = 4 * planes if bottleneck else planes, 1
            stages.append(nn.Sequential(*modules))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(inplanes)
        self.fc = nn.Linear(inplanes, num_classes)
        _draw_kaiming_normal(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [n, 3, h, w] -> logits [n, num_classes]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.relu(self.bn2(x)).mean((2, 3)))


def create_model(name: str, num_classes: int = 10, **options: Any) -> nn.Module:
    """The model `name`, one of `MODELS`, with PyTorch's own initial weights.

    Args:
        name: one of `MODELS`.
        num_classes: the number of logits.
        **options: `stem="cifar"` (a 3x3 stem without max-pool) for all but the nets that have no
            other; torchvision's own for torchvision's; those of `SimpleCNN` for "simple_cnn".
    """
    if name not in MODELS:
        raise InputError(f"no model named {name!r}: choose one of {', '.join(MODELS)}")
    return _MAKERS[name](num_classes=num_classes, **options)


def _torchvision(
    make: Callable[..., nn.Module], stem: str = "imagenet", width: int = 64, **options: Any
):
    dilate = list(options.pop("replace_stride_with_dilation", ()) or [False] * 3)
    if any(dilate):
        options["replace_stride_with_dilation"] = dilate
    if width == 64:
        model: Any = make(**options)
    else:
        with torch.random.fork_rng(devices=[]):  # its draws are not the narrow net's
            like: Any = make(**options)
        model = NarrowResNet(like, width, options.get("zero_init_residual", False), dilate)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        _draw_kaiming_normal(model.conv1)
        model.maxpool = nn.Identity()
    return model


def _draw_kaiming_normal(net: nn.Module) -> None:
    """Gives every convolution of `net` torchvision's initial weights."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _maker(name: str) -> Callable[..., nn.Module]:
    return partial(_torchvision, partial(getattr(torchvision.models, name), weights=None))


def _plain(blocks: list[int]) -> Callable[..., nn.Module]:
    return partial(_torchvision, partial(torchvision.models.ResNet, PlainBlock, blocks))


CIFAR_BLOCKS = 3, 5, 7, 9, 18
_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "simple_cnn": SimpleCNN,
    **{name: _maker(name) for name in TORCHVISION},
    **{f"resnet{6 * n + 2}": partial(CifarResNet, n) for n in CIFAR_BLOCKS},
    **{f"plain{6 * n + 2}": partial(CifarResNet, n, shortcut=False) for n in CIFAR_BLOCKS},
    "preact_resnet18": partial(PreActResNet, (2, 2, 2, 2), False),
    "preact_resnet34": partial(PreActResNet, (3, 4, 6, 3), False),
    "preact_resnet50": partial(PreActResNet, (3, 4, 6, 3), True),
    "plain18": _plain([2, 2, 2, 2]),
    "plain34": _plain([3, 4, 6, 3]),
}
MODELS = tuple(_MAKERS)
