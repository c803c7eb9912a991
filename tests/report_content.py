"""A report's content as a run makes it: two models, one with a fault, and planted bugs."""

import math
from typing import Any

import numpy as np

RUNGS = (
    "init", "forward", "loss", "gradients", "batch_stats", "optimizer", "optimizers",
    "trajectory", "eval_after_training",
)  # fmt: skip
NOISE = "x the quieter framework's float32 noise"
FAULT = "layer2.0.bn2"


def content() -> dict[str, Any]:
    """Made anew at each call, always the same."""
    rng = np.random.default_rng(0)
    results = [
        _result("all", "data", "float64", True, 0, 0, "differing values"),
        *_small_cnn(rng),
        *_resnet(rng),
    ]
    return {
        "schema": 4,
        "stopped": None,
        "environment": {
            "command": "parity run --models simple_cnn resnet18",
            "commit": "0123abc",
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64",
            "cpu": "AMD EPYC",
            "cores": 2,
            "device": "cpu",
            "precision": "JAX matmul precision 'highest' (no TF32); PyTorch TF32 off",
            "packages": {"jax": "0.10.2", "flax": "0.12.8", "torch": "2.14.1", "numpy": "2.4.6"},
        },
        "data": {"name": "cifar10", "reason": "data: CIFAR-10, prepared from an archive"},
        "results": results,
        "comparison": _comparison(),
        "mutants": _mutants(),
    }


def _small_cnn(rng: np.random.Generator) -> list[dict[str, Any]]:
    names = ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2"]
    found = []
    for rung in RUNGS:
        modules = _modules(rng, names, None) if rung == "forward" else []
        steps = _steps(rng, 1.0) if rung == "trajectory" else []
        more = {"modules": modules, "steps": steps}
        found += [
            _result("simple_cnn", rung, "float64", True, 3e-15, 1e-12, "relative error", **more),
            _result("simple_cnn", rung, "float32", True, 1.4, 16.0, NOISE, **more),
        ]
    found.append(_result("simple_cnn", "forward", "bfloat16", True, 2.5, 16.0, NOISE))
    losses = "relative difference of epoch losses"
    points = "points of test accuracy"
    found += [
        _result("simple_cnn", "accuracy", "float32", True, 0.0334, 0.05, losses),
        _result("simple_cnn", "accuracy", "float32", True, 0.16, 1.89, points),
    ]
    return found


def _resnet(rng: np.random.Generator) -> list[dict[str, Any]]:
    names = ["conv1", "bn1", "relu", "maxpool"]
    for layer in range(1, 5):
        for block in range(2):
            names += [f"layer{layer}.{block}.{part}" for part in ("conv1", "bn1", "conv2", "bn2")]
        if layer > 1:
            names += [f"layer{layer}.0.downsample.{part}" for part in range(2)]
    names += ["avgpool", "fc"]
    diagnosis = {
        "module": FAULT,
        "error": 3.1e-4,
        "before": "layer2.0.conv2",
        "before_error": 2.2e-15,
        "cause": "epsilon of the batch norm: 1e-3 instead of 1e-5",
        "faults": [],
        "text": "The input of layer2.0.bn2 agrees and its output does not; an epsilon of 1e-3 in "
        "PyTorch gives JAX's output to 4.0e-16.",
        "follows": False,
    }
    nothing = dict.fromkeys(("module", "error", "before", "before_error", "cause"))
    text = "follows from what was found before: layer2.0.bn2: epsilon"
    follows = {**nothing, "faults": [], "text": text, "follows": True}
    found = []
    for rung in RUNGS:
        bad = rung not in ("init", "optimizers")
        own = diagnosis if rung == "forward" else follows if bad else None
        more: dict[str, Any] = {"diagnosis": own}
        more["modules"] = _modules(rng, names, FAULT) if rung == "forward" else []
        more["steps"] = _steps(rng, 1e10) if rung == "trajectory" else []
        measured = None if rung == "eval_after_training" else 2.3e-3 if bad else 6e-15
        found.append(
            _result("resnet18", rung, "float64", not bad, measured, 1e-12, "relative error", **more)
        )
        if rung != "optimizers":
            bad = bad and rung != "batch_stats"
            why = follows if bad else None
            found.append(
                _result("resnet18", rung, "float32", not bad, 812.0, 16.0, NOISE, diagnosis=why)
            )
    return found


