"""torchvision's ResNet in train mode in NumPy's long double, 64 bits of mantissa on x86: what both
frameworks round in float64."""

from typing import Any

import numpy as np

Wide = np.longdouble
AVAILABLE = bool(np.finfo(Wide).eps < 1e-18)


def logits(net: Any, images: np.ndarray) -> np.ndarray:
    """Train-mode logits [n, classes] of a `torchvision.models.ResNet` of bottlenecks.

    Args:
        images: [n, 3, h, w].
    """
    x = _max_pool(_relu(_norm(_conv(images.astype(Wide), net.conv1), net.bn1)))
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in stage:
            down = block.downsample
            shortcut = x if down is None else _norm(_conv(x, down[0]), down[1])
            x = _relu(_norm(_conv(x, block.conv1), block.bn1))
            x = _relu(_norm(_conv(x, block.conv2), block.bn2))
            x = _relu(_norm(_conv(x, block.conv3), block.bn3) + shortcut)
    return x.mean((2, 3)) @ _wide(net.fc.weight).T + _wide(net.fc.bias)


def _wide(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().astype(Wide)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, Wide(0))


def _windows(x: np.ndarray, size: int, stride: int, border: int, fill: float):
    """What each of size x size taps meets, as (row, column, [n, c, h, w])."""
    x = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=fill)
    h, w = ((side - size) // stride * stride + 1 for side in x.shape[2:])
    for i in range(size):
        for j in range(size):
            yield i, j, x[:, :, i : i + h : stride, j : j + w : stride]


def _conv(x: np.ndarray, conv: Any) -> np.ndarray:
    weight, out = _wide(conv.weight), Wide(0)
    for i, j, met in _windows(x, len(weight[0, 0]), conv.stride[0], conv.padding[0], 0):
        if met.any():  # not only padding
            out = out + met.transpose(0, 2, 3, 1) @ weight[:, :, i, j].T
    return np.asarray(out).transpose(0, 3, 1, 2)


def _max_pool(x: np.ndarray) -> np.ndarray:
    return np.max([met for _, _, met in _windows(x, 3, 2, 1, -np.inf)], axis=0)


def _norm(x: np.ndarray, norm: Any) -> np.ndarray:
    centred = x - x.mean((0, 2, 3), keepdims=True)
    variance = (centred**2).mean((0, 2, 3), keepdims=True)
    scale, bias = (_wide(term)[None, :, None, None] for term in (norm.weight, norm.bias))
    return centred / np.sqrt(variance + Wide(norm.eps)) * scale + bias
