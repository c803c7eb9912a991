"""Ports of the kinds that strangers bring: what is right for each is what the suite says."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from ports import (
    attention,
    converters,
    convolutions,
    errors,
    norms,
    optimizers,
    outputs_and_inputs,
    recurrent,
    residual,
    transforms,
)

import parity
from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from parity.checking import climb_all
from parity.program import EXAMPLES, Options, main
from parity.shell import cli

STEPS = 5
FIRST = "data", "init", "forward", "loss", "gradients", "batch_stats"
"""The rungs before the optimizer's: enough for what shows there."""


def climbed(pair, rungs=None, seed=0):
    """Every rung's result, or those of some rungs."""
    chosen = {} if rungs is None else {"rungs": rungs}
    return list(climb_all(pair, seed=seed, steps=STEPS, **chosen))


STOPPED = "stopped", "does not pass"
"""Words of causes."""


def failing(results):
    return [r for r in results if r.passed is False]


def faults(results):
    return [f for r in failing(results) if r.diagnosis for f in r.diagnosis.faults]


def said(results):
    """Everything that is said beside the numbers."""
    texts = [text for r in results for text in (r.detail, *r.remarks)]
    return "\n".join(texts + [r.diagnosis.text for r in results if r.diagnosis])


def assert_passes(results):
    assert not failing(results), [(r.rung, r.dtype, r.measured, r.detail) for r in failing(results)]
    compared = {r.rung for r in results if r.passed}
    assert compared >= {"forward", "loss", "gradients", "trajectory"}
    assert "cannot be run" not in said(results)


def is_named(results, module, *words):
    """Whether a fault has the module among its places, and any of the words in its cause."""
    return any(
        module in (fault.module, *fault.places)
        and any(word in (fault.cause or "") for word in words)
        for fault in faults(results)
    )


