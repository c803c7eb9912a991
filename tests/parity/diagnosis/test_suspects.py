"""Suspects of every legal call: they can be listed, they can be run, and they change something."""

import copy
import functools
from collections import Counter
from typing import Any

import pytest
import torch
from legal_calls import LEGAL, M, Q, S, W, X, module
from torch import nn
from torch.nn import functional as F

from parity.diagnosis.suspects import HANDLERS, Call, Changed, Intercept, backward_suspects
from parity.diagnosis.suspects import suspects as forward_suspects
from parity.diagnosis.suspects.attention import attend
from parity.diagnosis.suspects.batch_norm import normalising
from parity.diagnosis.suspects.call import NOT_LEGAL
from parity.diagnosis.suspects.multi_head import multi_head
from parity.diagnosis.suspects.norms import group_norm, layer_norm, rms_norm
from parity.diagnosis.suspects.recurrent import _Form
from parity.diagnosis.suspects.recurrent_cells import Rule

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def calls_of(thunk: Any) -> list[Call]:
    """The calls of known functions, with their arguments as they were before each."""
    calls: list[Call] = []
    interceptor = Intercept()
    interceptor.on_call = lambda _, call: calls.append(copied(call))
    with torch.no_grad(), interceptor:
        thunk()
    return calls


def copied(call: Call) -> Call:
    args, kwargs = copy.deepcopy((call.args, call.kwargs))
    return call._replace(args=args, kwargs=kwargs)


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors(v)] if isinstance(value, list | tuple) else []


def alike(a: Any, b: Any, tolerance: float = 1e-12) -> bool:
    a, b = tensors(a), tensors(b)
    return len(a) == len(b) and all(
        p.shape == q.shape
        and p.dtype == q.dtype
        and torch.allclose(p, q, tolerance, tolerance, equal_nan=True)
        for p, q in zip(a, b, strict=True)
    )


@functools.cache
def tried(key: str) -> Counter:
    """How often each (direction, function, cause) ran, failed and changed the value."""
    found: Counter = Counter()
    for call in calls_of(LEGAL[key]):
        torch.manual_seed(0)
        plain = copied(call)
        wanted = [plain.plain(), plain.args, plain.kwargs]  # buffers are written in place
        for of in (forward_suspects, backward_suspects):
            for i, (text, _) in enumerate(list(of(copied(call)))):
                fresh = copied(call)
                thunk = list(of(fresh))[i][1]
                name = of.__name__, call.name, text
                torch.manual_seed(0)
                try:
                    out = [thunk(), fresh.args, fresh.kwargs]
                except NOT_LEGAL:
                    found[*name, "failed"] += 1
                    continue
                found[*name, "ran"] += 1
                found[*name, "changed"] += not alike(out, wanted)
                found[*name, "changed value"] += not alike(out[0], wanted[0])
    return found


@pytest.mark.parametrize("key", LEGAL)
def test_every_suspect_of_a_legal_call_can_be_listed_and_tried(key):
    with torch.no_grad():
        assert tried(key)


UNCHANGED = {
    ("max_pool3d", "the padding is zeros and not minus infinity"),  # all maxima are positive
    ("relu6", "relu in the place of relu6"),  # and below six
    ("relu_", "relu6 in the place of relu_"),
    ("embedding", "row 7 is zero: it is taken for padding"),  # no such id
    ("softplus", "the threshold is 1e+30 and not 20"),  # below rounding
    ("cosine_similarity", "eps is 1e-12 and not 1e-08"),
    ("lstm_cell", "1 is added to the forget gate"),  # of a first state of zeros
}


@torch.no_grad()
def test_each_suspect_runs_somewhere_and_changes_something():
    total = sum((tried(key) for key in LEGAL), Counter())
    names = {name[:3] for name in total}
    assert len(names) > 2500
    idle = {name for name in names if not total[*name, "ran"]}
    assert not idle
    still = {name[1:] for name in names if name[0] == "suspects" and not total[*name, "changed"]}
    assert still == UNCHANGED
    failed = sum(count for name, count in total.items() if name[3] == "failed")
    assert failed < 0.1 * sum(count for name, count in total.items() if name[3] == "ran")


@torch.no_grad()
def test_a_backward_suspect_leaves_the_value():
    total = sum((tried(key) for key in LEGAL), Counter())
    changed = {
        n[1:3]
        for n, c in total.items()
        if n[0] == "backward_suspects" and c and n[3] == "changed value"
    }
    assert not changed


