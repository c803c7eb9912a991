"""What nobody chose: inputs, outputs, labels, converters and options of every sort."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import parity
from jax_impl.errors import InputError
from parity.checking import climb_all

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def as_it_is(state):
    return {name: jnp.asarray(value) for name, value in state.items()}


def linear(p, x):
    return x @ p["weight"].T + p["bias"]


def pair(
    torch_after: Callable = lambda y: y,
    jax_after: Callable = lambda y: y,
    to_flax: Callable = as_it_is,
    **fields: Any,
) -> parity.Pair:
    """A linear layer, and what is made of its outputs."""

    class Net(nn.Linear):
        def forward(self, input: torch.Tensor) -> Any:
            return torch_after(super().forward(input))

    fields = {"example_inputs": X, **fields}
    return parity.Pair(
        "layer", lambda: Net(6, 3), lambda p, x: jax_after(linear(p, x)), to_flax, **fields
    )


def climbed(made: parity.Pair, *rungs: str, **options: Any) -> list[parity.Result]:
    chosen = {"rungs": rungs} if rungs else {}
    return list(climb_all(made, steps=2, **chosen, **options))


def verdicts(results: list[parity.Result]) -> dict[str, set[bool | None]]:
    found: dict[str, set[bool | None]] = {}
    for r in results:
        found.setdefault(r.rung, set()).add(r.passed)
    return found


class Identity(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def frozen() -> nn.Module:
    return nn.Linear(6, 3).requires_grad_(False)


WITHOUT_LOSS = {
    "whole numbers": (lambda y: y.argmax(1), lambda y: y.argmax(1)),
    "truths": (lambda y: y > 0, lambda y: y > 0),
    "complex numbers": (torch.fft.fft, jnp.fft.fft),
}


@pytest.mark.parametrize("after", WITHOUT_LOSS.values(), ids=WITHOUT_LOSS)
def test_outputs_of_which_no_loss_can_be_taken(after):
    found = verdicts(climbed(pair(*after)))
    assert found["forward"] == {True}
    assert found["loss"] == found["gradients"] == found["trajectory"] == {None}


def test_imaginary_parts_are_compared():
    found = climbed(pair(torch.fft.fft, lambda y: jnp.conj(jnp.fft.fft(y))), "forward")
    assert [r.passed for r in found] == [False, False]


def test_a_model_without_anything_to_train():
    empty = parity.Pair("same", Identity, lambda p, x: x, lambda state: {}, X)
    still = parity.Pair("frozen", frozen, linear, as_it_is, X)
    for made in (empty, still):
        found = verdicts(climbed(made))
        assert False not in {v for values in found.values() for v in values}, found
        assert found["forward"] == {True} and found["optimizer"] == found["trajectory"] == {None}


@dataclasses.dataclass
class Outputs:
    """Of a type that JAX does not know."""

    logits: Any
    name: str = "outputs"


@pytest.mark.parametrize("wrap", [lambda y: Outputs(y), lambda y: [y, "text", None]])
def test_outputs_of_a_type_that_jax_does_not_know(wrap):
    loss = parity.Loss(
        lambda o, y: F.cross_entropy(_first(o), y), lambda o, y: (_first(o) ** 2).mean()
    )
    right = loss._replace(
        jax=lambda o, y: -jnp.mean(jax.nn.log_softmax(_first(o))[jnp.arange(4), y])
    )
    made = pair(wrap, wrap, labels=np.arange(4) % 3, loss=right)
    found = verdicts(climbed(made))
    assert found["loss"] == found["gradients"] == {True}
    wrong = dataclasses.replace(made, loss=loss)
    assert verdicts(climbed(wrong, "loss"))["loss"] == {False}


def _first(outputs: Any) -> Any:
    return outputs.logits if isinstance(outputs, Outputs) else outputs[0]


def mixed(kind: str) -> Callable:
    """Converters that do not only move numbers."""

    def convert(state):
        w = state["weight"]
        if kind == "by sign":
            w = w if w.sum() > 0 else -w
        elif kind == "magnitudes":
            w = np.abs(w)
        elif kind == "doubled in place":
            w *= 2
        return {"weight": jnp.asarray(w), "bias": jnp.asarray(state["bias"])}

    return convert


@pytest.mark.parametrize("kind", ["by sign", "magnitudes", "doubled in place"])
def test_no_optimizer_is_blamed_for_a_converter(kind):
    results = climbed(pair(to_flax=mixed(kind)))
    assert False in verdicts(results)["forward"] or kind == "by sign"
    assert verdicts(results)["optimizer"] == {True}
    assert any("weight" in remark for r in results for remark in r.remarks)
    assert "optimizer" not in {r.rung for r in results if r.passed is False}


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.fc = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(x))


def in_train_mode_alone(p, x, train, eps=1e-3):
    mean, var = p["bn.running_mean"], p["bn.running_var"]
    if train:
        n, mean, var = len(x), x.mean(0), x.var(0)
        p = p | {
            "bn.running_mean": 0.9 * p["bn.running_mean"] + 0.1 * mean,
            "bn.running_var": 0.9 * p["bn.running_var"] + 0.1 * var * n / (n - 1),
        }
    eps = eps if train else 1e-5
    x = (x - mean) / jnp.sqrt(var + eps) * p["bn.weight"] + p["bn.bias"]
    return x @ p["fc.weight"].T + p["fc.bias"], p


SHIFTED = parity.Pair("shifted", Shifted, in_train_mode_alone, as_it_is, X)


def test_a_fault_in_one_mode_alone_has_its_cause():
    (wide, _) = climbed(SHIFTED, "forward")
    assert wide.diagnosis is not None
    assert wide.diagnosis.cause == "eps is 0.001 and not 1e-05, in train mode alone"


def test_a_cumulative_average_is_told_as_one():
    def cumulative() -> nn.Module:
        made = Shifted()
        made.bn = nn.BatchNorm1d(6, momentum=None)
        return made

    def apply(p, x, train):
        return in_train_mode_alone(p, x, train, 1e-5)

    results = climbed(dataclasses.replace(SHIFTED, torch_module=cumulative, jax_apply=apply))
    (first, *_) = [r for r in results if r.rung == "batch_stats"]
    assert first.diagnosis is not None
    cause = first.diagnosis.cause or ""
    assert cause == "PyTorch's momentum would be 0.1 and not None, a cumulative average"


REFUSED = {
    "a mode that is none": ({"modes": ("Train", "eval")}, "no mode named 'Train'"),
    "no mode": ({"modes": ()}, "at least one of dtypes and of modes"),
    "a precision that is none": ({"dtypes": ("float128",)}, "no precision named 'float128'"),
    "no precision": ({"dtypes": ()}, "at least one of dtypes and of modes"),
    "an empty name accepted": ({"accept": ("",)}, "would accept anything"),
    "a common word accepted": ({"accept": ("is", "eps is")}, "would accept anything"),
    "numbers that are none": ({"example_inputs": np.full((4, 6), np.nan)}, r"\(NaN\)"),
    "no examples": ({"example_inputs": np.zeros((0, 6), np.float32)}, "there is no example"),
    "labels beyond the classes": ({"labels": np.full(4, 7)}, "loss in PyTorch failed: IndexError"),
    "labels too few": ({"labels": np.zeros(2, int)}, "the loss in PyTorch failed"),
    "labels of words": ({"labels": np.array(["a"] * 4)}, "the labels failed: TypeError"),
    "a loss of each row": (
        {"loss": parity.Loss(lambda o, y: o.sum(1), lambda o, y: o.sum(1))},
        "no single number",
    ),
}


@pytest.mark.parametrize("fields, message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_before_the_work(fields, message):
    with pytest.raises(InputError, match=message) as told:
        climbed(pair(**fields))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("options", [{"batches": []}, {"steps": 0}, {"dtypes": ()}])
def test_options_that_compare_nothing_are_refused(options):
    with pytest.raises(InputError):
        list(climb_all(pair(), **options))


def test_outputs_that_is_no_function_is_refused():
    with pytest.raises(InputError, match="outputs is 'logits': give a function"):
        pair(outputs="logits")


def test_a_random_converter_is_told():
    rng = np.random.default_rng(0)

    def noisy(state):
        return as_it_is(state) | {"bias": jnp.asarray(rng.normal(size=3))}

    with pytest.raises(InputError, match="other values each time"):
        climbed(pair(to_flax=noisy))


def test_complex_parameters_are_refused():
    def make() -> nn.Module:
        return nn.Linear(6, 3, dtype=torch.complex64)

    made = parity.Pair("complex", make, lambda p, x: abs(linear(p, x)), as_it_is, X)
    with pytest.raises(InputError, match="complex parameters are not compared: weight, bias"):
        climbed(made)


def test_one_name_may_be_given_for_several():
    results = climbed(pair(modes="eval", dtypes="float32", accept="no such cause"), "forward")
    assert [(r.dtype, r.passed) for r in results] == [("float32", True)]
    assert any("in vain" in remark for remark in results[-1].remarks)


def test_labels_may_be_a_list():
    assert False not in verdicts(climbed(pair(labels=[0, 1, 2, 0]), "loss"))["loss"]


class Tempered(nn.Module):
    """A parameter of no axes, as CLIP's logit_scale."""

    def __init__(self):
        super().__init__()
        self.fc, self.scale = nn.Linear(6, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.fc(x)


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_parameter_of_no_axes(factor):
    def apply(p, x):
        return factor * p["scale"] * (x @ p["fc.weight"].T + p["fc.bias"])

    found = verdicts(climbed(parity.Pair("tempered", Tempered, apply, as_it_is, X)))
    assert found["optimizer"] == {True}
    wanted = {True} if factor == 1 else {False}
    assert found["gradients"] == found["trajectory"] == found["eval_after_training"] == wanted


def only(dtype: Any, error: type[Exception]) -> Callable:
    def after(y: Any) -> Any:
        if y.dtype != dtype:
            raise error("only float32 here")
        return jax.nn.gelu(y)

    return after


@pytest.mark.parametrize("error", [AssertionError, ValueError, KeyError])
@pytest.mark.parametrize("right", [True, False])
def test_a_model_that_runs_in_float32_alone(error, right):
    theirs = (lambda y: F.gelu(y, approximate="tanh")) if right else F.gelu
    sgd = parity.named_optimizer("sgd", lr=0.1)
    made = pair(theirs, only(jnp.float32, error), optimizer=sgd)
    results = climbed(made, "forward", "gradients", "trajectory")
    assert {r.dtype for r in results} == {"float32"}
    assert {r.passed for r in results} == {right}
    assert any("only float32 here" in remark for r in results for remark in r.remarks)
    texts = [r.diagnosis.text for r in results if r.diagnosis]
    assert right or "gelu by tanh in the place of gelu" in texts[0]
    assert all("follows from" in text for text in texts[1:])


@pytest.mark.parametrize(
    "leaf, kind",
    [
        (torch.ones(3), "torch Tensor"),
        (np.array(["a"]), "numpy ndarray"),
        (np.str_("a"), "numpy str_"),
        (jax.ShapeDtypeStruct((3,), jnp.float32), "jax ShapeDtypeStruct"),
    ],
)
def test_a_leaf_that_is_no_array_of_numbers_is_told_with_its_path(leaf, kind):
    with pytest.raises(InputError, match=rf"\['other'\] is a {kind}: give arrays of numbers"):
        climbed(pair(to_flax=lambda state: as_it_is(state) | {"other": leaf}))
