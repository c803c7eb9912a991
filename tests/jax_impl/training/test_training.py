"""Training in both packages: steps, epochs with a partial batch, evaluation."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from training_support import random_split, torch_loader

import torch_ref.errors
import torch_ref.models
import torch_ref.precision
import torch_ref.train
from jax_impl.data import datasets
from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from jax_impl.ops import platform
from jax_impl.training import optim
from jax_impl.training.epoch import CHUNK, make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import fit
from jax_impl.training.state import create_state
from jax_impl.training.step import cross_entropy, make_train_step
from parity.pairs.weights import to_arrays, to_torch


@pytest.mark.parametrize("name, batch_size", [("simple_cnn", 32), ("resnet18", 16)])
def test_training_in_float64_is_torchs(name, batch_size):
    """Two epochs with a partial last batch: losses, parameters and statistics to 1e-12.

    By SGD: Adam's first steps divide by gradients that are rounding errors.
    """
    split = random_split(2 * batch_size + 7)
    orders = [np.random.default_rng(seed).permutation(len(split.labels)) for seed in (0, 1)]
    model = create_model(name)
    variables = model.init(0)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, variables)
        optimizer = optim.sgd(0.01)
        state, epochs = fit(
            make_train_epoch(model, optimizer, batch_size),
            create_state(wide, optimizer),
            split,
            orders,
        )
        ours = to_arrays(state.variables, model)
    twin = torch_ref.models.create_model(name)
    twin.load_state_dict(to_torch(variables, model))
    twin.double()
    theirs = torch_ref.train.train(
        twin,
        [torch_loader(split, order, batch_size, torch.float64) for order in orders],
        torch.nn.CrossEntropyLoss(),
        torch.optim.SGD(twin.parameters(), 0.01),
        print=lambda line: None,
    )
    assert int(state.step) == 2 * 3
    for ours_epoch, theirs_epoch in zip(epochs, theirs, strict=True):
        assert abs(ours_epoch.loss - theirs_epoch.loss) <= 1e-12 * theirs_epoch.loss
    for key, value in twin.state_dict().items():
        error = np.abs(ours[key] - value.numpy()).max() / max(float(value.abs().max()), 1e-300)
        assert error <= 1e-12, key


def test_an_epoch_reports_every_step_in_chunks():
    split = random_split(24)
    order = np.arange(2 * CHUNK * 2 + 2 * 3 + 1) % 24
    model, optimizer = create_model("simple_cnn"), optim.sgd(0.0)
    train_epoch = make_train_epoch(model, optimizer, 2)
    state = create_state(model.init(0), optimizer)
    chunks = []
    for trained, steps in train_epoch(state, split.images, split.labels, order):
        state = trained
        chunks.append(steps.losses)
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 3, 1]
    assert int(state.step) == 2 * CHUNK + 4
    logits, _ = model.apply(state.variables, datasets.normalize(split.images[order[-3:-1]]))
    expected = cross_entropy(logits, jnp.asarray(split.labels[order[-3:-1]])).mean()
    np.testing.assert_allclose(chunks[2][-1], expected, rtol=1e-5)


def test_the_given_weights_survive_training():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    variables = model.init(0)
    before = jax.tree.map(np.array, variables)
    state = create_state(variables, optimizer)
    split = random_split(4)
    make_train_step(model, optimizer)(state, split.images, split.labels)
    for kept, leaf in zip(jax.tree.leaves(before), jax.tree.leaves(variables), strict=True):
        assert np.array_equal(kept, leaf)


def test_a_state_is_frozen():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    state = create_state(model.init(0), optimizer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.step = jnp.zeros(())  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("size", [1, 99, 100, 101, 250])
def test_evaluation_counts_each_image_once(size):
    split = random_split(size, seed=size)
    model = create_model("simple_cnn")
    variables = model.init(0)
    logits, _ = model.apply(variables, datasets.normalize(split.images))
    expected = float((np.asarray(logits).argmax(1) == split.labels).mean())
    assert make_evaluate(model)(variables, split) == expected
    twin = torch_ref.models.create_model("simple_cnn")
    twin.load_state_dict(to_torch(variables, model))
    loader = torch_loader(split, np.arange(size), 100)
    assert torch_ref.train.test(twin, loader, print=lambda line: None) == expected


def test_evaluation_uses_the_running_statistics():
    split = random_split(40)
    model, optimizer = create_model("resnet18", width=8), optim.sgd(0.01)
    state = create_state(model.init(0), optimizer)
    state, _ = make_train_step(model, optimizer)(state, split.images, split.labels)
    logits, _ = jax.jit(model.apply)(state.variables, datasets.normalize(split.images))
    expected = float((np.asarray(logits).argmax(1) == split.labels).mean())
    assert make_evaluate(model, 7)(state.variables, split) == expected


def test_nothing_to_train_on_is_bad_input():
    model, optimizer = create_model("simple_cnn"), optim.adam()
    with pytest.raises(InputError, match="batch size"):
        make_train_epoch(model, optimizer, 0)
    train_epoch = make_train_epoch(model, optimizer, 4)
    state = create_state(model.init(0), optimizer)
    split = random_split(4)
    with pytest.raises(InputError, match="at least one image"):
        fit(train_epoch, state, split, [np.array([], np.int32)])


def test_the_notebooks_lines_and_numbers():
    split = random_split(8)
    model = torch_ref.models.create_model("simple_cnn")
    optimizer = torch_ref.train.create_optimizer("adam", model, 1e-3)
    lines: list[str] = []
    loader = torch_loader(split, np.arange(8), 4)
    epochs = torch_ref.train.train(
        model, [loader] * 2, torch.nn.CrossEntropyLoss(), optimizer, print=lines.append
    )
    accuracy = torch_ref.train.test(model, loader, print=lines.append)
    assert lines == [
        f"Epoch 1, Loss: {epochs[0].loss:.3f}",
        f"Epoch 2, Loss: {epochs[1].loss:.3f}",
        f"Accuracy: {100 * accuracy:.2f} %",
    ]


def test_jax_trains_where_torch_is_not_installed(tmp_path):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = ["train_jax.py", "--data", "digits", "--epochs", "1", "--out", {str(tmp_path / "run")!r}]
import runpy
runpy.run_path("scripts/train_jax.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Epoch 1, Loss: " in done.stdout and "Accuracy: " in done.stdout
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_the_seed_draws_the_notebooks_weights_and_batches():
    """In JAX without PyTorch's generator, after `torch.manual_seed` in PyTorch."""
    import torch_ref.data
    from parity.ladder.rungs import replay
    from parity.pairs.pair import create_pair

    ours, theirs = datasets.load_digits(), torch_ref.data.load("digits")[0]
    pair = create_pair("simple_cnn:channels=4,8:hidden=16")
    for find in (replay.init_exact, replay.order_exact, replay.replay):
        found = find(pair, ours, theirs, 5, 8, "cpu")
        assert found.passed, found


