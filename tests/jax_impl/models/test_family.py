"""Every model and stem against its PyTorch twin in float64, with random statistics and affine
terms: outputs and statistics at several image sizes, and gradients of one model of each kind."""

import dataclasses
import math

import exact
import jax
import numpy as np
import pytest
import torch

from jax_impl.data.datasets import normalize
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.model import MODELS, Variables, create_model
from parity.ladder.rungs import gradients
from parity.ladder.tolerance import relative_error
from parity.pairs.case import Case
from parity.pairs.examples import randomised
from parity.pairs.pair import Batch, ModelPair, create_pair
from parity.pairs.weights import to_arrays

FORWARD_TOLERANCE = 1e-11
GRADIENT_TOLERANCE = 1e-10
"""Relative, float64: the rounding of a hundred layers, and far below any fault of a formula."""

SIZES = [(32, 32), (64, 64), (45, 37)]
BATCH = 4


def variants() -> list[str]:
    """Every name, with every stem that it takes, and the options that change the computation."""
    found = []
    for name, entry in registry.MODELS.items():
        fields = [field.name for field in dataclasses.fields(entry.options)]
        found += [name, f"{name}:stem=cifar"] if "stem" in fields else [name]
    return [
        *found,
        "resnet50:replace_stride_with_dilation=true,true,true",
        "resnet50:replace_stride_with_dilation=false,true,false:stem=cifar",
        "simple_cnn:channels=16,32,64",
        "simple_cnn:channels=24:kernel_size=5:pool_size=4:hidden=100",
        "simple_cnn:channels=8,16:kernel_size=4",
        "simple_cnn:channels=8,12,16:pool_after=1,3:hidden=20",
        "simple_cnn:channels=6,8:pool_after=none:global_average=true:hidden=20",
    ]


QUICK = [
    ("simple_cnn", (45, 37)),
    ("simple_cnn:channels=24:kernel_size=5:pool_size=4:hidden=100", (32, 32)),
    ("simple_cnn:channels=8,12,16:pool_after=1,3:hidden=20", (45, 37)),
    ("simple_cnn:channels=6,8:pool_after=none:global_average=true:hidden=20", (32, 32)),
    ("plain20", (32, 32)),
    ("resnet18:stem=cifar", (32, 32)),
    ("resnet20", (45, 37)),
    ("preact_resnet18", (45, 37)),
    ("plain18", (32, 32)),
    ("resnet50:replace_stride_with_dilation=true,true,true", (45, 37)),
    ("resnext50_32x4d", (45, 37)),
]
"""One of each kind of block, for every test run; `make proof` takes all."""

UNREACHABLE = ("resnet152", (32, 32))
"""Its last maps are of one pixel, normalised over four values a channel, 151 layers deep."""


def marks(text: str, size: tuple[int, int]) -> list[pytest.MarkDecorator]:
    if (text, size) in QUICK:
        return []
    missed = "in train mode PyTorch itself is 3.0e-11 from the exact result, JAX 1.8e-11"
    known = [pytest.mark.xfail(reason=missed, strict=True)] if (text, size) == UNREACHABLE else []
    return [pytest.mark.proof, *known]


FORWARD = [
    pytest.param(text, size, id=f"{text}-{size[0]}x{size[1]}", marks=marks(text, size))
    for text in variants()
    for size in SIZES
]

GRADIENTS = [  # basic, bottleneck, grouped, wide, dilated, pre-activation, option A, plain
    "resnet18:stem=cifar",
    pytest.param("resnet50", marks=pytest.mark.proof),
    pytest.param("resnext50_32x4d", marks=pytest.mark.proof),
    pytest.param("wide_resnet50_2", marks=pytest.mark.proof),
    pytest.param("resnet50:replace_stride_with_dilation=true,true,true", marks=pytest.mark.proof),
    "preact_resnet18",
    pytest.param("preact_resnet50", marks=pytest.mark.proof),
    "resnet20",
    pytest.param("plain18", marks=pytest.mark.proof),
    "simple_cnn:channels=8,16,24:kernel_size=5",
    "simple_cnn:channels=8,12,16:pool_after=1,3:hidden=20",
    "simple_cnn:channels=6,8:pool_after=none:global_average=true:hidden=20",
    pytest.param("plain20", marks=pytest.mark.proof),
]


class ModelCase(Case):
    """A case of a pair that has a `jax_impl` model."""

    pair: ModelPair


def case_of(text: str, size: tuple[int, int] = (32, 32)) -> ModelCase:
    if text.startswith("simple_cnn"):
        text += f":image_size={size[0]},{size[1]}"
    return ModelCase(create_pair(text), "float64")