def test_legal_calls_reach_every_function_that_has_suspects():
    seen = {call.name for thunk in LEGAL.values() for call in calls_of(thunk)}
    assert seen == set(HANDLERS)


def own(call: Call) -> Any:
    """Our own implementation of a call's function, in PyTorch's way."""
    if call.name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        form = _Form.of(call)
        assert form is not None
        return form.by(Rule())
    functions = {
        "scaled_dot_product_attention": attend,
        "multi_head_attention_forward": multi_head,
        "batch_norm": normalising(),
        "layer_norm": layer_norm(),
        "rms_norm": rms_norm(),
        "group_norm": group_norm(),
    }
    return call.by(functions[call.name]) if call.name in functions else None


OWN = [
    key for key in LEGAL
    if key.startswith(("lstm", "gru", "rnn", "attention", "heads", "batch_norm", "layer_norm",
                       "rms_norm", "group_norm")) and "cell" not in key
]  # fmt: skip


@pytest.mark.parametrize("key", OWN)
@torch.no_grad()
def test_our_own_implementations_are_pytorchs(key):
    checked = 0
    for call in calls_of(LEGAL[key]):
        ours = own(call)
        if ours is None:
            continue
        fresh, wanted = copied(call), copied(call)
        torch.manual_seed(0)
        result = wanted.plain()
        torch.manual_seed(0)
        found = fresh.by(ours.call.function)() if "norm" in call.name else ours()
        if "drop" in key or (key.endswith("deep")) or key == "heads":
            assert [t.shape for t in tensors(found)] == [t.shape for t in tensors(result)]
        else:
            assert alike(found, result, 1e-11)
            assert alike([fresh.args, fresh.kwargs], [wanted.args, wanted.kwargs])
        checked += 1
    assert checked


def only(call: Call, part: str) -> Any:
    """The suspect whose text has a part."""
    (found,) = (thunk for text, thunk in forward_suspects(call) if part in text)
    return found


@torch.no_grad()
def test_two_suspects_of_one_call():
    (call,) = (c for c in calls_of(module(nn.LayerNorm(8), S)) if c.name == "layer_norm")
    first = only(call, "eps is 0.001")
    assert isinstance(first, Changed)
    both = only(first.call, "unbiased")()
    a = call.given
    var, mean = torch.var_mean(S, -1, correction=1, keepdim=True)
    expected = (S - mean) / (var + 1e-3).sqrt() * a["weight"] + a["bias"]
    assert alike(both, expected)
    assert alike(only(only(call, "unbiased").call, "eps is 0.001")(), expected)


@torch.no_grad()
def test_a_conv_of_another_padding_and_stride():
    (call,) = (c for c in calls_of(LEGAL["conv2d"]) if c.name == "conv2d")
    both = only(only(call, "padding is missing").call, "stride is 1")()
    assert alike(both, F.conv2d(X, *call.args[1:3]))
    three = only(only(only(call, "padding is missing").call, "stride is 1").call, "flipped")()
    assert alike(three, F.conv2d(X, call.args[1].flip(2, 3), call.args[2]))


@torch.no_grad()
def test_a_call_in_place_writes_what_the_suspect_gives():
    x = S.clone()
    (call,) = (Call("relu_", torch.relu_, (x,), {}),)
    out = only(call, "silu in the place")()
    assert alike(x, F.silu(S)) and alike(out, x)
    x = S.clone()
    out = only(Call("relu_", torch.relu_, (x,), {}), "not in place")()
    assert alike(x, S) and alike(out, S.relu())


def test_only_the_models_own_calls_are_counted():
    model = nn.Sequential(nn.Linear(8, 3), nn.ReLU()).double()
    values: list[torch.Tensor] = []
    with torch.no_grad(), Intercept() as interceptor:
        copied = copy.deepcopy(model)  # reads .data of parameters

        def keep(_module: nn.Module, _inputs: Any, out: Any) -> None:
            values.append(out)

        for child in copied.modules():
            child.register_forward_hook(keep)
        copied(M)
    assert interceptor.count == 2 and len(values) == 3


def test_a_hook_of_the_diagnosis_may_detach():
    case: dict[str, Any] = {"__name__": "parity.diagnosis.hooks"}
    exec("def hook(x): return x.detach()", case)
    with Intercept() as interceptor:
        case["hook"](M)
        assert interceptor.count == 0
        M.detach()
    assert interceptor.count == 1


