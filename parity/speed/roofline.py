"""How fast the hardware lets a task be.

That is its work, by XLA's count and by hand, over the machine's measured ceilings.

By hand a multiplication and an addition are two FLOPs, and only the products of convolutions and
linear layers count. Training takes three times the forward pass (the outputs, and the gradients by
weights and by inputs), less the gradient by the images. `dense_flops` counts what the layers are
defined by; `flops`, which the floor is made of, leaves out the products with padding, which no
implementation needs. Bytes: a parameter, its gradient and Adam's two moments are each read and
written once in training, and a parameter is read once in inference, those apart that only ever
meet padding; the images and the outputs of
convolutions and linear layers are written once and, in training, read once for the backward pass.
Caches can beat the bytes, and nothing can beat the flops.
"""

import dataclasses
import math
from typing import Any

from parity.speed.workloads import IMAGE, Task

COPY_BYTES = {"cpu": 2**28, "gpu": 2**30}
MATMUL_SIZES = {"cpu": (512, 1024, 2048), "gpu": (2048, 4096, 8192)}
ADAM_ARRAYS = 4  # a parameter, its gradient, two moments
FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """The machine's best FLOP/s of a matrix product in a precision, and bytes/s of a copy."""

    jax_flops: float
    torch_flops: float
    bytes: float

    @property
    def flops(self) -> float:
        """The better framework's."""
        return max(self.jax_flops, self.torch_flops)


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one step, or of one batch of inference."""

    flops: float
    dense_flops: float
    bytes: float
    xla_flops: float
    xla_bytes: float


@dataclasses.dataclass(frozen=True)
class Floor:
    """The seconds of a step that the ceilings allow.

    With arithmetic and memory at the same time, and one after the other.
    """

    overlapped: float
    added: float


def floor(work: Work, ceilings: Ceilings) -> Floor:
    """The floor of a task's work."""
    arithmetic, memory = work.flops / ceilings.flops, work.bytes / ceilings.bytes
    return Floor(max(arithmetic, memory), arithmetic + memory)


class RooflineWorker:
    """What a worker does: it has both frameworks."""

    def ceilings(self, device: str, precision: str, seconds: float) -> dict[str, float]:
        """The fields of `Ceilings`; each size of each measurement takes `seconds`."""
        from parity.speed import jax_side, torch_side

        sizes = MATMUL_SIZES[device]
        return {
            "jax_flops": jax_side.matmul_rate(device, precision, sizes, seconds),
            "torch_flops": torch_side.matmul_rate(device, precision, sizes, seconds),
            "bytes": torch_side.copy_rate(device, COPY_BYTES[device], seconds),
        }

    def work(self, task: dict[str, Any], device: str, lr: float, images: int) -> dict[str, float]:
        """The fields of `Work`."""
        import jax

        from parity.speed.jax_side import step_cost

        jax.config.update("jax_default_device", jax.devices(device)[0])
        asked = Task(**task)
        xla = step_cost(asked, lr, images)
        return {**by_hand(asked), "xla_flops": xla["flops"], "xla_bytes": xla["bytes"]}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or linear layer on one image.

    FLOPs as defined and as needed, outputs, and weights that meet nothing but padding.
    """

    dense: int
    needed: int
    outputs: int
    unread: int = 0


def by_hand(task: Task) -> dict[str, float]:
    """`flops`, `dense_flops` and `bytes` of one step of a task."""
    found, parameters = layers(task.model)
    activation = 2 if task.precision == "bf16" else FLOAT
    outputs = math.prod(IMAGE) + sum(layer.outputs for layer in found)
    training = task.mode == "train"
    read = parameters - sum(layer.unread for layer in found)
    weights = FLOAT * read * (2 * ADAM_ARRAYS if training else 1)

    def flops(counts: list[int]) -> int:
        return 3 * sum(counts) - counts[0] if training else sum(counts)

    return {
        "flops": task.batch_size * flops([layer.needed for layer in found]),
        "dense_flops": task.batch_size * flops([layer.dense for layer in found]),
        "bytes": weights + task.batch_size * outputs * activation * (2 if training else 1),
    }


def layers(model: str) -> tuple[list[Layer], int]:
    """A model's convolutions and linear layers in the order of execution, and its parameters."""
    import torch
    from torch import nn

    import torch_ref.models
    from jax_impl.models import registry

    spec, found = registry.parse(model), []

    def note(module: Any, inputs: Any, output: Any) -> None:
        found.append(_layer(module, inputs[0].shape, output.shape))

    with torch.device("meta"), torch.no_grad():  # shapes alone
        net = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options)).eval()
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(note)
        net(torch.zeros(1, IMAGE[2], *IMAGE[:2]))
    return found, sum(parameter.numel() for parameter in net.parameters())


def _layer(module: Any, inputs: Any, outputs: Any) -> Layer:
    if not hasattr(module, "kernel_size"):
        dense = 2 * module.in_features * module.out_features
        return Layer(dense, dense, module.out_features)
    channels = 2 * module.in_channels // module.groups * module.out_channels
    dense = channels * math.prod(module.kernel_size) * math.prod(outputs[2:])
    needed, met = channels, 1
    for axis in range(2):
        found = taps(
            inputs[2 + axis],
            outputs[2 + axis],
            module.kernel_size[axis],
            module.stride[axis],
            module.padding[axis],
            module.dilation[axis],
        )
        needed *= sum(found)
        met *= sum(map(bool, found))
    unread = channels // 2 * (math.prod(module.kernel_size) - met)
    return Layer(dense, needed, math.prod(outputs[1:]), unread)


def taps(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[int]:
    """Along one axis, how many of each tap's products are not with padding."""
    return [
        sum(0 <= place * stride - padding + tap * dilation < size for place in range(outputs))
        for tap in range(kernel)
    ]