def batch_of(size: tuple[int, int], count: int = BATCH) -> Batch:
    rng = np.random.default_rng(1)
    return Batch(rng.integers(0, 256, (count, *size, 3), np.uint8), np.arange(count) % 10)


@pytest.mark.parametrize("text, size", FORWARD)
def test_outputs_and_statistics_in_float64(text, size, record_property):
    case, batch = case_of(text, size), batch_of(size)
    model = case.pair.model
    variables = randomised(model.init(0), 0)
    state = to_arrays(variables, model)
    with jax.enable_x64(True):
        wide = case.variables(state)
        images = normalize(batch.inputs, case.dtype)
        # Not jitted: models share the compilations of single operations, and there are many.
        evaluated, _ = model.apply(wide, images, train=False)
        trained, stats = model.apply(wide, images, train=True)
        ours = {"eval": np.asarray(evaluated), "train": np.asarray(trained)}
        ours |= to_arrays(Variables({}, stats), model)
    twin, (their_images, _) = case.torch_model(state), case.torch_batch(batch)
    with torch.no_grad():
        theirs = {"eval": twin.eval()(their_images).numpy()}
        theirs["train"] = twin.train()(their_images).numpy()
    theirs |= {name: buffer.numpy() for name, buffer in twin.named_buffers()}
    assert ours.keys() == theirs.keys()
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    worst = max(errors, key=errors.__getitem__)
    record_property("relative_error", errors[worst])
    assert errors[worst] <= FORWARD_TOLERANCE, worst


@pytest.mark.proof
@pytest.mark.skipif(not exact.AVAILABLE, reason="long double is no wider than float64 here")
def test_where_the_bar_is_missed_pytorch_misses_it_too(record_property):
    """Against the same net in 80-bit arithmetic both are off by rounding of one size."""
    text, size = UNREACHABLE
    case, batch = case_of(text, size), batch_of(size)
    model = case.pair.model
    state = to_arrays(randomised(model.init(0), 0), model)
    with jax.enable_x64(True):
        images = normalize(batch.inputs, case.dtype)
        ours = np.asarray(model.apply(case.variables(state), images, train=True)[0])
    twin, (their_images, _) = case.torch_model(state), case.torch_batch(batch)
    with torch.no_grad():
        theirs = twin.train()(their_images).numpy()
    reference = exact.logits(twin, their_images.numpy())
    our_error, their_error = (
        float(np.abs(logits - reference).max() / np.abs(reference).max())
        for logits in (ours, theirs)
    )
    record_property("jax_from_exact", our_error)
    record_property("pytorch_from_exact", their_error)
    assert FORWARD_TOLERANCE < their_error, "the bar can be met: hold resnet152 to it"
    assert our_error <= 4 * their_error


@pytest.mark.parametrize("text", GRADIENTS)
def test_gradients_in_float64(text, record_property):
    case, batch = case_of(text), batch_of((32, 32), 16)
    model = case.pair.model
    state = to_arrays(randomised(model.init(0), 0), model)
    with jax.enable_x64(True):
        ours = gradients.ours(case)(state, batch)
    theirs = gradients.theirs(case)(state, batch)
    assert ours.keys() == theirs.keys()
    ours, theirs = gradients.matched(case, ours, theirs, [])
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    worst = max(errors, key=errors.__getitem__)
    record_property("relative_error", errors[worst])
    assert errors[worst] <= GRADIENT_TOLERANCE, worst


def parameters(name: str, **options) -> int:
    shapes = create_model(name, **options).shapes.params
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    "name, count",
    [
        ("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032),
        ("resnet101", 44_549_160), ("resnet152", 60_192_808), ("resnext50_32x4d", 25_028_904),
        ("resnext101_32x8d", 88_791_336), ("resnext101_64x4d", 83_455_272),
        ("wide_resnet50_2", 68_883_240), ("wide_resnet101_2", 126_886_696),
    ],
)  # fmt: skip
def test_parameter_counts_are_torchvisions(name, count):
    """As torchvision publishes them, for ImageNet's 1,000 classes."""
    assert parameters(name, num_classes=1000) == count


@pytest.mark.parametrize(
    "name, millions",
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
    + [("resnet110", 1.7)],
)
def test_parameter_counts_are_the_papers(name, millions):
    """He et al. 2015, table 6."""
    digits = 1 if name == "resnet110" else 2
    assert round(parameters(name) / 1e6, digits) == millions


@pytest.mark.parametrize("name", ["plain18", "plain34"])
def test_a_plain_net_is_the_resnet_without_its_projections(name):
    """Three 1x1 convolutions and their normalisations lead from stage to stage."""
    projections = sum(c * 2 * c + 2 * 2 * c for c in (64, 128, 256))
    assert parameters(name) == parameters(name.replace("plain", "resnet")) - projections


