"""Each Flax model against its PyTorch twin in float64, and its initial weights against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import tree_util

import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.models.model import MODELS, Model, Variables, create_model
from jax_impl.ops import batch_norm, convolution, dense_conv, im2col, platform, pooling
from parity.pairs.pair import create_pair
from parity.pairs.weights import to_torch

TOLERANCE = 1e-12  # relative, float64: a wrong formula departs by 1e-8 and more


def relative(ours, theirs) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-300))


def randomised(name: str) -> tuple[Model, Variables, torch.nn.Module]:
    """A float64 pair on shared weights; statistics and affine terms random, for ones hide errors"""
    model = create_model(name)
    rng = np.random.default_rng(0)

    def draw(keys, leaf):
        kind = keys[-1].key
        if kind == "num_batches_tracked":
            return jnp.asarray(leaf)
        if kind in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape))
        if kind in ("bias", "mean"):
            return jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape))
        return jnp.asarray(leaf, jnp.float64)

    variables = tree_util.tree_map_with_path(draw, model.init(0))
    twin = torch_ref.models.create_model(name).double()
    twin.load_state_dict(to_torch(variables, model), strict=True)
    return model, variables, twin


DEEP = "resnet101", "resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"
INIT = [
    *(pytest.param(name, marks=pytest.mark.proof) if name in DEEP else name for name in MODELS),
    "resnet18:stem=cifar",
    "resnet18:zero_init_residual=true:num_classes=1000",
    "resnet50:zero_init_residual=true",
    "preact_resnet18:stem=cifar",
    "plain18:stem=cifar",
    "simple_cnn:channels=8,16,24:kernel_size=5:pool_size=2:hidden=64:image_size=45,37",
]


@pytest.mark.parametrize("text", INIT)
def test_init_is_torchs(text):
    pair = create_pair(text)
    variables = pair.model.init(3)
    torch.manual_seed(3)
    theirs = pair.make_torch().state_dict()
    ours = to_torch(variables, pair.model)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value.to(ours[key].dtype)), key


@pytest.mark.parametrize(
    "name, train",
    [
        *((name, train) for name in ("simple_cnn", "resnet18") for train in (False, True)),
        ("resnet50", True),
        pytest.param("resnet50", False, marks=pytest.mark.proof),  # its outputs: test_family
    ],
)
def test_float64_forward_statistics_and_gradients(name, train):
    equals_its_twin(name, train)


def test_small_maps_as_dense_layers_in_a_whole_model(monkeypatch):
    monkeypatch.setattr(convolution, "MANY_MAPS", 16)
    called, conv2d = [], dense_conv.conv2d
    monkeypatch.setattr(dense_conv, "conv2d", lambda x, k: called.append(x.shape) or conv2d(x, k))
    equals_its_twin("resnet18", train=True)
    assert bool(called) == platform.on_cpu()


def equals_its_twin(name: str, train: bool) -> None:
    """Logits, loss, statistics and gradients of 16 images."""
    with jax.enable_x64(True):
        model, variables, twin = randomised(name)
        images = np.random.default_rng(1).normal(size=(16, 32, 32, 3))
        labels = np.arange(16) % 10
        twin.train(train)
        logits = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()

        def loss_function(params):
            ours, stats = model.apply(variables._replace(params=params), images, train=train)
            picked = jnp.take_along_axis(jax.nn.log_softmax(ours), labels[:, None], axis=1)
            return -picked.mean(), (ours, stats)

        (our_loss, (ours, stats)), gradients = jax.jit(
            jax.value_and_grad(loss_function, has_aux=True)
        )(variables.params)
        assert relative(ours, logits.detach().numpy()) <= TOLERANCE
        assert relative(our_loss, loss.detach().numpy()) <= TOLERANCE
        updated, theirs = to_torch(Variables({}, stats), model), twin.state_dict()
        for key, value in updated.items():
            assert relative(value, theirs[key]) <= TOLERANCE, key
        parameters = dict(twin.named_parameters())
        converted = to_torch(Variables(gradients, {}), model)
        assert converted.keys() == parameters.keys()
        for key, value in converted.items():
            gradient = parameters[key].grad
            assert gradient is not None
            assert relative(value, gradient.numpy()) <= TOLERANCE, key


@pytest.mark.parametrize(
    "size, kernel, stride, padding, dilation, groups",
    [(8, 3, 1, 1, 1, 1), (9, 3, 2, 1, 1, 1), (1, 3, 1, 1, 1, 1), (2, 3, 1, 1, 1, 1)]
    + [(2, 3, 2, 1, 1, 1), (16, 7, 2, 3, 1, 1), (5, 1, 2, 0, 1, 1), (6, 4, 1, 2, 1, 1)]
    + [(8, 3, 1, 2, 2, 1), (2, 3, 1, 4, 4, 1), (8, 3, 2, 1, 1, 3), (4, 3, 1, 2, 2, 6)]
    + [(1, 7, 2, 3, 1, 1), (12, 5, 3, 0, 1, 1), (10, 5, 2, 4, 1, 1)],
)
@pytest.mark.parametrize("channels", [6, im2col.FEW_CHANNELS + 4])
def test_lowerings_of_a_convolution_agree(
    size, kernel, stride, padding, dilation, groups, channels
):
    """Values and gradients, against lax.conv and against PyTorch."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, size, size + 1, channels))
    weights = rng.normal(size=(kernel, kernel, channels // groups, 12))
    arguments = stride, padding, dilation, groups
    theirs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    their_weights = torch.from_numpy(weights.transpose(3, 2, 0, 1).copy()).requires_grad_()
    expected = torch.nn.functional.conv2d(theirs, their_weights, None, *arguments)
    cotangent = rng.normal(size=expected.shape)
    expected.backward(torch.from_numpy(cotangent))
    assert theirs.grad is not None and their_weights.grad is not None
    with jax.enable_x64(True):
        for lowering_of in (im2col.conv2d_im2col, convolution.conv2d_native):
            found, pull = jax.vjp(
                lambda x, w, function=lowering_of: function(x, w, *arguments),
                jnp.asarray(images),
                jnp.asarray(weights),
            )
            by_images, by_weights = pull(jnp.asarray(cotangent.transpose(0, 2, 3, 1)))
            assert relative(found.transpose(0, 3, 1, 2), expected.detach().numpy()) <= TOLERANCE
            assert relative(by_images.transpose(0, 3, 1, 2), theirs.grad.numpy()) <= TOLERANCE
            assert relative(by_weights.transpose(3, 2, 0, 1), their_weights.grad) <= TOLERANCE


@pytest.mark.parametrize(
    "window, stride, padding", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (5, 2, 2)]
)
def test_max_pool_gives_ties_to_the_first_maximum(window, stride, padding):
    images = np.random.default_rng(0).integers(0, 3, (2, 9, 8, 4)).astype(np.float32)
    theirs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, window, stride, padding)
    weight = np.random.default_rng(1).integers(1, 9, pooled.shape).astype(np.float32)
    (pooled * torch.from_numpy(weight)).sum().backward()
    ours, pull = jax.vjp(lambda x: pooling.max_pool2d(x, window, stride, padding), images)
    (gradient,) = pull(jnp.asarray(weight.transpose(0, 2, 3, 1)))
    assert theirs.grad is not None
    assert np.array_equal(np.asarray(ours), pooled.detach().numpy().transpose(0, 2, 3, 1))
    assert np.array_equal(gradient, theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_a_channel_with_one_value_cannot_be_normalised():
    model = create_model("resnet18")
    with pytest.raises(InputError, match="more than one value a channel"):
        model.apply(model.init(0), jnp.zeros((1, 32, 32, 3)), train=True)


def test_an_unknown_model_is_named():
    with pytest.raises(InputError, match="resnet19.*resnet18"):
        create_model("resnet19")


def test_batch_norm_has_the_gradient_of_its_formula():
    """By autodiff of the definition in float64, the gradients of both statistics included."""
    rng = np.random.default_rng(0)

    def definition(x, scale, bias):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / jnp.sqrt(var + 1e-3) * scale + bias, mean, var

    with jax.enable_x64(True):
        x = jnp.asarray(rng.standard_normal((3, 4, 5, 6)) * 2 + 1)
        scale, bias, mean, var = (jnp.asarray(rng.standard_normal(6)) for _ in range(4))
        upstream = jnp.asarray(rng.standard_normal(x.shape)), mean, var
        found, expected = (
            jax.tree.leaves((outputs, pull(upstream)))
            for outputs, pull in (
                jax.vjp(lambda *given: batch_norm.batch_norm(*given, 1e-3), x, scale, bias),
                jax.vjp(definition, x, scale, bias),
            )
        )
        for value, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-12, atol=1e-13)