RIGHT = {
    "biases before BatchNorm, 10x10": partial(norms.biases_before_norms, 10),
    "biases before BatchNorm, 64x64": partial(norms.biases_before_norms, 64),
    "key bias": attention.key_bias,
    "two inputs": outputs_and_inputs.two_inputs,
    "dict outputs": outputs_and_inputs.dict_outputs,
    "two outputs": outputs_and_inputs.two_outputs,
    "first of two outputs": outputs_and_inputs.first_of_both,
    "heads on an axis": attention.heads_on_an_axis,
    "frozen parameter": converters.frozen,
    "tied by its second name": converters.tied_by_second_name,
    "training=False": outputs_and_inputs.training_by_default,
    "training": outputs_and_inputs.training_required,
    "dropout": outputs_and_inputs.dropout,
    "block": residual.block,
    "stem": convolutions.stem,
    "stem, automatic names": partial(convolutions.stem, named=False),
    "U-Net": partial(convolutions.unet, flipped=True),
    "loss with a gradient of its own": optimizers.same_loss,
    "RMSprop": optimizers.rmsprop_right,
    "bound apply": outputs_and_inputs.bound_apply,
    "one output [n, 1]": outputs_and_inputs.column,
    "one output [n]": outputs_and_inputs.squeezed,
    "one output, made-up labels": outputs_and_inputs.made_up_labels,
    "LayerNorm at 2000, two passes": partial(norms.shifted, "layer", 2000, fast=False),
    **{name: partial(make, 0) for name, make in transforms.SCANNED.items()},
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_a_right_port_passes(make):
    assert_passes(climbed(make()))


def test_a_scan_with_a_float32_carry_is_run():
    """Two of PyTorch's biases are one of Flax's: they move twice as far, so training differs."""
    results = climbed(transforms.linen_rnn())
    assert not failing(results)
    assert {r.rung for r in results if r.passed} >= {"forward", "loss"}
    assert "cannot be run" not in said(results)


@pytest.mark.parametrize("seed", (1, 2))
def test_zero_gradients_pass_by_every_seed(seed):
    for make in (partial(norms.biases_before_norms, 10), attention.key_bias):
        assert not failing(climbed(make(), FIRST + ("optimizer",), seed))


@pytest.mark.parametrize("make", [norms.upcast_on_both_sides, norms.upcast_in_jax])
def test_a_norm_in_float32_passes_and_is_remarked(make):
    results = climbed(make())
    assert_passes(results)
    assert any("norm computes in float32" in r for x in results for r in x.remarks)


def test_an_inner_name_that_coincides_is_remarked():
    results = climbed(outputs_and_inputs.inner_name())
    assert_passes(results)
    assert any("drop" in remark for r in results for remark in r.remarks)


@pytest.mark.parametrize(
    "make, path",
    [(outputs_and_inputs.dict_outputs, "hidden"), (outputs_and_inputs.two_outputs, "1")],
)
def test_every_output_is_compared(make, path):
    """The second one departs; the loss is of the first alone."""
    results = climbed(make(off=1.001), ("forward", "loss"))
    forward = [r for r in results if r.rung == "forward"]
    assert [r.passed for r in forward] == [False, False]
    assert f"outputs.{path} in " in forward[0].detail
    assert not failing([r for r in results if r.rung == "loss"])


def test_outputs_that_do_not_match_are_not_green():
    try:
        results = climbed(outputs_and_inputs.attention_too(), ("forward",))
    except InputError as error:
        assert "output" in str(error)
    else:
        assert not any(r.passed for r in results)


def test_a_rate_of_dropout_that_differs_is_seen():
    results = climbed(outputs_and_inputs.other_dropout(), ("forward", "loss"))
    assert {(r.rung, r.dtype) for r in failing(results)} >= {
        ("forward", "float64"),
        ("forward", "float32"),
    }
    assert "train mode" in failing(results)[0].detail


def test_a_converter_that_adds_is_compared_as_far_as_it_can_be():
    results = climbed(converters.one_is_added())
    assert not failing(results)
    assert {r.rung for r in results if r.passed} >= {"forward", "loss"}


def test_weights_that_are_fused_are_listed():
    results = climbed(converters.weight_norm_is_fused())
    assert not failing(results)
    assert {r.rung for r in results if r.passed} >= {"forward", "loss"}
    remarks = "\n".join(r for x in results for r in x.remarks)
    for entry in ("original0", "original1"):
        assert f"fc.parametrizations.weight.{entry}" in remarks


WRONG = {
    "linen.BatchNorm": (norms.linen_norm, [("bn", "biased")]),
    "linen.BatchNorm, no bias": (partial(norms.linen_norm, bias=False), [("bn", "biased")]),
    "linen.BatchNorm, its momentum": (
        partial(norms.linen_norm, 0.99),
        [("bn", "biased"), ("bn", "momentum")],
    ),
    "linen.BatchNorm, its momentum, no bias": (
        partial(norms.linen_norm, 0.99, False),
        [("bn", "biased"), ("bn", "momentum")],
    ),
    "GELU by tanh": (partial(residual.gelus, 1), [("net.1", "tanh")]),
    "GELU by tanh twice": (partial(residual.gelus, 2), [("net.1", "tanh"), ("net.3", "tanh")]),
    "GRU": (recurrent.reset_before_the_product, [("gru", "reset")]),
    "LSTM": (recurrent.gates_in_another_order, [("lstm", "gate")]),
    "padding": (converters.padding_is_trained, [("words", "padding")]),
    "transposed kernel": (partial(convolutions.unet, flipped=False), [("up", "flipped")]),
    "block, both faults": (
        partial(residual.block, True, 1e-6),
        [("act1", "tanh"), ("act2", "tanh"), ("norm1", "eps"), ("norm2", "eps")],
    ),
    "block, both faults, no names": (
        partial(residual.block, True, 1e-6, False),
        [("act1", "tanh"), ("act2", "tanh"), ("norm1", "eps"), ("norm2", "eps")],
    ),
    "block, GELU at two places, no names": (
        partial(residual.block, True, 1e-5, False),
        [("act1", "tanh"), ("act2", "tanh")],
    ),
    "block, eps at two places, no names": (
        partial(residual.block, False, 1e-6, False),
        [("norm1", "eps"), ("norm2", "eps")],
    ),
    "SAME": (partial(convolutions.stem, "SAME"), [("conv1", "SAME")]),
    "SAME, automatic names": (
        partial(convolutions.stem, "SAME", named=False),
        [("conv1", "SAME")],
    ),
    "SAME in the pool": (partial(convolutions.stem, pool="SAME"), [("maxpool", "SAME")]),
    "SAME in both": (
        partial(convolutions.stem, "SAME", "SAME"),
        [("conv1", "SAME"), ("maxpool", "SAME")],
    ),
    "SAME in both, automatic names": (
        partial(convolutions.stem, "SAME", "SAME", False),
        [("conv1", "SAME"), ("maxpool", "SAME")],
    ),
}
"""By name, the maker and what must be named: (module, words of the cause)."""


LONG = "block, both faults", "block, GELU at two places, no names"
"""Run by `make proof` alone: the others of the block show the same."""


@pytest.mark.parametrize(
    "make, expected",
    [
        pytest.param(*case, id=name, marks=[pytest.mark.proof] if name in LONG else [])
        for name, case in WRONG.items()
    ],
)
def test_every_fault_has_its_place_and_cause(make, expected):
    results = climbed(make(), FIRST)
    assert failing(results)
    missing = [e for e in expected if not is_named(results, *e)]
    assert not missing, (missing, faults(results), said(results))
    blamed = {place for f in faults(results) for place in (f.module, *f.places)}
    assert blamed == {module for module, _ in expected}


def test_the_biased_variance_can_be_accepted():
    accepted = ("biased running variance",)
    results = climbed(norms.linen_norm(accept=accepted))
    assert_passes(results)
    remarks = [remark for r in results for remark in r.remarks]
    assert any(r.startswith("accepted") and "biased" in r for r in remarks), remarks
    other = climbed(norms.linen_norm(0.99, accept=accepted), FIRST)
    assert is_named(other, "bn", "momentum")


def test_a_zero_gradient_does_not_hide_the_fault():
    results = climbed(attention.values_without_gradient(), FIRST)
    assert {r.rung for r in failing(results)} == {"gradients"}
    why = failing(results)[0].diagnosis
    assert why is not None and (why.module or "").startswith("value")
    assert any(cause in (why.cause or "") for cause in STOPPED), why.text
    assert not any("key" in (f.module, *f.places) for f in faults(results))


def test_weights_that_are_not_tied_are_named():
    results = climbed(converters.untied())
    assert {r.rung for r in failing(results)} >= {"gradients"}
    named = is_named(results, "words", "tied") or is_named(results, "head", "tied")
    assert named, said(results)
    assert "loss is scaled" not in said(results)


def test_a_gradient_that_is_stopped_in_the_loss_is_no_layers_fault():
    results = climbed(optimizers.stopped_in_the_loss(), FIRST)
    assert {r.rung for r in failing(results)} == {"gradients"}
    assert "the gradient of the loss by the outputs departs" in said(results)
    assert not any(f.module in ("fc1", "fc2") for f in faults(results))


def test_a_gradient_that_is_stopped_in_the_net_is():
    results = climbed(optimizers.stopped_in_the_net(), FIRST)
    assert {r.rung for r in failing(results)} == {"gradients"}
    assert "the gradient of the loss by the outputs departs" not in said(results)
    causes = [f.cause or "" for f in faults(results)]
    assert any(word in cause for cause in causes for word in STOPPED), said(results)


@pytest.mark.parametrize(
    "make, causes",
    [
        (optimizers.rmsprop_eps, ["inside the root"]),
        (optimizers.rmsprop_defaults, ["inside the root", "0.9"]),
    ],
)
def test_every_difference_of_an_optimizer_is_named(make, causes):
    results = climbed(make(), ("forward", "optimizer", "trajectory"))
    found = [f.cause or "" for f in faults(results)]
    assert failing(results)
    assert all(any(cause in text for text in found) for cause in causes), said(results)


SHIFTED = [("layer", 2000), ("batch", 2000), ("group", 2000), ("batch", 50), ("group", 50)]


@pytest.mark.parametrize("kind, mean", SHIFTED, ids=lambda value: str(value))
def test_a_variance_in_one_pass_is_said_to_be_noisy(kind, mean):
    results = climbed(norms.shifted(kind, mean))
    if mean == 2000 or failing(results):
        assert "the variance is computed in one pass" in said(results)
        assert re.search("noise of JAX|JAX is the noisy side", said(results))
    assert not re.search("(nothing|no module) departs", said(failing(results)))


@pytest.mark.parametrize("make", [optimizers.haiku, optimizers.vit])
def test_a_normal_that_is_cut_is_named(make):
    results = climbed(make(), ("init",))
    assert [r.passed for r in results] == [False]
    assert "cut at two deviations" in said(results)


def test_variables_of_another_net_are_told_by_name():
    model = create_model("resnet18", num_classes=10)
    with pytest.raises(InputError) as told:
        parity.to_torch(converters.foreign_variables(), model)
    text = str(told.value)
    assert "\n" not in text
    for name in ("conv_init", "bn_init", "Dense_0", "layer1.0.conv1", "fc"):
        assert name in text


MISTAKES = {
    "no_such_entry": ("KeyError", "converted(lambda s"),
    "not_transposed": ("ScopeParamShapeError", "linen.Dense(3"),
    "not_converted": ("ScopeParamNotFoundError", "linen.Dense(3"),
    "no_such_variable": ("KeyError", "applied(lambda p, x: x @ p['W']"),
    "shapes_do_not_fit": ("TypeError", "p['w'].T"),
    "no_such_attribute": ("AttributeError", "nothing.apply"),
}
"""By function, the error's type and a part of the line that it arises in."""


def assert_told(status, printed, function):
    """One line: the error, and the user's file and the line's number; exit status 2."""
    kind, part = MISTAKES[function]
    assert status == 2, printed
    assert printed.startswith("error: ") and printed.count("\n") == 1, printed
    assert kind in printed
    found = re.search(r"(\S*errors\.py):(\d+)", printed)
    assert found, printed
    path = Path(found[1])
    lines = path.read_text().splitlines() if path.is_absolute() else source()
    assert part in lines[int(found[2]) - 1].replace('"', "'"), printed


def source():
    return Path(errors.__file__).read_text().splitlines()


@pytest.mark.parametrize("function", MISTAKES)
def test_a_users_mistake_is_one_line(function, tmp_path, capsys):
    options = ["run", "--pair", f"ports.errors:{function}", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        cli.run(main, Options, args=options, prog="parity", examples=EXAMPLES)
    assert_told(stop.value.code, capsys.readouterr().err, function)
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_it_alike(tmp_path):
    function, tests = "no_such_variable", Path(errors.__file__).parents[1]
    own = f"import sys\nsys.path.append({str(tests)!r})\nfrom ports.errors import {function}\n"
    (tmp_path / "own.py").write_text(own)
    command = [sys.executable, "-m", "parity", "run", "--pair", f"own:{function}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert_told(done.returncode, done.stderr, function)
    assert not (tmp_path / "runs").exists()