def test_a_plain_net_of_he_et_al_has_the_weights_of_its_resnet():
    """Option A's shortcuts have none."""
    for layers in (20, 56):
        assert parameters(f"plain{layers}") == parameters(f"resnet{layers}")


@pytest.mark.parametrize(
    "text, pools",
    [
        ("simple_cnn", None),
        ("simple_cnn:pool_after=2", (2,)),
        ("simple_cnn:pool_after=1,2", (1, 2)),
        ("simple_cnn:pool_after=none:global_average=True", ()),
    ],
)
def test_the_pools_are_in_the_name(text, pools):
    spec = registry.parse(text)
    assert str(spec) == text and registry.parse(str(spec)) == spec
    assert spec.options == registry.CNNOptions(pool_after=pools, global_average="average" in text)
    assert registry.parse("simple_cnn:pool_after=all") == registry.parse("simple_cnn")


def test_every_name_has_a_twin_of_the_same_weights():
    for name in MODELS:
        if "101" not in name and "152" not in name:
            pair = create_pair(name)
            counted = sum(p.numel() for p in pair.make_torch().parameters())
            assert counted == parameters(name), name


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet19", {}, "no model named 'resnet19': choose one of simple_cnn, resnet18"),
        ("resnet18", {"stemm": "cifar"}, "no option 'stemm'.*perhaps you meant stem"),
        ("resnet20", {"stem": "cifar"}, "resnet20 has no option 'stem', only num_classes"),
        ("resnet18", {"stem": "small"}, "stem is 'small': give imagenet or cifar"),
        ("resnet18", {"num_classes": 0}, "num_classes is 0: give a whole number of 1 to 2147"),
        ("resnet18", {"num_classes": True}, "num_classes is True"),
        ("resnet18", {"zero_init_residual": "maybe"}, "is 'maybe': give true or false"),
        ("resnet34", {"replace_stride_with_dilation": (True,) * 3}, "needs bottleneck blocks"),
        ("resnet50", {"replace_stride_with_dilation": (True,)}, "has 1 values: give 3"),
        ("simple_cnn", {"channels": ()}, "channels is empty"),
        ("simple_cnn", {"channels": (32, -1)}, "channels is -1"),
        ("simple_cnn", {"kernel_size": 2.5}, "kernel_size is 2.5"),
        ("simple_cnn", {"image_size": (1, 2, 3)}, "image_size is .1, 2, 3."),
        ("simple_cnn", {"pool_after": (2, 1)}, "pool_after is 2,1: give the numbers of some of"),
        ("simple_cnn", {"pool_after": (1, 3)}, "pool_after is 1,3: .* of the 2 convolutions"),
        ("simple_cnn", {"pool_after": 0}, "pool_after is 0: give a whole number of 1"),
        ("simple_cnn", {"pool_after": "some"}, "pool_after is 'some'"),
        ("simple_cnn", {"global_average": 2}, "global_average is 2: give true or false"),
        ("simple_cnn", {"channels": (8,) * 6}, "no pixel is left of 32x32 .* 6 of 6"),
        ("simple_cnn", {"pool_size": 64}, "no pixel is left"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **options)


def test_the_small_cnn_refuses_images_of_another_size():
    model = create_model("simple_cnn")
    with pytest.raises(InputError, match="got 64x64 images and was made for 32x32"):
        model.apply(model.init(0), np.zeros((1, 64, 64, 3), np.float32))


@pytest.mark.parametrize("text", variants())
def test_a_spec_is_written_as_it_is_read(text):
    spec = registry.parse(text)
    assert registry.parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text, message",
    [
        ("resnet18:stem", "'stem' is not of the form OPTION=VALUE"),
        ("resnet18:=cifar", "'=cifar' is not of the form"),
        ("resnet18:stem=cifar:stem=imagenet", "stem is given twice"),
        ("", "no model named ''"),
        *(
            (f"simple_cnn:kernel_size={value}", "kernel_size is .*: give a whole number of 1 to")
            for value in (
                "1if",
                "nan",
                "1e400",
                "-3",
                "3.5",
                "2" * 40,
                "(" * 5000,
                "9" * 5000,
                "None",
                "true",
            )
        ),
        ("simple_cnn:hidden=4,5", "hidden is .*: give a whole number of 1 to 2147"),
        ("resnet18:zero_init_residual=2", "is 2: give true or false"),
    ],
)
def test_a_bad_spec_is_explained(text, message):
    with pytest.raises(InputError, match=message) as error:
        registry.parse(text)
    assert len(str(error.value)) < 600