def _result(
    model: str, rung: str, dtype: str, passed: bool, measured: float | None, tolerance: float,
    unit: str, modules: Any = (), steps: Any = (), diagnosis: Any = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "model": model,
        "rung": rung,
        "dtype": dtype,
        "passed": passed,
        "measured": measured,
        "tolerance": tolerance,
        "unit": unit,
        "detail": f"largest of 62 tensors: layer4.0.downsample.0.weight of {rung}: difference "
        "4.2e-06, noise 3.4e-06 in JAX and 2.1e-06 in PyTorch, relative",
        "modules": list(modules),
        "remarks": ["the norm computes in float32 inside, in JAX"] if rung == "loss" else [],
        "steps": list(steps),
        "diagnosis": diagnosis,
    }


def _modules(rng: np.random.Generator, names: list[str], fault: str | None) -> list[dict[str, Any]]:
    found, wrong = [], False
    for depth, name in enumerate(names):
        wrong = wrong or name == fault
        scale = (1 + depth) ** 0.5 * rng.uniform(0.6, 1.6)
        found.append(
            {
                "name": name,
                "difference": 3e-4 * scale if wrong else 0.0 if depth < 2 else 4e-16 * scale,
                "float32_difference": 3e-4 * scale if wrong else 2e-7 * scale,
                "our_noise": 1.5e-7 * scale * rng.uniform(0.7, 1.3),
                "their_noise": None if depth == len(names) - 2 else 1.2e-7 * scale,
            }
        )
    return found


def _steps(rng: np.random.Generator, scale: float) -> list[dict[str, Any]]:
    found = []
    for step in range(61):
        loss = 0.6 + 1.7 * math.exp(-step / 20) + rng.normal(0, 0.05)
        grown = 1.08**step * rng.uniform(0.8, 1.25)
        found.append(
            {
                "step": step,
                "float64": 0.0 if step == 0 else scale * 3e-16 * grown,
                "float32": 0.0 if step == 0 else None if scale > 1 and step > 57 else 2e-7 * grown,
                "our_own": 1.3e-7 * grown,
                "their_own": None if scale > 1 else 2.6e-7 * grown,
                "our_loss": None if scale > 1 and step > 57 else loss,
                "their_loss": loss * (1 + (scale > 1) * 0.002 * step),
            }
        )
    return found


def _comparison() -> list[dict[str, Any]]:
    rows = (
        ("simple_cnn", "JAX", 2_122_186, 15_700_000, 29.6, [1.230, 0.849, 0.655, 0.488, 0.339],
         0.7284, "5 epochs", [0.64, 0.69, 0.72, 0.73, 0.7285], "epoch"),
        ("simple_cnn", "PyTorch", 2_122_186, 15_400_000, 39.7, [1.228, 0.849, 0.653, 0.482, 0.328],
         0.7268, "5 epochs", [0.64, 0.69, 0.71, 0.73, 0.7265], "epoch"),
        ("resnet18", "JAX", 11_181_642, 60_500_000, 119.8, [2.477, 1.955, 1.818, 1.759, 1.649],
         0.4150, "1,860 of 15,625 steps", [0.25, 0.31, 0.35, 0.38, 0.415], "part"),
        ("resnet18", "PyTorch", 11_181_642, 74_000_000, 224.6, [2.439, 1.906, 1.773, 1.702, 1.605],
         0.4248, "1,860 of 15,625 steps", [0.26, 0.3, 0.36, 0.37, 0.425], "part"),
    )  # fmt: skip
    keys = (
        "model", "framework", "parameters", "forward_flops", "epoch_seconds", "losses", "accuracy",
        "extent", "accuracies", "unit",
    )  # fmt: skip
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _mutants() -> list[dict[str, Any]]:
    """Fifty: one is missed, one found at another rung, two blamed on the wrong module."""
    kinds = {
        "layers": ("forward", "epsilon", "layer2.0.bn1"),
        "padding": ("forward", "padding", "conv1"),
        "gradients": ("gradients", "stop_gradient", "layer3.1.conv2"),
        "statistics": ("batch_stats", "momentum", "bn1"),
        "optimizer": ("optimizer", "bias correction", None),
    }
    found = []
    for group, (rung, cause, module) in kinds.items():
        for number in range(10):
            found.append(
                {
                    "name": f"{cause} off, variant {number} of {group}",
                    "group": group,
                    "rung": rung,
                    "found_rung": rung,
                    "module": module,
                    "found_module": module,
                    "cause": cause,
                    "found_cause": cause,
                    "caught": True,
                }
            )
    found[7] |= {"found_rung": None, "found_module": None, "found_cause": None, "caught": False}
    found[13] |= {"found_rung": "loss"}
    found[25] |= {"found_module": "layer3.1.bn2"}
    return found