def gradients(thunk: Any, of: list[torch.Tensor]) -> list[torch.Tensor]:
    outputs = [t for t in tensors(thunk()) if t.requires_grad]
    loss = sum((t * torch.linspace(1, 2, t.numel()).view(t.shape)).sum() for t in outputs)
    assert isinstance(loss, torch.Tensor)
    found = torch.autograd.grad(loss, of, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(of, found, strict=True)]


def backward(call: Call, part: str) -> Any:
    (found,) = (thunk for text, thunk in backward_suspects(call) if part in text)
    return found


def test_gradients_at_kinks_are_those_of_jax():
    x = torch.tensor([-1.0, 0.0, 0.5, 6.0, 7.0], requires_grad=True)
    slopes = {
        ("relu6", F.relu6, "limits is a half"): [0, 0.5, 1, 0.5, 0],
        ("relu6", F.relu6, "limits is one"): [0, 1, 1, 1, 0],
        ("relu", torch.relu, "zero is a half"): [0, 0.5, 1, 1, 1],
        ("relu", torch.relu, "zero is one"): [0, 1, 1, 1, 1],
        ("relu", torch.relu, "unchanged"): [1, 1, 1, 1, 1],
        ("abs", torch.abs, "zero is one"): [-1, 1, 1, 1, 1],
        ("leaky_relu", F.leaky_relu, "zero is one"): [0.01, 1, 1, 1, 1],
        ("round", torch.round, "straight through"): [1, 1, 1, 1, 1],
    }
    for (name, function, part), slope in slopes.items():
        out = backward(Call(name, function, (x,), {}), part)()
        assert torch.equal(out, function(x))
        (found,) = torch.autograd.grad(out.sum(), x)
        assert torch.allclose(found, torch.tensor(slope).to(found.dtype)), (name, part)


def test_a_gradient_stopped_at_one_operand():
    q, k, v = (t.clone().requires_grad_() for t in (Q, Q + 1, W))
    call = Call("scaled_dot_product_attention", F.scaled_dot_product_attention, (q, k, v), {})
    plain = gradients(call.plain, [q, k, v])
    for i, name in enumerate(("query", "key", "value")):
        found = gradients(backward(call, f"through the {name}"), [q, k, v])
        assert not found[i].any()
        others = [j for j in range(3) if j != i]
        assert alike([found[j] for j in others], [plain[j] for j in others])


def test_a_detach_is_taken_away():
    x = S.clone().requires_grad_()
    calls: list[Call] = []
    interceptor = Intercept()
    interceptor.on_call = lambda _, call: calls.append(call)
    with interceptor:
        x.detach(), x.data  # pyright: ignore
    assert [call.name for call in calls] == ["detach", ".data"]
    for call in calls:
        (thunk,) = (thunk for _, thunk in backward_suspects(call))
        assert alike(gradients(thunk, [x]), gradients(lambda: x * 1, [x]))


def test_the_row_of_the_padding_is_trained():
    table = M.clone().requires_grad_()
    ids = torch.tensor([0, 1, 1])
    call = Call("embedding", F.embedding, (ids, table), {"padding_idx": 0})
    (found,) = gradients(backward(call, "row 0 (padding_idx) is trained"), [table])
    assert found[0].any()
    assert alike(found, gradients(lambda: table[ids], [table])[0])


def test_statistics_without_gradient():
    x = X.clone().requires_grad_()
    made = module(nn.GroupNorm(2, 4), x)
    calls: list[Call] = []
    interceptor = Intercept()
    interceptor.on_call = lambda _, call: calls.append(call)
    with interceptor:
        made()
    call = calls[-1]
    found = gradients(backward(call, "through the statistics"), [x])

    def expected() -> torch.Tensor:
        grouped = x.view(2, 2, -1)
        var, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
        out = ((grouped - mean.detach()) / (var.detach() + 1e-5).sqrt()).view(x.shape)
        return out * call.given["weight"].view(-1, 1, 1) + call.given["bias"].view(-1, 1, 1)

    assert alike(found, gradients(expected, [x]))


@pytest.mark.parametrize("factor", [-1.0, 0.5, 2.0])
def test_a_gradient_is_scaled(factor):
    x = S.clone().requires_grad_()
    call = Call("tanh", torch.tanh, (x,), {})
    found = gradients(backward(call, f"multiplied by {factor:g} "), [x])
    assert alike(found, [factor * g for g in gradients(call.plain, [x])])
