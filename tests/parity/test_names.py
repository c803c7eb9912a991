"""Modules of other names than PyTorch's, which the weights that they hold tell."""

from functools import partial

import pytest
from ports import names

from parity.checking import climb_all
from parity.pairs.naming import names_by_weights

RUNGS = "forward", "loss", "gradients"


def test_modules_are_found_by_their_weights():
    found = names.of_its_own().names_by_weights
    recorded = {path for path in found if not path.startswith(("params", "batch_stats"))}
    assert {found[path]: path for path in recorded} == {
        **names.RENAMED,
        "layer1": "layer0",
        "layer2": "layer1",
    }


@pytest.mark.parametrize(
    "leaves, modules, aliases, expected",
    [
        ([(("a", "w"), {"b.weight"})], ["b"], {}, {"a": "b"}),
        ([(("b", "w"), {"b.weight"})], ["b", "c.b"], {}, {}),
        # Of a module inside of another alone the inner one has the weight itself.
        ([(("a", "w"), {"b.c.weight"})], ["b", "b.c"], {}, {"a": "b.c"}),
        ([(("a", "d", "w"), {"b.weight"})], ["b"], {}, {"a.d": "b"}),
        # Two hold it, or two of PyTorch's: none is chosen.
        ([(("a", "w"), {"b.weight"}), (("d", "w"), {"b.weight"})], ["b"], {}, {}),
        ([(("a", "w"), {"b.weight"})], ["b", "c"], {"c.weight": "b.weight"}, {}),
        # Called as a container of PyTorch's, and one of the modules in it.
        (
            [(("b", "w"), {"b.c.weight"}), (("a", "w"), {"b.d.weight"})],
            ["b", "b.c", "b.d"],
            {},
            {"b": "b.c", "a": "b.d"},
        ),
        # Called as another one, whose weights are elsewhere or nowhere.
        (
            [(("b", "w"), {"c.weight"}), (("a", "w"), {"b.weight"})],
            ["b", "c"],
            {},
            {"b": "c", "a": "b"},
        ),
        (
            [(("b", "w"), {"c.weight", "d.weight"}), (("a", "w"), {"b.weight"})],
            ["b", "c", "d"],
            {},
            {"b": "JAX's b", "a": "b"},
        ),
    ],
)
def test_a_name_is_told_by_weights_alone_where_they_tell(leaves, modules, aliases, expected):
    found = names_by_weights(leaves, modules, aliases)
    assert {path: found[path] for path in found if "d" not in path or path in expected} == expected


def test_a_right_port_of_other_names_passes():
    results = list(climb_all(names.of_its_own(), RUNGS))
    assert all(r.passed for r in results), [r.diagnosis for r in results]
    assert not [remark for r in results for remark in r.remarks]
    forward = next(r for r in results if r.rung == "forward" and r.dtype == "float64")
    assert {"conv", "layer1", "layer2.bn", "fc"} <= {module.name for module in forward.modules}


@pytest.mark.parametrize(
    "make, expected",
    [
        (partial(names.of_its_own, "SAME"), {("layer2.conv", "SAME")}),
        (
            partial(names.of_its_own, "SAME", "SAME"),
            {("pool", "SAME"), ("layer2.conv", "SAME")},
        ),
    ],
)
def test_faults_of_several_modules_of_other_names_are_found(make, expected):
    results = list(climb_all(make(), RUNGS))
    faults = [f for r in results if r.diagnosis for f in r.diagnosis.faults]
    for module, word in expected:
        assert any(module in f.places and word in (f.cause or "") for f in faults), faults
    assert all(f.cause for f in faults), faults
