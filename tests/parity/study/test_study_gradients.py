"""The gradient at every layer, of a training's start and of its checkpoints."""

import json

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from jax_impl.data.datasets import load_digits
from jax_impl.torch_random.generator import Generator
from parity.commands import train_jax
from parity.pairs.pair import create_pair
from parity.pairs.weights import to_torch
from parity.shell.train_options import TrainOptions
from parity.study.gradients import IMAGES, main, norms

MODEL = "simple_cnn:channels=2,3:hidden=4"


def test_norms_are_those_of_the_twin():
    pair = create_pair(MODEL)
    variables, split = pair.model.init(0), load_digits().train
    images, labels = split.images[:32], split.labels[:32]
    found = norms(pair.model, variables, images, labels)
    module = pair.make_torch()
    module.load_state_dict(to_torch(variables, pair.model))
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
    functional.cross_entropy(module(inputs), torch.from_numpy(labels).long()).backward()
    assert found.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert found[name] == pytest.approx(float(parameter.grad.norm()), rel=1e-4)


def test_of_every_epoch_from_the_start_on(tmp_path, capsys):
    out = tmp_path / "run"
    train_jax.run(TrainOptions(model=MODEL, data="digits", epochs=2, keep=2, out=out))
    capsys.readouterr()
    main(out)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [*lines[0]["norms"]] == ["conv1", "conv2", "fc1", "fc2"]
    pair = create_pair(MODEL)
    split = load_digits().train
    start = pair.model.init(Generator(0))
    few = split.images[:IMAGES], split.labels[:IMAGES]
    first = jax.tree.map(float, norms(pair.model, start, *few))
    assert lines[0]["norms"] == {name: first[f"{name}.weight"] for name in lines[0]["norms"]}
    assert lines[1]["norms"] != lines[0]["norms"] != lines[2]["norms"]