def test_other_draws_are_seen(monkeypatch):
    import torch_ref.data
    from jax_impl.torch_random.generator import Generator
    from parity.ladder.rungs import replay
    from parity.pairs.pair import create_pair

    ours, theirs = datasets.load_digits(), torch_ref.data.load("digits")[0]
    pair = create_pair("simple_cnn:channels=4,8:hidden=16")
    monkeypatch.setattr(replay, "Generator", lambda seed: Generator(seed + 1))
    for find in (replay.order_exact, replay.replay):
        assert not find(pair, ours, theirs, 5, 3, "cpu").passed
    other = pair.model._replace(init=lambda seed: pair.model.init(seed + 1))
    assert not replay.init_exact(
        dataclasses.replace(pair, model=other), ours, theirs, 5, 3, "cpu"
    ).passed


def test_flaxs_initialisation_is_an_option():
    model = create_model("resnet20")
    ours, again = (model.init(3, "flax").params for _ in range(2))
    kernel = np.asarray(ours["layer2"]["0"]["conv1"]["kernel"])
    assert abs(kernel.std() * np.sqrt(9 * 16) - 1) < 0.05  # LeCun: 1 / sqrt(fan_in)
    assert np.array_equal(kernel, again["layer2"]["0"]["conv1"]["kernel"])
    assert not np.array_equal(kernel, model.init(3).params["layer2"]["0"]["conv1"]["kernel"])
    assert not np.asarray(ours["fc"]["bias"]).any()
    with pytest.raises(InputError, match="no initialisation 'keras': choose torch or flax"):
        model.init(3, "keras")


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_compiled_programs_are_kept(tmp_path, given):
    code = (
        "import jax; from jax_impl.training.compilation import keep_compiled; keep_compiled(); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if given is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = given
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    expected = str(tmp_path / "jax-torch-parity" / "compiled") if given is None else given
    assert ran.stdout.strip() == expected


def test_a_chunk_of_known_length_trains_the_same(monkeypatch):
    """What a GPU runs: the loop's length is a constant."""
    model, split, optimizer = create_model("simple_cnn"), random_split(30), optim.sgd(0.01)
    found = []
    for on_cpu in (lambda: True, lambda: False):
        with monkeypatch.context() as patched:
            patched.setattr(platform, "on_cpu", on_cpu)
            train_epoch = make_train_epoch(model, optimizer, 4)
            state = create_state(model.init(0), optimizer)
            _, epochs = fit(train_epoch, state, split, [np.arange(30)] * 2)
        found.append([epoch.loss for epoch in epochs])
    np.testing.assert_allclose(*found, rtol=1e-5)
