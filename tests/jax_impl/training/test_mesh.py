"""Training on many devices is training on one."""

from typing import Any

import jax
import numpy as np
import on_devices
import pytest
import torch
from on_devices import MESHES, assert_near

from jax_impl import create_model
from jax_impl.errors import InputError
from jax_impl.ops.batch_norm import batch_norm_of_parts
from jax_impl.training import mesh, optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.mesh_axes import axes_of


def test_meshes_of_eight_devices_train_as_one_does():
    """A batch that they do not divide, one of fewer images than devices, drawn augmentation."""
    case = {
        "model": on_devices.SMALL,
        "steps": 6,
        "batch": 50,
        "meshed": MESHES,
        "parts": 1,
        "last": 3,
    }
    (found,) = on_devices.found_by(8, [case])
    assert_near(found)
    assert found["data=8"]["cut"] == {}
    assert found["data=4,model=2"]["cut"] == {"linear/kernel": [512, 20]}


def test_statistics_of_each_device():
    """As of one device that normalises in as many parts, which the batch is no multiple of."""
    case = {"model": on_devices.SMALL, "steps": 6, "batch": 50, "meshed": ["data=8"], "parts": 8}
    (found,) = on_devices.found_by(8, [case])
    assert_near(found)


@pytest.mark.proof
@pytest.mark.parametrize("batch", [48, 50])
@pytest.mark.parametrize("model", ["resnet18", "resnet20"])
def test_a_resnet_on_eight_devices(model, batch):
    case = {"model": model, "steps": 30, "batch": batch, "meshed": MESHES, "parts": 1, "last": 7}
    (found,) = on_devices.found_by(8, [case])
    print(model, batch, {text: told["state"] for text, told in found.items()})
    assert_near(found)
    assert found["data=4,model=2"]["cut"]


# ResNet-18's last maps are one pixel: of four images in a part, rounding soon is the weights' size.
@pytest.mark.proof
@pytest.mark.parametrize("batch", [32, 50])
def test_a_resnet_with_statistics_of_each_of_eight_devices(batch):
    case = {"model": "resnet20", "steps": 30, "batch": batch, "meshed": MESHES, "parts": 8}
    (found,) = on_devices.found_by(8, [case])
    print(batch, {text: told["state"] for text, told in found.items()})
    assert_near(found)


@pytest.mark.parametrize("examples", [6, 7])
def test_parts_of_a_batch_are_normalised_as_processes_of_pytorch_do(examples):
    rng = np.random.default_rng(0)
    x, cotangent = rng.normal(2, 3, (2, examples, 4, 5, 3))
    scale, bias = rng.normal(size=(2, 3))

    def own(x, scale, bias):
        return batch_norm_of_parts(x, scale, bias, 1e-5, 3)

    with jax.enable_x64(True):
        (y, mean, var), pull = jax.vjp(own, x, scale, bias)
        gradients = pull((cotangent, np.zeros(3), np.zeros(3)))
    norm: Any = torch.nn.BatchNorm2d(3, momentum=1.0, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(scale))
        norm.bias.copy_(torch.tensor(bias))
    theirs: Any = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    outputs, statistics = [], []
    for part in theirs.tensor_split(3):
        outputs.append(norm(part))
        count = part.numel() / 3
        statistics.append((norm.running_mean.clone(), norm.running_var * ((count - 1) / count)))
    output = torch.cat(outputs)
    output.backward(torch.tensor(cotangent.transpose(0, 3, 1, 2)))
    assert np.allclose(y, output.detach().numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-12)
    assert np.allclose(mean, statistics[0][0], rtol=0, atol=1e-12)
    assert np.allclose(var, statistics[0][1], rtol=0, atol=1e-12)
    expected = theirs.grad.numpy().transpose(0, 2, 3, 1), norm.weight.grad, norm.bias.grad
    for one, other in zip(gradients, expected, strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-11)


def test_running_statistics_are_those_of_the_first_part():
    """By PyTorch's rule: of so many values as the first part has."""
    net, whole = on_devices.small(2), on_devices.small(1)
    variables = net.init(0)
    images = np.random.default_rng(0).normal(size=(5, 32, 32, 3)).astype(np.float32)
    _, stats = net.apply(variables, images, train=True)
    _, expected = whole.apply(variables, images[:3], train=True)
    assert np.allclose(stats["norm"]["var"], expected["norm"]["var"], rtol=1e-5)
    assert np.allclose(stats["norm"]["mean"], expected["norm"]["mean"], rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"has none, of 2 devices each its own"):
        net.apply(variables, images[:1], train=True)


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("data=8", {"data": 8}),
        ("data=4,model=2", {"data": 4, "model": 2}),
        ("model=2", {"model": 2}),
    ],
)
def test_a_mesh_in_words(text, axes):
    assert axes_of(text) == axes


@pytest.mark.parametrize(
    "text", ["", "8", "data", "data=", "data=0", "data=-1", "data=2,data=2", "rows=2", "data=1e3",
             "data=2,", "data=²", "data=99999999"],
)  # fmt: skip
def test_what_is_no_mesh(text):
    with pytest.raises(InputError, match="a mesh of .*: give data=8, or data=4,model=2"):
        axes_of(text)


def test_too_few_devices():
    with pytest.raises(InputError, match="a mesh of 1000 devices, and JAX sees"):
        mesh.make_mesh({"data": 500, "model": 2}, jax.devices())


def test_several_trainings_do_not_go_on_a_mesh():
    one = mesh.make_mesh({"data": 1}, jax.devices())
    with pytest.raises(InputError, match="on a mesh one at a time"):
        make_train_epoch(create_model("simple_cnn"), optim.sgd(), 4, seed=[1, 2], mesh=one)
